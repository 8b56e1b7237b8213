"""What the studio stands on, as values: the weights, the device and its memory, the disk, the versions.

Cheap enough for a page: the sizes of files come from the database, and torch is not imported for any of it.
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
from lavie.errors import LavieError, StorageError
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    from app.storage.database import Database
    from app.studio import Studio

_LIBRARIES = ("torch", "diffusers", "transformers", "gradio")

# A part that several jobs have is one file under several names.
_WORK = "SELECT bytes FROM artefacts UNION ALL SELECT bytes FROM (SELECT DISTINCT file_hash, bytes FROM parts)"


@dataclass(frozen=True)
class BundleStatus:
    """A folder of weights.

    name: its own, None where it cannot be read. weights: component → bytes of those that are there. missing: stage →
    files that it lacks; empty where that is not known, as before torch is there.
    """

    name: str | None
    folder: Path
    weights: Mapping[str, int]
    missing: Mapping[str, list[str]]


@dataclass(frozen=True)
class DeviceStatus:
    """asked: as the settings name it. runs_on: as `Cascade.runs_on`, empty as long as nothing is loaded. loaded: those
    components whose weights are in memory. state: of the model, as `Studio.model_state`."""

    asked: str
    runs_on: Mapping[str, str]
    loaded: tuple[str, ...]
    memory: Memory
    state: str


@dataclass(frozen=True)
class DiskStatus:
    """The data folder. free, total: bytes of the disk it is on. clips, trash, work: (how many, bytes); work is latents
    of finished stages. database: bytes."""

    folder: Path
    free: int
    total: int
    clips: tuple[int, int]
    trash: tuple[int, int]
    work: tuple[int, int]
    database: int


def bundle_status(studio: Studio) -> BundleStatus:
    """The bundle in use. Reads no weights."""
    folder, card = studio.config.bundle, studio.card
    return BundleStatus(card.name if card else None, folder.absolute(), _weights(folder), _missing(folder, card))


def device_status(studio: Studio) -> DeviceStatus:
    """The device and what is on it."""
    cascade = studio.cascade
    runs_on, loaded = (cascade.runs_on(), cascade.loaded) if cascade else ({}, ())
    return DeviceStatus(studio.config.device, runs_on, loaded, memory(), studio.model_state)


def disk_status(studio: Studio) -> DiskStatus:
    """What the data folder holds, as the database knows it. Raises StorageError."""
    folder, database = studio.config.data, studio.database
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
    """Of this program, of Python, and of what the videos depend on; a library that is not installed is left out."""
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
    """Only once the worker has imported the cascade, and torch with it: the page would wait for seconds."""
    bundle_class = getattr(sys.modules.get("lavie.cascade"), "Bundle", None)
    if bundle_class is None or card is None:
        return {}
    try:
        bundle = bundle_class(folder)
        return {stage: bundle.missing(stage) for stage in STAGES}
    except LavieError:  # the model's state tells what is wrong
        return {}


def _sum(database: Database, rows: str) -> tuple[int, int]:
    found = database.query(f"SELECT count(*) AS number, coalesce(sum(bytes), 0) AS bytes {rows}")[0]
    return found["number"], found["bytes"]
