"""The lock of a data folder: one process at a time runs its queue. The system releases the lock after a kill.

A small file beside it names the owner, for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from lavie.errors import StorageError

_LOCK, _OWNER = "studio.lock", "studio.owner.json"
_BEAT_SECONDS = 5.0


@dataclass(frozen=True)
class Owner:
    """The owner of a folder. started, seen: UTC, ISO 8601; `seen` is updated every few seconds."""

    pid: int
    host: str
    started: str
    seen: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}, seen at {self.seen}"


class Ownership:
    """The right to run a folder's queue. All methods may be called from any thread."""

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._lock = FileLock(self._folder / _LOCK, thread_local=False)
        self._changing = threading.Lock()
        self._released = threading.Event()
        self._beat: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take it without waiting; whether it is ours now. Raises StorageError if the folder cannot be written."""
        with self._changing:
            if self._lock.is_locked:
                return True
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except OSError as error:
                reason = error.strerror or error
                raise StorageError(
                    f"{self._folder} cannot be worked on ({reason}): choose another data folder"
                ) from error
            owner = Owner(os.getpid(), socket.gethostname(), started=_now(), seen=_now())
            self._write_owner(owner)
            self._released.clear()
            # A daemon, so that a process that ends without `release` ends.
            self._beat = threading.Thread(target=self._keep_seen, args=[owner], name="heartbeat", daemon=True)
            self._beat.start()
            return True

    def release(self) -> None:
        """Give it up, if it is ours."""
        with self._changing:
            if not self._lock.is_locked:
                return
            self._released.set()
            if self._beat is not None:
                self._beat.join()
            with contextlib.suppress(OSError):
                (self._folder / _OWNER).unlink()
            self._lock.release()

    @contextlib.contextmanager
    def hold(self, instead: str) -> Iterator[None]:
        """Hold it for the block. Raises `refuse(instead)` if another process holds it."""
        if not self.acquire():
            self.refuse(instead)
        try:
            yield
        finally:
            self.release()

    def refuse(self, instead: str) -> typing.NoReturn:
        """Raises StorageError for a folder that another process owns. instead: the next step."""
        holder = self.owner() or "it does not say which"
        raise StorageError(f"{self._folder} is worked on by another studio or command ({holder}): {instead}")

    def owner(self) -> Owner | None:
        """The owner; None if it is not known. After a kill it may be the former one."""
        try:
            return Owner(**json.loads((self._folder / _OWNER).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _keep_seen(self, owner: Owner) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            self._write_owner(replace(owner, seen=_now()))

    def _write_owner(self, owner: Owner) -> None:
        partial = self._folder / f".{_OWNER}.partial"
        # Ignored on a full disk: the lock holds all the same.
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(asdict(owner)), encoding="utf-8")
            partial.replace(self._folder / _OWNER)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
