"""The tables: from empty and from every earlier version the same, strict, with an index of words that stays true."""

import pytest
from sqlite_utils import Database as Connection
from sqlite_utils.utils import sqlite3

from app.storage.schema import migrations

NAMES = [migration.name for migration in migrations._migrations]


def new() -> Connection:
    raw = sqlite3.connect(":memory:")
    raw.execute("PRAGMA foreign_keys = ON")
    return Connection(raw)


@pytest.fixture
def db():
    connection = new()
    migrations.apply(connection)
    return connection


def shape(connection: Connection) -> list[tuple]:
    return sorted(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%migration%'"))


def insert(connection: Connection, table: str, **values) -> None:
    """A row in which what must be given, and is not, has some value of its type."""
    some = {"TEXT": "x", "INTEGER": 1, "REAL": 1.0}
    for column in connection[table].columns:
        if column.notnull and column.default_value is None and not column.is_pk:
            values.setdefault(column.name, some[column.type])
    connection[table].insert(values)


def found(connection: Connection, words: str) -> list[int]:
    sql = "SELECT rowid FROM clips_text WHERE clips_text MATCH ? ORDER BY rowid"
    return [row[0] for row in connection.execute(sql, [words])]


@pytest.mark.parametrize("name", NAMES)
def test_every_earlier_version_becomes_the_newest(db, name):
    old = new()
    migrations.apply(old, stop_before=name)
    assert [migration.name for migration in migrations.applied(old)] == NAMES[: NAMES.index(name)]
    migrations.apply(old)
    assert shape(old) == shape(db)


def test_a_migration_that_fails_leaves_nothing_behind(monkeypatch):
    def broken(connection):
        connection.execute("CREATE TABLE half (x INTEGER) STRICT")
        raise RuntimeError("in the middle")

    monkeypatch.setattr(migrations._migrations[-1], "fn", broken)
    connection = new()
    with pytest.raises(RuntimeError, match="in the middle"):
        migrations.apply(connection)
    assert "half" not in connection.table_names()
    assert [migration.name for migration in migrations.pending(connection)] == NAMES[-1:]


def test_every_table_is_strict(db):
    kinds = db.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    strict = {name: bool(strict) for name, strict in kinds if not name.startswith("_sqlite")}
    assert {"jobs", "clips", "artefacts", "parts", "projects", "clip_reports", "adapters", "timings"} <= set(strict)
    assert [name for name, is_strict in strict.items() if not is_strict] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": "first"},
        {"state": "lost"},
        {"asked": "dance"},
        {"job": "no JSON"},
        {"recipe": "{"},
        {"notices": "["},
        {"result": "nothing"},
        {"attempts": "many"},
    ],
)
def test_a_job_that_makes_no_sense_is_refused(db, wrong):
    right = {"id": "one", "state": "queued", "job": "{}"}
    with pytest.raises(sqlite3.IntegrityError):
        insert(db, "jobs", **{**right, **wrong})
    insert(db, "jobs", **right)


def test_ids_are_there_once(db):
    insert(db, "jobs", id="one", state="queued", job="{}")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        insert(db, "jobs", id="one", state="queued", job="{}")


def test_what_hangs_on_a_clip_goes_with_it_and_not_before(db):
    insert(db, "clips", pk=1, id="one")
    db["clip_tags"].insert({"clip": 1, "tag": "good"})
    db["clip_adapters"].insert({"clip": 1, "adapter": "abc", "weight": 1.0})
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        db["clip_tags"].insert({"clip": 2, "tag": "good"})
    db.execute("DELETE FROM clips WHERE pk = 1")
    assert (db["clip_tags"].count, db["clip_adapters"].count) == (0, 0)


def test_the_index_of_words_follows_every_change(db):
    insert(db, "clips", pk=1, id="one", words="a red star spinning")
    insert(db, "clips", pk=2, id="two", words="a red heart")
    assert found(db, "red") == [1, 2]
    db.execute("UPDATE clips SET words = 'a blue star' WHERE pk = 1")
    assert (found(db, "red"), found(db, "blue"), found(db, "spinning")) == ([2], [1], [])
    db.execute("UPDATE clips SET seed = 7 WHERE pk = 2")
    assert found(db, "heart") == [2]
    db.execute("DELETE FROM clips WHERE pk = 1")
    assert (found(db, "star"), found(db, "blue")) == ([], [])
    db.execute("INSERT INTO clips_text (clips_text, rank) VALUES ('integrity-check', 1)")  # raises where it lies


def test_a_change_that_is_undone_is_undone_in_the_index_of_words(db):
    insert(db, "clips", pk=1, id="one", words="a red star")
    db.begin()
    db.execute("UPDATE clips SET words = 'a blue star'")
    assert found(db, "blue") == [1]
    db.rollback()
    assert (found(db, "red"), found(db, "blue")) == ([1], [])
