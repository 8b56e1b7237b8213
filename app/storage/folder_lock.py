"""Who works on a data folder: one process at a time. A lock of the system decides, which a kill releases.

Beside it a small file says who holds it, for people. Knows nothing of jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
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
    """Who holds a folder. started, seen: UTC, ISO 8601; `seen` moves on every few seconds while the owner lives."""

    pid: int
    host: str
    started: str
    seen: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}, seen at {self.seen}"


class Ownership:
    """The right to work on a folder. All methods may be called from any thread."""

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._lock = FileLock(self._folder / _LOCK, thread_local=False)
        self._changing = threading.Lock()
        self._released = threading.Event()
        self._beat: threading.Thread | None = None

    def acquire(self) -> bool:
        """Whether it is ours now; at once, without waiting. Raises StorageError if the folder takes no files."""
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
            self._tell(owner)
            self._released.clear()
            # A daemon: it must not keep a process alive that ends without `release`.
            self._beat = threading.Thread(target=self._keep_seen, args=[owner], name="heartbeat", daemon=True)
            self._beat.start()
            return True

    def release(self) -> None:
        """Let others have it. Nothing happens where it is not ours."""
        with self._changing:
            if not self._lock.is_locked:
                return
            self._released.set()
            self._beat.join()
            with contextlib.suppress(OSError):
                (self._folder / _OWNER).unlink()
            self._lock.release()

    @contextlib.contextmanager
    def held(self, instead: str) -> Iterator[None]:
        """Have it for as long as the block lasts. Raises what `refused` says where it is another's."""
        if not self.acquire():
            raise self.refused(instead)
        try:
            yield
        finally:
            self.release()

    def refused(self, instead: str) -> StorageError:
        """What to raise where it was not given. instead: the next step."""
        holder = self.owner() or "it does not say which"
        return StorageError(f"{self._folder} is worked on by another studio or command ({holder}): {instead}")

    def owner(self) -> Owner | None:
        """Who has it, for those to whom it was not given: after a kill it may be who had it. None: it is not known."""
        try:
            return Owner(**json.loads((self._folder / _OWNER).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _keep_seen(self, owner: Owner) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            self._tell(replace(owner, seen=_now()))

    def _tell(self, owner: Owner) -> None:
        partial = self._folder / f".{_OWNER}.partial"
        # On a full disk nobody can be told; the lock holds all the same.
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(asdict(owner)), encoding="utf-8")
            partial.replace(self._folder / _OWNER)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
