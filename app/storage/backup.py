"""Copies of the data folder in another one that outlives this machine, as a Space's mounted bucket does.

    snapshots/<stamp>.json      what a snapshot holds: path → SHA-256 and bytes, and its own SHA-256; written last
    objects/<sha256>            the files themselves, each once; none is ever written a second time

A database on a mount is not safe, since locks and single pages do not work there: the live one stays on the local disk
and whole copies of it go over. Kept are the database, the clips with all that lies beside them, and the adapters; not
the latents on the way, which are made again, and not the checkpoints of trainings. Two studios must not share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from app.media.files import is_partial
from app.storage.database import NAME, Database, now
from lavie.errors import StorageError
from lavie.files import file_hash, publish

FOLDERS = ("clips", "adapters")
KEPT = 3  # snapshots; older ones are swept
_ATTEMPTS = 3
_COPY = ".studio.snapshot.db"  # of the database, before it goes over


@dataclass(frozen=True)
class BackupFile:
    """sha256, bytes: of its content, which lies under its hash."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds: path in the data folder, with `/` → file; the database is one of them."""

    stamp: str
    files: Mapping[str, BackupFile]

    def to_json(self) -> str:
        """With a hash of its own, so that half a file is told from a whole one wherever a rename is not one step."""
        files = {path: [file.sha256, file.bytes] for path, file in sorted(self.files.items())}
        return json.dumps({"sha256": _digest(files), "files": files}, indent=0)

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """None for one that is not whole."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            files = data["files"]
            if data["sha256"] != _digest(files) or not all(map(_is_inside, files)):
                return None
            return cls(path.stem, {name: BackupFile(str(sha256), int(size)) for name, (sha256, size) in files.items()})
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Restored:
    """stamp: of the snapshot. files: how many came back. lost: those that the snapshot names and does not have."""

    stamp: str
    files: int
    lost: tuple[str, ...]


class Backup:
    """The snapshots of a data folder. One thread at a time, in the one process that owns the data folder.

    Raises StorageError where a folder does not do what is asked; what was whole before stays so.
    """

    def __init__(self, folder: Path, data: Path):
        self._folder, self._data = Path(folder), Path(data)
        self._objects, self._manifests = self._folder / "objects", self._folder / "snapshots"
        self._known: dict[tuple[str, int, int], str] = {}  # path, bytes and time of change → hash
        self._last: Mapping[str, BackupFile] = {}
        # Where nothing of what lies there could be brought back, nothing of it may be swept either.
        self._foreign = frozenset(self._stamps()) if self._is_new() else frozenset()

    def restore(self) -> Restored | None:
        """Bring back the newest snapshot into a data folder without a database; None where there is nothing to do.

        A snapshot that is whole comes before a newer one that has lost a file. A kill in between changes nothing: the
        database, by which a data folder is known, comes last.
        """
        if not self._is_new():
            return None
        with _errors(self._folder, "read"):
            found = [manifest for manifest in map(self._manifest, reversed(self._stamps())) if manifest]
            found = [manifest for manifest in found if NAME in manifest.files and self._has(manifest.files[NAME])]
            found.sort(key=lambda manifest: not all(map(self._has, manifest.files.values())))  # else as they are
            for manifest in found:
                lost = self._bring_back(manifest)
                if NAME not in lost:
                    self._foreign = frozenset()
                    return Restored(manifest.stamp, len(manifest.files) - len(lost), tuple(lost))
        return None

    def take(self, database: Database) -> str | None:
        """Copy what is new and the database as it is now; the stamp, None where all is as it was the last time."""
        with _errors(self._folder, "written"):
            self._objects.mkdir(parents=True, exist_ok=True)
            self._manifests.mkdir(parents=True, exist_ok=True)
            # The database first: the files of the clips that it lists are there, and none that comes later is listed.
            copy = self._data / _COPY
            try:
                database.copy_to(copy)
                files = {NAME: self._keep(copy)}
            finally:
                copy.unlink(missing_ok=True)
            for path in self._files():
                with contextlib.suppress(FileNotFoundError):  # purged meanwhile
                    files[path.relative_to(self._data).as_posix()] = self._keep(path)
            if files == self._last:
                return None
            stamp = now().replace(":", "").replace("+0000", "Z")
            _write(self._manifests / f"{stamp}.json", Manifest(stamp, files).to_json().encode())
            self._last = files
            self._sweep()
        return stamp

    def _is_new(self) -> bool:
        return not (self._data / NAME).exists()

    def _stamps(self) -> list[str]:
        """The oldest first."""
        return sorted(path.stem for path in self._manifests.glob("*.json"))

    def _manifest(self, stamp: str) -> Manifest | None:
        return Manifest.read(self._manifests / f"{stamp}.json")

    def _has(self, file: BackupFile) -> bool:
        try:
            return (self._objects / file.sha256).stat().st_size == file.bytes
        except OSError:
            return False

    def _files(self) -> Iterator[Path]:
        for name in FOLDERS:
            for folder, _, files in os.walk(self._data / name):
                paths = (Path(folder, file) for file in sorted(files) if not is_partial(file))
                yield from (path for path in paths if not path.is_symlink() and path.suffix != ".partial")

    def _keep(self, path: Path) -> BackupFile:
        """Copy a file to where its hash says, unless it is there. One that was replaced meanwhile is looked at anew."""
        for attempt in range(_ATTEMPTS):
            status = path.stat()
            known = (str(path), status.st_size, status.st_mtime_ns)
            sha256 = (self._known.get(known) if not attempt else None) or file_hash(path)
            file = BackupFile(sha256, status.st_size)
            with contextlib.suppress(_Damaged):
                if not self._has(file):
                    _copy(path, self._objects / sha256, sha256)
                if path.name != _COPY:
                    self._known[known] = sha256
                return file
        raise _Damaged(path.name)

    def _bring_back(self, manifest: Manifest) -> list[str]:
        """Copy its files into place, the database last; those that are gone or damaged."""
        lost = []
        for name, file in sorted(manifest.files.items(), key=lambda one: one[0] == NAME):
            place = self._data.joinpath(*PurePosixPath(name).parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy(self._objects / file.sha256, place, file.sha256)
            except (FileNotFoundError, _Damaged):
                lost.append(name)
        return lost

    def _sweep(self) -> None:
        """Forget all but the newest snapshots, and files that none has. Nobody else writes there."""
        own = [stamp for stamp in self._stamps() if stamp not in self._foreign]
        for stamp in own[:-KEPT]:
            (self._manifests / f"{stamp}.json").unlink(missing_ok=True)
        found = [self._manifest(stamp) for stamp in self._stamps()]
        if None in found:  # one that cannot be read may be one that only cannot be read now
            return
        used = {file.sha256 for manifest in found for file in manifest.files.values()}
        unfinished = list(self._manifests.glob(".*.partial"))
        for path in [*unfinished, *(path for path in self._objects.iterdir() if path.name not in used)]:
            path.unlink(missing_ok=True)


class _Damaged(Exception):
    """A file is not what it was stored as."""


def _digest(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _is_inside(name: str) -> bool:
    """Whether a path of a manifest is one that we write: of the database, or below one of our folders."""
    parts = PurePosixPath(name).parts
    return name == NAME or (len(parts) > 1 and parts[0] in FOLDERS and not {"..", ""} & set(name.split("/")))


def _copy(source: Path, target: Path, sha256: str) -> None:
    """A file to another place, whole or not at all. Raises _Damaged where it is not what it should be."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        if file_hash(partial) != sha256:
            raise _Damaged(source.name)
        publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    publish(partial, path)


@contextlib.contextmanager
def _errors(folder: Path, done: str) -> Iterator[None]:
    try:
        yield
    except _Damaged:
        raise StorageError(f"a file changed while it was copied to {folder}: the next snapshot takes it") from None
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"the snapshots in {folder} cannot be {done} ({reason}): check that storage") from error
