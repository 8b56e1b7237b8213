"""One file: created, brought up to date with a copy kept, and changed whole or not at all."""

import contextlib
import threading

import pytest
from sqlite_utils.utils import sqlite3

from app.storage.database import Database, now
from app.storage.schema import migrations
from lavie.errors import StorageError
from tests.app.databases import LAST, make_old, store, value

PATIENCE = 60  # seconds; only broken code needs them


def test_a_new_folder_gets_a_whole_database_and_no_copy(tmp_path):
    folder = tmp_path / "not" / "there yet"
    database = Database(folder)
    store(database, "mine", "kept")
    database.close()
    assert value(Database(folder), "mine") == "kept"
    assert list(folder.glob("*before*")) == []


def test_an_older_file_is_copied_and_then_brought_up_to_date(tmp_path):
    make_old(tmp_path)
    database = Database(tmp_path)
    assert value(database, "mine") == "kept"
    assert database.query("SELECT * FROM presets") == []
    (copy,) = tmp_path.glob("studio.before-*.db")
    assert copy.name == f"studio.before-{LAST}.db"
    with contextlib.closing(sqlite3.connect(copy)) as old:
        names = [row[0] for row in old.execute("SELECT name FROM _sqlite_migrations")]
        assert names == [migration.name for migration in migrations._migrations[:-1]]
        assert old.execute("SELECT value FROM settings").fetchall() == [("kept",)]
    changed = copy.stat().st_mtime_ns
    Database(tmp_path)
    assert copy.stat().st_mtime_ns == changed  # opening a file that is up to date copies nothing


def test_a_change_of_tables_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    make_old(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(migrations._migrations[-1], "fn", lambda connection: connection.execute("CREATE TABLE jobs (x)"))
        with pytest.raises(StorageError, match="jobs already exists"):
            Database(tmp_path)
    assert value(Database(tmp_path), "mine") == "kept"


def test_a_writer_that_waits_too_long_is_told_why(tmp_path, monkeypatch):
    monkeypatch.setattr("app.storage.database._BUSY_SECONDS", 0.05)
    database = Database(tmp_path)
    other = Database(tmp_path)
    with other.write(), pytest.raises(StorageError, match="another program has held it"):
        store(database, "mine", "kept")
    store(database, "mine", "kept")


def test_our_own_mistakes_are_no_fault_of_the_disk(tmp_path):
    database = Database(tmp_path)
    with pytest.raises(sqlite3.ProgrammingError):
        database.query("SELECT ?", [])
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        connection["settings"].insert_all([{"name": "twice", "value": "x"}] * 2)
    assert value(database, "twice") is None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_transaction_that_raises_is_undone(tmp_path, error):
    database = Database(tmp_path)
    with pytest.raises(error), database.write():
        store(database, "mine", "lost")
        raise error
    assert value(database, "mine") is None
    store(database, "mine", "kept")  # and the next one is not in the way of the last
    assert value(Database(tmp_path), "mine") == "kept"


def test_the_outermost_transaction_decides(tmp_path):
    database, other = Database(tmp_path), Database(tmp_path)
    with pytest.raises(ValueError, match="outer"), database.write():
        with database.write(), database.write():
            store(database, "inner", "lost")
        assert (value(database, "inner"), value(other, "inner")) == ("lost", None)
        raise ValueError("outer")
    assert value(database, "inner") is None
    with database.write():
        store(database, "one", "kept")
        store(database, "two", "kept")
        assert value(other, "one") is None
    assert (value(other, "one"), value(other, "two")) == ("kept", "kept")


def test_foreign_keys_hold_on_every_connection(tmp_path):
    database = Database(tmp_path)
    outcomes = []

    def insert():
        try:
            with database.write() as connection:
                connection.execute("INSERT INTO clip_tags (clip, tag) VALUES (1, 'x')")
        except sqlite3.IntegrityError as error:
            outcomes.append(str(error))
        finally:
            database.close()

    insert()
    thread = threading.Thread(target=insert)
    thread.start()
    thread.join(PATIENCE)
    assert outcomes == ["FOREIGN KEY constraint failed"] * 2


def test_times_sort_as_text():
    times = [now() for _ in range(100)]
    assert times == sorted(times)
    assert {len(time) for time in times} == {len("2026-01-01T00:00:00.000000+00:00")}
