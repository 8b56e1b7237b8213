"""The state of the installation, as values: weights, device and memory, disk, versions.

Cheap enough for a page: sizes of files come from the database, and torch is not imported.
"""

from __future__ import annotations

import platform
import shutil
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from app import __version__
from app.device import Memory, memory
from app.models.card import ModelCard
from app.workspace import Workspace
from lavie.errors import LavieError, StorageError
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    from app.storage.database import Database

_LIBRARIES = ("torch", "diffusers", "transformers", "gradio")

# A part of several jobs is one file with several links.
_WORK = "SELECT bytes FROM artefacts UNION ALL SELECT bytes FROM (SELECT DISTINCT file_hash, bytes FROM parts)"


@dataclass(frozen=True)
class BundleStatus:
    """A folder of weights.

    name: None if it cannot be read. weights: component → bytes. missing: stage → files, once torch is imported.
    """

    name: str | None
    folder: Path
    weights: Mapping[str, int]
    missing: Mapping[str, list[str]]


@dataclass(frozen=True)
class DeviceStatus:
    """The device in the settings and the loaded model; see `Cascade.runs_on`, `Cascade.loaded` and `Models.state`."""

    asked: str
    runs_on: Mapping[str, str | int]
    loaded: tuple[str, ...]
    memory: Memory
    state: str


@dataclass(frozen=True)
class DiskStatus:
    """The data folder, in bytes. clips, trash, work: (count, bytes); work is latents of finished stages."""

    folder: Path
    free: int
    total: int
    clips: tuple[int, int]
    trash: tuple[int, int]
    work: tuple[int, int]
    database: int


def bundle_status(workspace: Workspace) -> BundleStatus:
    """The bundle for new jobs. Reads no weights."""
    folder, card = workspace.config.bundle, workspace.card
    return BundleStatus(card.name if card else None, folder.absolute(), _weights(folder), _missing(folder, card))


def device_status(workspace: Workspace) -> DeviceStatus:
    """The device and the loaded model."""
    cascade = workspace.models.cascade
    runs_on, loaded = (cascade.runs_on(), cascade.loaded) if cascade else ({}, ())
    return DeviceStatus(workspace.config.device, runs_on, loaded, memory(), workspace.models.state)


def disk_status(workspace: Workspace) -> DiskStatus:
    """The sizes in the data folder, by the database. Raises StorageError."""
    folder, database = workspace.config.data, workspace.database
    try:
        disk, own = shutil.disk_usage(folder), database.path.stat().st_size
    except OSError as error:
        raise StorageError(
            f"the data folder {folder} cannot be read ({error.strerror}): look whether it is there"
        ) from None
    there = "FROM clips WHERE missing IS NULL AND trashed IS"
    return DiskStatus(
        folder.absolute(),
        disk.free,
        disk.total,
        clips=_sum(database, f"{there} NULL"),
        trash=_sum(database, f"{there} NOT NULL"),
        work=_sum(database, f"FROM ({_WORK})"),
        database=own,
    )


def versions() -> dict[str, str]:
    """The versions of this program, Python and the installed libraries that the videos depend on."""
    found = {"LaVie Studio": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _weights(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        sizes[file.parent.name] = sizes.get(file.parent.name, 0) + file.stat().st_size
    return sizes


def _missing(folder: Path, card: ModelCard | None) -> dict[str, list[str]]:
    """Missing files, once the worker has imported torch: importing it here would delay the page for seconds."""
    bundle_class = getattr(sys.modules.get("lavie.cascade"), "Bundle", None)
    if bundle_class is None or card is None:
        return {}
    try:
        bundle = bundle_class(folder)
        return {stage: bundle.missing(stage) for stage in STAGES}
    except LavieError:  # `Models.state` reports it
        return {}


def _sum(database: Database, rows: str) -> tuple[int, int]:
    found = database.query(f"SELECT count(*) AS number, coalesce(sum(bytes), 0) AS bytes {rows}")[0]
    return found["number"], found["bytes"]
