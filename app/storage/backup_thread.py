"""Takes snapshots while the studio is open: after each new clip, every few minutes, and at the end.

What goes wrong is told by `trouble` and in the log, and tried again: the studio goes on without.
"""

from __future__ import annotations

import logging
import threading
import time

from app.config import StudioConfig
from app.storage.backup import Backup
from app.storage.database import Database
from app.storage.folder_lock import Ownership
from lavie.errors import StorageError

LOOK_SECONDS = 2.0  # between two looks for a new clip
EVERY_SECONDS = 300.0

_log = logging.getLogger(__name__)


def open_backup(config: StudioConfig) -> Backup | None:
    """The snapshots of the settings, the newest brought back into a data folder that is new; None without a folder.

    To be called before the data folder is opened. Storage that cannot be read is told in the log: the studio begins
    anew, and nothing that lies there is swept.
    """
    if config.snapshots is None:
        return None
    snapshots = Backup(config.snapshots, config.data)
    with Ownership(config.data).held("use that studio, or give another --data"):
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
    """Of an open studio. look, every: seconds between two looks for a new clip, and between two snapshots."""

    def __init__(
        self,
        snapshots: Backup,
        database: Database,
        *,
        look: float = LOOK_SECONDS,
        every: float = EVERY_SECONDS,
    ):
        self._snapshots, self._database = snapshots, database
        self._look, self._every = look, every
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="snapshots", daemon=True)
        self.trouble: str | None = None  # what kept the last snapshot from being taken

    def start(self) -> None:
        """Take the first one now."""
        self._thread.start()

    def close(self) -> None:
        """Take the last one. The studio is not to change anything any more."""
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

    def _clips(self) -> tuple:
        """Something else whenever a clip has come or gone."""
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
