"""The studio's SQLite file: opens and migrates it, and gives each thread a connection. Nothing else opens SQLite.

Readers never wait (write-ahead log). A writer locks before it reads what it will change, so that two writers queue and
neither is refused.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from lavie.errors import StorageError

# sqlite-utils imports these where they are installed, half a second for types of columns that no table here has.
_unused: dict[str, Any] = {name: None for name in ("numpy", "pandas") if name not in sys.modules}
sys.modules.update(_unused)
from sqlite_utils import Database as SqliteDatabase  # noqa: E402
from sqlite_utils.utils import sqlite3  # noqa: E402 - the newer SQLite of pysqlite3, where that is installed

for _name in _unused:
    del sys.modules[_name]
from app.storage.schema import migrations  # noqa: E402

Connection = SqliteDatabase  # the type of a connection, for modules that know no SQLite
NAME = "studio.db"
_BUSY_SECONDS = 60  # how long a writer waits for its turn
# With the default cache of 2 MB, a search of 100 000 clips reads the same pages again and again.
# In WAL with normal synchronizing a kill loses nothing; only a power cut the last moment.
_SAFE = ("PRAGMA foreign_keys = ON", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL")
_ROOM = ("PRAGMA temp_store = MEMORY", "PRAGMA cache_size = -32768")


class DamagedDatabaseError(StorageError):
    """The file is damaged, or not a database."""


def now() -> str:
    """UTC, ISO 8601 with microseconds: sorts as text."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def new_id() -> str:
    """A unique name for a clip, job, project or set; ids sort by time and are safe in file names and addresses."""
    moment = datetime.now(timezone.utc)
    return f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond:06d}-{secrets.token_hex(3)}"


def storable(text: str) -> str:
    """The text without lone surrogates, which names of files can hold and SQLite cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def sql_list(values: Iterable[str]) -> str:
    """Constants of ours for `IN (…)`."""
    return ", ".join(f"'{value}'" for value in values)


class Database:
    """The database of a data folder. All methods may be called from any thread.

    Raises StorageError, here or later, if the file cannot be read, written or understood.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        """Open the file; create or migrate it if needed. A copy is kept of a file before it is migrated."""
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
        """This thread's connection, for reading. Exhaust every cursor: an open reader holds up the log."""
        if not hasattr(self._local, "connection"):
            reading = self.read_only
            self._local.connection = _connect_reading(self.path) if reading else _open(self.path, "mode=rwc", *_SAFE)
        return self._local.connection

    def query(self, sql: str, values: dict[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows as dicts."""
        with _storage_errors(self.path):
            return list(self.connection().query(sql, values))

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block, rolled back if it raises; of nested ones, the outermost."""
        if self.read_only:
            raise StorageError(
                f"{self.path.parent} is opened for reading only: close the other studio, or use its page"
            )
        connection = self.connection()
        with _storage_errors(self.path):
            if connection.conn.in_transaction:
                yield connection
                return
            calls: list[Callable[[], None]] = []
            self._local.committed = calls
            connection.execute("BEGIN IMMEDIATE")  # a later upgrade from reading to writing could be refused
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        for call in calls:
            call()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call when this thread's transaction is committed; at once outside of one."""
        if self.connection().conn.in_transaction:
            self._local.committed.append(call)
        else:
            call()

    def copy_to(self, path: Path) -> None:
        """Copy the database as it is at one moment to a file on a local disk, replacing it."""
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
            # Only one of two programs that start at once creates the tables.
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
        """Check the structure of the whole file, so that damage is found now and not in the middle of work."""
        if not self.path.exists():
            raise StorageError(f"{self.path} does not exist: start the studio once, or name another data folder")
        self._refuse_newer(self.connection())
        if migrations.pending(self.connection()):  # only possible in a database that is opened read-only
            raise StorageError(
                f"{self.path} was written by an older version of the studio: start the studio once on it where it can "
                "be written"
            )
        (row,) = self.connection().query("PRAGMA quick_check(1)")
        if (said := next(iter(row.values()))) != "ok":
            raise _damaged(self.path, said)
        self.close()  # a connection that has checked the file stays half as slow again


def _copy(connection: Connection, path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as target:
        connection.conn.backup(target)


def _connect_reading(path: Path) -> Connection:
    look = "SELECT count(*) FROM sqlite_master"
    try:
        return _open(path, "mode=ro", look)
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise  # the latest changes are in the log, which cannot be read without writing beside it
        # Where nothing can be written, SQLite cannot lock for reading: read the file as it is.
        return _open(path, "mode=ro&immutable=1", look)


def _open(path: Path, how: str, *first: str) -> Connection:
    """A connection on which the first statements have succeeded."""
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
    """Turn errors of SQLite into one line with a way out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(f"{path} cannot be used ({error}): {_way_out(str(error))}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a constraint, a wrong number of values: a bug, not a fault of the disk
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
