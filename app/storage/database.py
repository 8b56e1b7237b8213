"""The studio's one SQLite file: opened, brought up to date, and handed out one connection a thread.

Readers never wait (write-ahead log); a writer takes its turn before it reads what it will change, so that two writers
queue and neither is refused. Knows no table; nothing else opens SQLite.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock
from sqlite_utils import Database as Connection
from sqlite_utils.utils import sqlite3  # the newer SQLite of pysqlite3, where that is installed

from app.storage.schema import migrations
from lavie.errors import StorageError

NAME = "studio.db"
_BUSY_SECONDS = 60  # how long a writer waits for its turn
# Room to sort and group in, and for pages of the file: by default, 2 MB, a search of 100 000 clips reads them anew.
_ROOM = ("PRAGMA temp_store = MEMORY", "PRAGMA cache_size = -32768")


class DamagedDatabaseError(StorageError):
    """The file is no database any more, or none that can be trusted."""


def now() -> str:
    """UTC, ISO 8601 with microseconds: sorts as text."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


class Database:
    """The database of a data folder. All methods may be called from any thread.

    Raises StorageError, here or later, where the file cannot be read, written or understood.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        """Open, creating or bringing up to date what is there; a copy is kept of a file before it is changed."""
        self.path = Path(folder) / NAME
        self.read_only = read_only
        self._local = threading.local()
        try:
            with _storage_errors(self.path):
                if not read_only:
                    self._create()
                self._check()
        except BaseException:
            self.close()
            raise

    def connection(self) -> Connection:
        """This thread's connection, for reading. Exhaust what `query` gives: an open reader holds up the log."""
        if not hasattr(self._local, "connection"):
            self._local.connection = _connect_reading(self.path) if self.read_only else _connect(self.path)
        return self._local.connection

    def query(self, sql: str, values: dict | list | tuple = ()) -> list[dict]:
        """Rows as dicts."""
        with _storage_errors(self.path):
            return list(self.connection().query(sql, values))

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: kept when the block ends, undone when it raises. May be nested; the outermost decides."""
        if self.read_only:
            raise StorageError(
                f"{self.path.parent} is opened for reading only: close the other studio, or use its page"
            )
        connection = self.connection()
        with _storage_errors(self.path):
            if connection.conn.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")  # a later upgrade from reading to writing could be refused
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def copy_to(self, path: Path) -> None:
        """Write the database as it is at one moment to a file on a local disk, in place of one that is there."""
        with _storage_errors(self.path):
            _copy(self.connection(), path)

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "connection"):
            self._local.connection.close()
            del self._local.connection

    def _create(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two programs that start at once must not both create the tables.
            with FileLock(self.path.with_name(".studio.migrating.lock"), timeout=_BUSY_SECONDS):
                self._migrate()
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{self.path} cannot be used ({reason}): choose another data folder") from error

    def _migrate(self) -> None:
        existed = self.path.exists() and self.path.stat().st_size > 0
        connection = self.connection()
        self._refuse_newer(connection)
        pending = migrations.pending(connection)
        if pending and existed:
            self._keep_copy(connection, before=pending[0].name)
        if pending:
            migrations.apply(connection)

    def _refuse_newer(self, connection: Connection) -> None:
        known = {migration.name for migration in migrations._migrations}
        unknown = [m.name for m in migrations.applied(connection) if m.name not in known]
        if unknown:
            raise StorageError(
                f"{self.path} was written by a newer version of the studio ({unknown[-1]}): update, or use another "
                "data folder"
            )

    def _keep_copy(self, connection: Connection, before: str) -> None:
        copy = self.path.with_name(f"studio.before-{before}.db")
        partial = copy.with_suffix(".partial")
        _copy(connection, partial)
        partial.replace(copy)

    def _check(self) -> None:
        """A quick look at the whole file's structure: a damaged one is better met here than in the middle of work."""
        if not self.path.exists():
            raise StorageError(f"{self.path} does not exist: start the studio once, or name another data folder")
        self._refuse_newer(self.connection())
        if migrations.pending(self.connection()):  # none are left but in a database that is opened for reading only
            raise StorageError(
                f"{self.path} was written by an older version of the studio: start the studio once on it where it can "
                "be written"
            )
        (row,) = self.connection().query("PRAGMA quick_check(1)")
        if (said := next(iter(row.values()))) != "ok":
            raise _damaged(self.path, said)
        self.close()  # a connection that has checked the file is half as slow again ever after


def _copy(connection: Connection, path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as target:
        connection.conn.backup(target)


def _connect(path: Path) -> Connection:
    return _opened(
        path,
        "mode=rwc",
        "PRAGMA foreign_keys = ON",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = NORMAL",  # in WAL a kill loses nothing; only a power cut the last moment
    )


def _connect_reading(path: Path) -> Connection:
    look = "SELECT count(*) FROM sqlite_master"
    try:
        return _opened(path, "mode=ro", look)
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise  # the newest is in the log, which cannot be read without writing beside it
        # Where nothing can be written, SQLite cannot note that somebody reads: the file is read as it is.
        return _opened(path, "mode=ro&immutable=1", look)


def _opened(path: Path, how: str, *first: str) -> Connection:
    """A connection on which the first statements have gone well."""
    raw = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, timeout=_BUSY_SECONDS)
    try:
        for statement in (*_ROOM, *first):
            raw.execute(statement).fetchall()
    except BaseException:
        raw.close()
        raise
    return Connection(raw)


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """What SQLite and the system say, as one line with a way out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(f"{path} cannot be used ({error}): {_way_out(str(error))}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a constraint, a wrong number of values: a fault of ours, not of the disk
        raise _damaged(path, str(error)) from error


def _way_out(said: str) -> str:
    if "full" in said:
        return "free some space on the disk"
    if "locked" in said or "busy" in said:
        return "another program has held it for a minute: close that"
    return "choose a data folder that you may write to"


def _damaged(path: Path, said: str) -> DamagedDatabaseError:
    line = " ".join(said.split())
    return DamagedDatabaseError(
        f"{path} is damaged or no database ({line}): move it away and run `gallery rebuild`, which finds every clip "
        "again by its file"
    )
