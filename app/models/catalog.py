"""Which models are there: Nano, the official one, folders of the person's own; and what of the published files is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.config import StudioConfig
from app.models.card import FILE as MANIFEST
from app.models.download import PUBLISHED
from lavie.errors import BundleError
from lavie.files import read_record

NANO, OFFICIAL = "nano", "official"


@dataclass(frozen=True)
class KnownModel:
    """A bundle. asked: what `--model` takes for it. name: its own, None where it is not there or cannot be read.

    bytes: component → size of its weights. stages: stage → files that it lacks. sha256: file → as kept when it was
    written, empty where nothing is. problem: why it cannot be read, "" where it can or is not there.
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
    """The published files, not converted yet. files: place → bytes. missing: stage → files that it lacks.

    begun: bytes of files that have come in part.
    """

    folder: Path
    files: dict[str, int]
    sha256: dict[str, str]
    missing: dict[str, list[str]]
    begun: int = 0


def bundles(config: StudioConfig) -> list[KnownModel]:
    """All of them, sorted behind Nano and the official one; the configured one last, where it lies elsewhere.

    Imports torch, reads no weights.
    """
    models = config.data / "models"
    own = [folder for folder in sorted(models.glob("*")) if _is_another(folder)]
    named = {NANO: StudioConfig(config.data, NANO).bundle, OFFICIAL: StudioConfig(config.data, OFFICIAL).bundle}
    found = [*named.items(), *((str(folder), folder) for folder in own)]
    if config.bundle.absolute() not in {folder.absolute() for _, folder in found}:
        found.append((config.model, config.bundle))
    return [_known(asked, folder) for asked, folder in found]


def published_files(models: Path) -> Files:
    """What lies in the folder that is downloaded to. Imports torch."""
    from extensions.published.layout import NETWORKS, missing

    folder = models / PUBLISHED
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    places = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    sha256 = {name: kept.sha256 for name, kept in read_record(folder).items()}
    begun = sum(_size(path) for path in folder.rglob(".*.partial"))
    return Files(folder, places, sha256, {stage: missing(folder, stage) for stage in NETWORKS}, begun)


def _size(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except OSError:  # it has become whole since it was found
        return 0


def _is_another(folder: Path) -> bool:
    return folder.name != OFFICIAL and not folder.name.startswith(".") and (folder / MANIFEST).is_file()


def _known(asked: str, folder: Path) -> KnownModel:
    from lavie.bundle import Bundle

    if not (folder / MANIFEST).is_file():
        return KnownModel(asked, folder, None, {}, {}, {})
    try:
        bundle = Bundle(folder)
        sizes = {component: bundle.size(component) for component in bundle.components()}
        stages = {stage: bundle.missing(stage) for stage in bundle.defaults}
    except BundleError as error:
        return KnownModel(asked, folder, None, {}, {}, {}, str(error))
    sha256 = {name: kept.sha256 for name, kept in read_record(folder).items()}
    return KnownModel(asked, folder, bundle.name, sizes, stages, sha256)
