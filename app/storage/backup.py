"""Backups of the data folder in another folder that outlives this machine, such as a Space's mounted bucket.

    snapshots/<stamp>.json      manifest: path → SHA-256 and size, and a SHA-256 of itself; written last
    objects/<sha256>            the files, each stored once and never overwritten

A database is not safe on a mount, where locks do not work: the live one stays on the local disk, and whole copies of
it are stored. A backup holds the database, the clips with the files beside them, and the adapters, but neither latents
nor checkpoints of trainings. Two studios must not share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from app.config import StudioConfig
from app.media.files import is_partial
from app.storage.database import NAME, Database, now
from app.storage.folder_lock import Ownership
from lavie.errors import StorageError
from lavie.files import file_hash, publish

FOLDERS = ("clips", "adapters")
KEPT = 3  # snapshots; older ones are swept
_ATTEMPTS = 3
_COPY = ".studio.snapshot.db"  # of the database, before it is stored
LOOK_SECONDS = 2.0  # between two looks for a new clip
EVERY_SECONDS = 300.0

_log = logging.getLogger(__name__)


def open_backup(config: StudioConfig) -> Backup | None:
    """The backup of the settings, restored into the data folder if that is new; None without a backup folder.

    Call it before the data folder is opened. If the backup cannot be read, the log says so, the studio begins with an
    empty folder, and nothing in the backup is removed.
    """
    if config.snapshots is None:
        return None
    snapshots = Backup(config.snapshots, config.data)
    with Ownership(config.data).hold("use that studio, or give another --data"):
        try:
            restored = snapshots.restore()
        except StorageError as error:
            _log.warning("%s", error)
            return snapshots
    if restored is not None:
        _log.warning("brought back %d files of the snapshot %s", restored.files, restored.stamp)
        for name in restored.lost:
            _log.warning("%s is lost: its copy is gone or damaged", name)
    return snapshots


class BackupThread:
    """Takes snapshots while the studio is open: after each new clip, every few minutes, and at the end.

    A failure is logged and reported by `trouble`; the studio goes on, and the next snapshot tries again.
    """

    def __init__(
        self,
        snapshots: Backup,
        database: Database,
        *,
        look: float = LOOK_SECONDS,
        every: float = EVERY_SECONDS,
    ):
        """look, every: seconds between two looks for a new clip, and between two snapshots at most."""
        self._snapshots, self._database = snapshots, database
        self._look, self._every = look, every
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="snapshots", daemon=True)
        self.trouble: str | None = None  # why the last snapshot failed

    def start(self) -> None:
        """Take the first snapshot now, then more."""
        self._thread.start()

    def close(self) -> None:
        """Take the last snapshot. The studio must not change anything any more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._closing.is_set():
            seen, taken = self._clips(), time.monotonic()
            self._take()
            while not self._closing.wait(self._look):
                if self._clips() != seen or time.monotonic() - taken >= self._every:
                    break
        self._take()
        self._database.close()

    def _clips(self) -> tuple[Any, ...]:
        """A value that changes whenever a clip comes or goes."""
        try:
            (row,) = self._database.query("SELECT max(pk) AS newest, count(*) AS number FROM clips")
            return row["newest"], row["number"]
        except StorageError:
            return ()

    def _take(self) -> None:
        try:
            self._snapshots.take(self._database)
        except StorageError as error:
            if self.trouble is None:
                _log.warning("%s", error)
            self.trouble = str(error)
        else:
            self.trouble = None


@dataclass(frozen=True)
class BackupFile:
    """A file of a backup, stored under its hash."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The files of a snapshot: path in the data folder, with `/` → file. The database is one of them."""

    stamp: str
    files: Mapping[str, BackupFile]

    def to_json(self) -> str:
        """JSON with a hash of itself, which detects a partial file where renaming is not atomic."""
        files = {path: [file.sha256, file.bytes] for path, file in sorted(self.files.items())}
        return json.dumps({"sha256": _digest(files), "files": files}, indent=0)

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """None for a manifest that is missing or not whole."""
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
    """A restored snapshot: its stamp, the number of files, and the paths whose copies are gone or damaged."""

    stamp: str
    files: int
    lost: tuple[str, ...]


class Backup:
    """The snapshots of a data folder, for one thread at a time, in the process that owns the data folder.

    Raises StorageError if a folder cannot be read or written; whole snapshots stay whole.
    """

    def __init__(self, folder: Path, data: Path):
        self._folder, self._data = Path(folder), Path(data)
        self._objects, self._manifests = self._folder / "objects", self._folder / "snapshots"
        self._known: dict[tuple[str, int, int], str] = {}  # path, bytes and time of change → hash
        self._last: Mapping[str, BackupFile] = {}
        # Snapshots that were not restored must not be removed either.
        self._foreign = frozenset(self._stamps()) if self._is_new() else frozenset()

    def restore(self) -> Restored | None:
        """Restore the newest snapshot into a data folder without a database; None if there is nothing to do.

        A whole snapshot is preferred to a newer one with lost files. The database is restored last, so that a kill in
        between leaves a folder that still counts as new.
        """
        if not self._is_new():
            return None
        with _errors(self._folder, "read"):
            found = [manifest for manifest in map(self._manifest, reversed(self._stamps())) if manifest]
            found = [manifest for manifest in found if NAME in manifest.files and self._has(manifest.files[NAME])]
            found.sort(key=lambda manifest: not all(map(self._has, manifest.files.values())))
            for manifest in found:
                lost = self._bring_back(manifest)
                if NAME not in lost:
                    self._foreign = frozenset()
                    return Restored(manifest.stamp, len(manifest.files) - len(lost), tuple(lost))
        return None

    def take(self, database: Database) -> str | None:
        """Copy new files and the database as it is now; the stamp, None if nothing changed since the last one."""
        with _errors(self._folder, "written"):
            self._objects.mkdir(parents=True, exist_ok=True)
            self._manifests.mkdir(parents=True, exist_ok=True)
            # The database first: the files of all clips that it lists exist, and later clips are not listed.
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
            partial = self._manifests / f".{stamp}.json.partial"
            partial.write_text(Manifest(stamp, files).to_json(), encoding="utf-8")
            publish(partial, self._manifests / f"{stamp}.json")
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
        """Copy a file to its hash, unless it is there. Try again if it was replaced meanwhile."""
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
        """Copy its files into place, the database last; the paths that are gone or damaged."""
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
        """Remove all but the newest snapshots, and files that none of them has. Nobody else writes there."""
        own = [stamp for stamp in self._stamps() if stamp not in self._foreign]
        for stamp in own[:-KEPT]:
            (self._manifests / f"{stamp}.json").unlink(missing_ok=True)
        found = [manifest for stamp in self._stamps() if (manifest := self._manifest(stamp)) is not None]
        if len(found) < len(self._stamps()):  # it may only be unreadable now
            return
        used = {file.sha256 for manifest in found for file in manifest.files.values()}
        unfinished = list(self._manifests.glob(".*.partial"))
        for path in [*unfinished, *(path for path in self._objects.iterdir() if path.name not in used)]:
            path.unlink(missing_ok=True)


class _Damaged(Exception):
    """A file differs from its hash."""


def _digest(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _is_inside(name: str) -> bool:
    """Whether a path of a manifest is the database or below one of `FOLDERS`."""
    parts = PurePosixPath(name).parts
    return name == NAME or (len(parts) > 1 and parts[0] in FOLDERS and not {"..", ""} & set(name.split("/")))


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, whole or not at all. Raises _Damaged if it differs from its hash."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        if file_hash(partial) != sha256:
            raise _Damaged(source.name)
        publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors(folder: Path, done: str) -> Iterator[None]:
    try:
        yield
    except _Damaged:
        raise StorageError(f"a file changed while it was copied to {folder}: the next snapshot takes it") from None
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"the snapshots in {folder} cannot be {done} ({reason}): check that storage") from error
