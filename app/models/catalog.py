"""Lists the models of this machine and the downloaded published files. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.config import StudioConfig
from app.models.card import FILE as MANIFEST
from app.models.download import PUBLISHED
from extensions.published.layout import NETWORKS, missing
from lavie.errors import BundleError
from lavie.files import read_record
from lavie.manifest import Manifest

NANO, OFFICIAL = "nano", "official"


def format_bytes(count: float) -> str:
    """A size as a person reads it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


@dataclass(frozen=True)
class KnownModel:
    """A model.

    Attributes:
        asked: its name for `--model`.
        name: from its manifest; None if it is missing or cannot be read.
        bytes: component → size of its weights.
        stages: stage → missing files.
        sha256: file → hash, as recorded when the file was written.
        problem: why the model cannot be read, else empty.
    """

    asked: str
    folder: Path
    name: str | None
    bytes: dict[str, int]
    stages: dict[str, list[str]]
    sha256: dict[str, str]
    problem: str = ""


@dataclass(frozen=True)
class Files:
    """The downloaded published files: path in the folder → bytes, stage → missing files. begun: bytes of unfinished
    files."""

    folder: Path
    files: dict[str, int]
    sha256: dict[str, str]
    missing: dict[str, list[str]]
    begun: int = 0


def find_models(config: StudioConfig) -> list[KnownModel]:
    """Nano, the official model, other models by name, and the configured one if it lies elsewhere."""
    models = config.data / "models"
    bundles = sorted(manifest.parent for manifest in models.glob(f"*/{MANIFEST}") if manifest.is_file())
    own = [folder for folder in bundles if folder.name != OFFICIAL and not folder.name.startswith(".")]
    named = {NANO: StudioConfig(config.data, NANO).bundle, OFFICIAL: StudioConfig(config.data, OFFICIAL).bundle}
    found = [*named.items(), *((str(folder), folder) for folder in own)]
    if config.bundle.absolute() not in {folder.absolute() for _, folder in found}:
        found.append((config.model, config.bundle))
    return [_describe(asked, folder) for asked, folder in found]


def find_published(models: Path) -> Files:
    """The files in the download folder."""
    folder = models / PUBLISHED
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    places = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    sha256 = {name: kept.sha256 for name, kept in read_record(folder).items()}
    begun = sum(_size(path) for path in folder.rglob(".*.partial"))
    return Files(folder, places, sha256, {stage: missing(folder, stage) for stage in NETWORKS}, begun)


def _size(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except OSError:  # it has been completed meanwhile
        return 0


def _describe(asked: str, folder: Path) -> KnownModel:
    if not (folder / MANIFEST).is_file():
        return KnownModel(asked, folder, None, {}, {}, {})
    try:
        bundle = Manifest(folder)
        sizes = {component: bundle.size(component) for component in bundle.components()}
        stages = {stage: bundle.missing(stage) for stage in bundle.defaults}
    except BundleError as error:
        return KnownModel(asked, folder, None, {}, {}, {}, str(error))
    sha256 = {name: kept.sha256 for name, kept in read_record(folder).items()}
    return KnownModel(asked, folder, bundle.name, sizes, stages, sha256)
