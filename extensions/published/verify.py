"""Compares a bundle with its record: every byte, every name and shape, and which stages can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lavie.bundle import Bundle
from lavie.errors import BundleError
from lavie.files import RECORD, file_hash, read_record
from lavie.manifest import MANIFEST


@dataclass(frozen=True)
class Checking:
    """Progress in bytes. file: the one being read."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`: sha256 by name, and what is wrong.

    Args:
        changed, gone, unknown: names that differ from the record, are missing, or are not in it.
        unfit: component → what is wrong with its names or shapes.
        stages: stage → missing or damaged files; empty if it can run.
    """

    folder: Path
    name: str
    recorded: bool
    files: dict[str, str]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    unknown: tuple[str, ...]
    unfit: dict[str, str]
    stages: dict[str, list[str]]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong. Parts that the bundle never had are no fault."""
        return not (self.changed or self.gone or self.unfit)


def verify(folder: Path) -> Iterator[Checking | Verdict]:
    """Read a whole bundle; the last value is the verdict. Raises BundleError if `folder` is no bundle."""
    bundle, record = Bundle(folder), read_record(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name != RECORD]
    sizes = {name: (folder / name).stat().st_size for name in names}
    hashes, done = {}, 0
    for name in names:
        yield Checking(name, done, sum(sizes.values()))
        hashes[name] = file_hash(folder / name)
        done += sizes[name]
    changed = tuple(name for name in names if name in record and record[name].sha256 != hashes[name])
    gone = tuple(name for name in record if name not in hashes)
    unfit = {}
    for component in bundle.components():
        try:
            bundle.check(component)
        except BundleError as error:
            unfit[component] = str(error)
    stages = {stage: _missing_files(bundle, stage, {*changed, *gone}, unfit) for stage in bundle.defaults}
    unknown = tuple(name for name in names if name not in record)
    yield Verdict(folder, bundle.name, bool(record), hashes, changed, gone, unknown, unfit, stages)


def _missing_files(bundle: Bundle, stage: str, damaged: set[str], unfit: dict[str, str]) -> list[str]:
    """The files or unfit components without which a stage cannot or should not run."""
    lacks = {*bundle.missing(stage)} | damaged & {MANIFEST}
    for component in bundle.needed(stage):
        lacks |= {name for name in damaged if name.startswith(f"{component}/")}
        lacks |= {component} if component in unfit else set()
    return sorted(lacks)
