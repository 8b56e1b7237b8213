"""Downloads the published weights and records their checksums. An interrupted download resumes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from app.models.hub import AGAIN, DownloadError, RemoteFile, fetch, look_up
from app.models.sources import Repository, Sources
from lavie.errors import LavieError
from lavie.events import Notice
from lavie.files import RECORD, Kept, file_hash, read_record, write_record
from lavie.values import parse_object

PUBLISHED = "published"  # folder of the published files in the folder of models
_LOCK = ".weights.lock"
_RATE_SECONDS = 10.0  # window of the measured speed
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Downloading:
    """Progress of a download.

    Attributes:
        done, total: bytes of all files; 0 while unknown.
        rate: bytes a second.
        seconds_left: None while unknown.
        comparing: `file` is complete, and its checksum is compared next.
    """

    file: str
    done: int
    total: int
    rate: float = 0.0
    seconds_left: float | None = None
    comparing: bool = False


@dataclass(frozen=True)
class Downloaded:
    """The end of a download. files: path in the folder → sha256. fetched: bytes of this run."""

    folder: Path
    files: dict[str, str]
    fetched: int


@contextlib.contextmanager
def lock_models(models: Path) -> Iterator[None]:
    """Hold the lock of a folder of models. Raises DownloadError if another download or conversion holds it."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / _LOCK, timeout=0):
            yield
    except Timeout:
        raise DownloadError(f"another download or conversion works in {models}: wait for its end") from None


def choose_repositories(sources: Sources, with_optional: bool = False) -> list[Repository]:
    """The repositories to download from."""
    return [each for name, each in sources.repositories.items() if with_optional or name not in sources.optional]


def download(
    sources: Sources, folder: Path, with_optional: bool = False, clock: Callable[[], float] = time.monotonic
) -> Generator[Notice | Downloading | Downloaded, None, None]:
    """Download missing files; ends with `Downloaded`. Closing the generator pauses: the next call resumes at the same
    byte. Raises DownloadError."""
    try:
        files = [
            file for repository in choose_repositories(sources, with_optional) for file in look_up(sources, repository)
        ]
        missing = [file for file in files if not _is_there(file, folder)]
        _check_space(folder, missing)
        total, done = sum(file.bytes for file in files), sum(file.bytes for file in files if file not in missing)
        speed, fetched = _Speed(clock), 0
        for file in missing:
            partial = _partial(file, folder)
            began = partial.stat().st_size if partial.is_file() else 0
            for have in fetch(file, partial):
                rate = speed.measure(fetched + max(have - began, 0))
                left = (total - done - have) / rate if rate else None
                yield Downloading(file.place, done + have, total, rate, left, have == file.bytes)
            if file.sha256 is None and file.blob is None:
                yield Notice(f"{file.endpoint} gives no checksum of {file.place}: only its size was compared")
            _keep(file, partial, folder)
            fetched += max(file.bytes - began, 0)
            done += file.bytes
    except OSError as error:
        raise _write_error(folder, error) from None
    record = read_record(folder)
    yield Downloaded(folder, {file.place: record[file.place].sha256 for file in files}, fetched)


def collect(sources: Sources, folder: Path, with_optional: bool = False) -> Downloaded:
    """Without a network: take missing files from the hub's cache of this machine. Raises DownloadError for files that
    are nowhere."""
    from huggingface_hub import try_to_load_from_cache

    there, absent = [], []
    try:
        for repository in choose_repositories(sources, with_optional):
            for choice in repository.files:
                places = [f"{repository.folder}/{name}".lstrip("/") for name in choice]
                place = next((place for place in places if (folder / place).is_file()), None)
                if place is None:
                    cached = _find_cached(repository, choice, try_to_load_from_cache)
                    place = _copy(*cached, repository, folder) if cached else None
                there.append(place) if place else absent.append(places[0])
        if absent:
            names = ", no ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            raise DownloadError(
                f"without a network there is no {names}: put them into {folder}, or run this without --offline once"
            )
        hashes = {place: file_hash(folder / place) for place in there}
        for place, sha256 in hashes.items():
            _record(folder, place, sha256, {})
    except OSError as error:
        raise _write_error(folder, error) from None
    return Downloaded(folder, hashes, 0)


def _find_cached(repository: Repository, names: Iterable[str], look: Callable[..., Any]) -> tuple[str, Path] | None:
    for name in names:
        for repository_id in repository.ids:
            found = look(repository_id, name, revision=repository.revision)
            if isinstance(found, str):
                return name, Path(found)
    return None


def _copy(name: str, cached: Path, repository: Repository, folder: Path) -> str:
    place = f"{repository.folder}/{name}".lstrip("/")
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(cached, partial)
    partial.replace(target)
    return place


def _partial(file: RemoteFile, folder: Path) -> Path:
    """The unfinished file, named after the content, so that another revision's is not resumed."""
    path = folder / file.place
    return path.with_name(f".{path.name}.{(file.sha256 or file.blob or file.commit)[:16]}.partial")


def _is_there(file: RemoteFile, folder: Path) -> bool:
    """Whether a file is complete. Reads a file without a record, such as one that a person copied."""
    path = folder / file.place
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    kept = read_record(folder).get(file.place)
    if kept is not None and kept == Kept.of(path, kept.sha256) and file.sha256 is not None:
        return kept.sha256 == file.sha256
    if not _is_right(file, path):
        return False
    _record(folder, file.place, file.sha256 or file_hash(path), _origin(file))
    return True


def _is_right(file: RemoteFile, path: Path) -> bool:
    if file.sha256 is not None:
        return file_hash(path) == file.sha256
    if file.blob is None:
        return True
    content = path.read_bytes()  # files without sha256 are small
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob


def _keep(file: RemoteFile, partial: Path, folder: Path) -> None:
    """Move a downloaded file to its place if its checksum is right."""
    if not _is_right(file, partial):
        partial.unlink()
        raise DownloadError(
            f"{file.place} came with a wrong checksum and was removed: run the same command again, or name another "
            "--mirror if that gives the same"
        )
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(folder / file.place)
    for old in partial.parent.glob(f".{(folder / file.place).name}.*.partial"):
        old.unlink(missing_ok=True)
    _record(folder, file.place, file.sha256 or file_hash(folder / file.place), _origin(file))


def _origin(file: RemoteFile) -> dict[str, str]:
    return {"repository": file.repository, "revision": file.commit, "endpoint": file.endpoint}


def _record(folder: Path, place: str, sha256: str, origin: dict[str, str]) -> None:
    """Record a file's hash and origin."""
    origins = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        origins = dict(parse_object((folder / RECORD).read_text(encoding="utf-8"))["origins"])
    if origin or place not in origins:
        origins[place] = origin
    kept = read_record(folder) | {place: Kept.of(folder / place, sha256)}
    write_record(folder, kept, {"origins": origins})


def _check_space(folder: Path, missing: list[RemoteFile]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partials = [path for file in missing if (path := _partial(file, folder)).is_file()]
    needed = sum(file.bytes for file in missing) - sum(path.stat().st_size for path in partials)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{needed / 1e9:.1f} GB are to be fetched and {folder} has {free / 1e9:.1f} GB free: free some, or choose "
            "another data folder by --data"
        )


def _write_error(folder: Path, error: OSError) -> LavieError:
    if error.errno in _FULL:
        return DownloadError(f"the disk of {folder} is full: free some space; {AGAIN}")
    return DownloadError(f"{folder} takes no files ({error.strerror or error}): choose another data folder by --data")


class _Speed:
    """Measures bytes a second over the last `_RATE_SECONDS`."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._samples: list[tuple[float, int]] = [(clock(), 0)]

    def measure(self, done: int) -> float:
        """The speed after so many bytes."""
        now = self._clock()
        self._samples = [sample for sample in self._samples[:-1] if now - sample[0] <= _RATE_SECONDS] + self._samples[
            -1:
        ]
        if now - self._samples[-1][0] >= _RATE_SECONDS / 20:
            self._samples.append((now, done))
        then, before = self._samples[0]
        return max(done - before, 0) / (now - then) if now > then else 0.0
