"""A data folder's database, as tests fill it and look at it."""

import contextlib
from pathlib import Path

from sqlite_utils import Database as Connection
from sqlite_utils.utils import sqlite3

from app.storage.database import NAME, Database
from app.storage.schema import migrations

LAST = migrations._migrations[-1].name


def value(database: Database, name: str) -> str | None:
    rows = database.query("SELECT value FROM settings WHERE name = ?", [name])
    return rows[0]["value"] if rows else None


def store(database: Database, name: str, text: str) -> None:
    with database.write() as connection:
        connection["settings"].upsert({"name": name, "value": text}, pk="name")


def raw(folder: Path) -> sqlite3.Connection:
    return contextlib.closing(sqlite3.connect(folder / NAME))


def make_old(folder: Path) -> None:
    """A database as the version before the newest left it, with something in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with raw(folder) as file:
        connection = Connection(file)
        migrations.apply(connection, stop_before=LAST)
        connection["settings"].insert({"name": "mine", "value": "kept"})
