"""What may lie where the database should be, and folders that cannot be written: a clear word, and nothing touched."""

import contextlib
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from app.storage.database import NAME, DamagedDatabaseError, Database
from lavie.errors import StorageError
from tests.app.databases import make_old, raw, store, value

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of folders are POSIX")


@pytest.fixture
def shelf():
    """A folder that a person without rights can reach, and a way to become one."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    @contextlib.contextmanager
    def unwritable():
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # modes do not stop an administrator
        try:
            yield
        finally:
            os.seteuid(was)
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755)

    yield folder, unwritable
    shutil.rmtree(folder)


def test_names_with_signs_in_them_are_names(tmp_path):
    folder = tmp_path / "a?b#c%20d 'e' \"f\" ü 🎬"
    store(Database(folder), "mine", "kept")
    assert (folder / NAME).exists()
    assert value(Database(folder, read_only=True), "mine") == "kept"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_database_is_refused_and_not_touched(tmp_path, read_only):
    Database(tmp_path).close()
    with raw(tmp_path) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('studio', 'm999_dreams', '2030')"
        )
        connection.commit()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StorageError, match=r"newer version of the studio.*m999_dreams.*update"):
        Database(tmp_path, read_only=read_only)
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("content", [b"Dear diary, today I made a video. " * 200, b"\0" * 8192, b"SQLite format 3\0oh"])
def test_what_is_no_database_is_refused_and_not_touched(tmp_path, content, read_only):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(DamagedDatabaseError, match=r"damaged or no database.*gallery rebuild"):
        Database(tmp_path, read_only=read_only)
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "scrambled", "a page"])
def test_a_damaged_database_is_refused(tmp_path, damage):
    database = Database(tmp_path)
    for number in range(200):
        store(database, f"name {number}", "x" * 500)
    database.close()
    content = bytearray((tmp_path / NAME).read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "a page":  # which opening does not come by
        content[-4096:] = random.Random(0).randbytes(4096)
    else:
        content[20480:] = random.Random(0).randbytes(len(content) - 20480)
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(DamagedDatabaseError, match=r"damaged or no database.*gallery rebuild"):
        Database(tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="choose another data folder"):
        Database(tmp_path / "file")
    (tmp_path / "data" / NAME).mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be used"):
        Database(tmp_path / "data")


@posix
def test_a_folder_that_takes_no_files_is_refused_for_writing_and_open_for_reading(shelf):
    folder, unwritable = shelf
    with unwritable(), pytest.raises(StorageError, match="choose another data folder"):
        Database(folder / "new")
    database = Database(folder)
    store(database, "mine", "kept")
    database.close()
    with unwritable():
        with pytest.raises(StorageError, match=r"cannot be used.*choose a.* data folder"):
            Database(folder)
        assert value(Database(folder, read_only=True), "mine") == "kept"


@posix
def test_what_only_the_log_has_is_never_left_out_in_silence(shelf, tmp_path):
    """A copy of a folder in use, to where nothing can be written: all of it is read, or the reason is told."""
    folder, unwritable = shelf
    database = Database(tmp_path)
    store(database, "mine", "in the log")
    for name in (NAME, f"{NAME}-wal"):
        shutil.copy(tmp_path / name, folder)
    assert (folder / f"{NAME}-wal").stat().st_size
    with unwritable(), pytest.raises(StorageError, match="choose a data folder that you may write to"):
        Database(folder, read_only=True)
    shutil.copy(tmp_path / f"{NAME}-shm", folder)
    with unwritable():
        assert value(Database(folder, read_only=True), "mine") == "in the log"


def test_reading_only_sees_what_others_write_and_refuses_to_write(tmp_path):
    database = Database(tmp_path)
    reader = Database(tmp_path, read_only=True)
    store(database, "mine", "kept")
    assert value(reader, "mine") == "kept"
    with pytest.raises(StorageError, match="reading only"):
        store(reader, "mine", "lost")
    with pytest.raises(StorageError, match="readonly"):
        reader.query("DELETE FROM settings RETURNING name")
    assert value(database, "mine") == "kept"


def test_reading_only_creates_and_changes_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"does not exist.*start the studio once"):
        Database(tmp_path / "none", read_only=True)
    assert list(tmp_path.iterdir()) == []
    make_old(tmp_path)
    with pytest.raises(StorageError, match=r"older version of the studio.*start the studio once"):
        Database(tmp_path, read_only=True)
    assert list(tmp_path.glob("*before*")) == []


def test_a_full_disk_is_told_and_takes_nothing_back(tmp_path):
    database = Database(tmp_path)
    store(database, "mine", "kept")
    database.connection().execute("PRAGMA max_page_count = 1")  # what SQLite makes of a disk that is full
    with pytest.raises(StorageError, match="free some space"):
        store(database, "long", "x" * 1_000_000)
    assert (value(database, "mine"), value(database, "long")) == ("kept", None)
