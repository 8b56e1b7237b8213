"""Copies of a data folder that outlive its machine: real files, a real database, a real kill."""

import shutil
import signal
import subprocess
import sys

import pytest

from app.config import ROOT, StudioConfig
from app.recipes.job_row import DONE
from app.storage.backup import KEPT, Backup, BackupThread, Manifest
from app.storage.database import NAME, Database
from app.storage.folder_lock import Ownership
from app.studio import Studio
from lavie.errors import StorageError
from lavie.request import Request
from tests.app.databases import store, value
from tests.app.studios import until
from tests.fakes import FakeCascade

FORGETFUL = """
import itertools, sys
from pathlib import Path
from app.storage.database import Database
from app.storage.backup import Backup
from tests.app.databases import store
data, kept = map(Path, sys.argv[1:])
database, snapshots = Database(data), Backup(kept, data)
for number in itertools.count():
    (data / "clips").mkdir(exist_ok=True)
    (data / "clips" / f"{number}.mp4").write_bytes(str(number).encode() * 100_000)
    store(database, "clips", str(number + 1))
    snapshots.take(database)
    print(number, flush=True)
"""


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data" / "clips").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "bucket" / "studio"


@pytest.fixture
def database(data):
    database = Database(data)
    yield database
    database.close()


def write(data, name, text):
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lose(data, database):
    """The machine is gone, and with it the local disk."""
    database.close()
    shutil.rmtree(data)


def manifests(kept):
    return [Manifest.read(path) for path in sorted((kept / "snapshots").glob("*.json"))]


def test_all_comes_back_on_a_new_machine(data, kept, database):
    store(database, "mine", "kept")
    for name in ("clips/a.mp4", "clips/a.json", "adapters/b.safetensors"):
        write(data, name, name)
    write(data, "work/c.safetensors", "latents")
    assert Backup(kept, data).take(database)
    lose(data, database)

    restored = Backup(kept, data).restore()

    assert (restored.files, restored.lost) == (4, ())
    assert value(Database(data), "mine") == "kept"
    assert (data / "clips/a.json").read_text() == "clips/a.json" and not (data / "work").exists()
    assert not list(data.rglob("*.partial")) and not list(kept.rglob("*.partial"))


def test_a_data_folder_that_is_in_use_is_left_alone(data, kept, database):
    Backup(kept, data).take(database)
    store(database, "mine", "newer")
    assert Backup(kept, data).restore() is None
    assert value(database, "mine") == "newer"


def test_what_has_not_changed_is_neither_copied_nor_told_twice(data, kept, database):
    write(data, "clips/a.mp4", "a" * 1000)
    snapshots = Backup(kept, data)
    assert snapshots.take(database) and snapshots.take(database) is None
    (clip,) = (manifest.files["clips/a.mp4"] for manifest in manifests(kept))
    before = (kept / "objects" / clip.sha256).stat().st_mtime_ns
    store(database, "mine", "new")
    assert snapshots.take(database)
    assert (kept / "objects" / clip.sha256).stat().st_mtime_ns == before


def test_only_the_newest_are_kept_with_the_files_they_need(data, kept, database):
    snapshots = Backup(kept, data)
    for number in range(KEPT + 3):
        write(data, "clips/a.json", f"{number}" * 50)
        snapshots.take(database)
    texts = {path.read_bytes()[:1] for path in (kept / "objects").iterdir()} - {b"S"}
    assert len(manifests(kept)) == KEPT and texts == {b"%d" % number for number in range(3, KEPT + 3)}


@pytest.mark.parametrize("what", ["manifest cut", "manifest empty", "manifest forged", "database gone", "database cut"])
def test_a_snapshot_that_is_not_whole_is_passed_over(data, kept, database, what):
    snapshots = Backup(kept, data)
    for text in ("older", "newest"):
        store(database, "mine", text)
        snapshots.take(database)
    manifest = sorted((kept / "snapshots").glob("*.json"))[-1]
    copy = kept / "objects" / Manifest.read(manifest).files[NAME].sha256
    match what:
        case "manifest cut":
            manifest.write_text(manifest.read_text()[:-20])
        case "manifest empty":
            manifest.write_text("")
        case "manifest forged":
            manifest.write_text(manifest.read_text().replace(NAME, "clips/../../x"))
        case "database gone":
            copy.unlink()
        case "database cut":
            copy.write_bytes(copy.read_bytes()[:-100])
    lose(data, database)
    assert Backup(kept, data).restore().lost == ()
    assert value(Database(data), "mine") == "older"


def test_a_lost_clip_costs_that_clip_alone(data, kept, database):
    write(data, "clips/a.mp4", "a")
    write(data, "clips/b.mp4", "b")
    store(database, "mine", "kept")
    Backup(kept, data).take(database)
    (manifest,) = manifests(kept)
    (kept / "objects" / manifest.files["clips/a.mp4"].sha256).write_bytes(b"x")  # of the same length
    lose(data, database)
    assert Backup(kept, data).restore().lost == ("clips/a.mp4",)
    assert value(Database(data), "mine") == "kept" and (data / "clips/b.mp4").read_text() == "b"


def test_what_could_not_be_brought_back_is_not_swept_by_who_began_anew(data, kept, database):
    Backup(kept, data).take(database)
    (old,) = manifests(kept)
    hidden = (kept / "objects" / old.files[NAME].sha256).rename(kept / "hidden")
    lose(data, database)
    snapshots = Backup(kept, data)
    assert snapshots.restore() is None
    fresh = Database(data)
    hidden.rename(kept / "objects" / old.files[NAME].sha256)  # the storage was only late
    for number in range(KEPT + 2):
        store(fresh, "number", str(number))
        snapshots.take(fresh)
    assert old in manifests(kept) and len(manifests(kept)) == KEPT + 1
    assert (kept / "objects" / old.files[NAME].sha256).exists()
    fresh.close()


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_kill_at_any_moment_leaves_a_snapshot_that_comes_back(data, kept, after):
    command = [sys.executable, "-c", FORGETFUL, str(data), str(kept)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for _ in range(after):
        told = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shutil.rmtree(data)
    assert Backup(kept, data).restore().lost == ()
    clips = int(value(Database(data), "clips"))
    assert clips > told
    assert {path.name for path in (data / "clips").iterdir()} >= {f"{number}.mp4" for number in range(clips)}


def test_storage_that_takes_nothing_is_one_line(data, kept, database):
    kept.parent.mkdir()
    kept.write_text("a file is in the way")
    with pytest.raises(StorageError, match=r"cannot be written \(.*\): check that storage"):
        Backup(kept, data).take(database)


def test_a_new_clip_is_kept_at_once_and_trouble_is_told_until_it_is_over(tmp_path, kept):
    data = tmp_path / "data"
    kept.parent.mkdir()
    kept.write_text("in the way")
    studio = Studio(StudioConfig(data=data), load=lambda config: FakeCascade())
    keeper = BackupThread(Backup(kept, data), studio.database, look=0.02, every=3600)
    keeper.start()
    until(lambda: keeper.trouble is not None)
    kept.unlink()
    studio.serve()
    job = studio.submit(Request("a red star", seed=7))
    until(lambda: studio.job(job).state == DONE)
    until(lambda: kept.is_dir() and any(m and f"clips/{job}.mp4" in m.files for m in manifests(kept)))
    until(lambda: keeper.trouble is None)
    studio.gallery.rate(job, 5)
    studio.close()
    keeper.close()
    shutil.rmtree(data)

    assert Backup(kept, data).restore().lost == ()
    again = Studio(StudioConfig(data=data), load=lambda config: FakeCascade())
    assert again.gallery.get(job).rating == 5 and again.gallery.get(job).path.is_file()
    owner = Ownership(data)
    assert owner.acquire()
    owner.release()
    again.close()
