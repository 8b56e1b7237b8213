"""Latents on disk: there as they were, or left out; never half, and nothing is left lying about."""

import subprocess
import sys

import pytest
import torch

from app.artefacts import Artefacts
from app.config import ROOT
from app.database import Database
from app.jobs import Jobs
from app.recipe import Job
from lavie.errors import StorageError
from lavie.request import Request

# Stores latents of 400 kB where no file may have more than 100 kB, as on a full disk; the limit ends with the process.
FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from app.artefacts import Artefacts
from app.database import Database
from lavie.errors import StorageError
artefacts = Artefacts(Database(Path(sys.argv[1])), Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    artefacts.save("job", "base", torch.zeros(100_000))
except StorageError as error:
    print(error)
"""


@pytest.fixture
def artefacts(tmp_path):
    database = Database(tmp_path)
    yield Artefacts(database, tmp_path)
    database.close()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("work/**/*") if path.is_file())


def test_latents_come_back_as_they_were(artefacts, tmp_path):
    base, turned = torch.randn(1, 4, 2, 3, 5), torch.randn(5, 3).T  # not one piece of memory
    artefacts.save("job", "base", torch.zeros(3))
    artefacts.save("job", "base", base)  # instead
    artefacts.save("job", "interpolation", turned)
    artefacts.save("other", "base", torch.ones(1))
    kept = artefacts.load("job")
    assert list(kept) == ["base", "interpolation"] and artefacts.stages("job") == set(kept)
    assert torch.equal(kept["base"], base) and torch.equal(kept["interpolation"], turned)
    assert artefacts.load("unknown") == {}
    stored = ["work/job/base.safetensors", "work/job/interpolation.safetensors", "work/other/base.safetensors"]
    assert files(tmp_path) == stored


def test_latents_are_dropped_one_by_one_or_all(artefacts, tmp_path):
    for stage in ("base", "interpolation", "super_resolution"):
        artefacts.save("job", stage, torch.ones(1))
    artefacts.save("other", "base", torch.ones(1))
    artefacts.drop("job", "super_resolution")
    artefacts.drop("job", "super_resolution")
    assert artefacts.stages("job") == {"base", "interpolation"}
    artefacts.drop("job")
    assert artefacts.load("job") == {} and not (tmp_path / "work" / "job").exists()
    assert files(tmp_path) == ["work/other/base.safetensors"]


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_what_cannot_be_read_is_left_out(artefacts, tmp_path, damage):
    for stage in ("base", "interpolation"):
        artefacts.save("job", stage, torch.ones(100))
    path = tmp_path / "work" / "job" / "interpolation.safetensors"
    content = {"empty": b"", "cut": path.read_bytes()[:-100], "other": b"\x00" * 200}.get(damage)
    path.unlink() if content is None else path.write_bytes(content)
    assert list(artefacts.load("job")) == ["base"]
    artefacts.save("job", "interpolation", torch.ones(100))
    assert list(artefacts.load("job")) == ["base", "interpolation"]


def test_sweeping_removes_what_no_row_lists(artefacts, tmp_path):
    artefacts.sweep()  # where nothing is yet
    artefacts.save("job", "base", torch.ones(1))
    for name in ("job/interpolation.partial", "job/interpolation.safetensors", "lost/base.safetensors"):
        path = tmp_path / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / "work" / "notes").mkdir()
    (tmp_path / "work" / "notes" / "mine.txt").write_text("not ours")
    artefacts.sweep()
    assert files(tmp_path) == ["work/job/base.safetensors", "work/notes/mine.txt"]
    assert not (tmp_path / "work" / "lost").exists()


def test_sweeping_forgets_what_is_of_no_use_any_more(artefacts, tmp_path):
    database = Database(tmp_path)
    jobs = Jobs(database)
    done, waiting = (jobs.add(Job(Request("x")), job_id=name) for name in ("done", "waiting"))
    jobs.take(done)
    jobs.finish(done)  # and its clip was purged since
    for job_id in (done, waiting):
        artefacts.save(job_id, "base", torch.ones(1))
    artefacts.sweep()
    assert files(tmp_path) == ["work/waiting/base.safetensors"]
    assert artefacts.stages(done) == set()
    database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_full_disk_is_an_error_in_words_with_nothing_half_stored(artefacts, tmp_path):
    artefacts.save("job", "base", torch.ones(1))
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    words = f"the latents of base cannot be kept in {tmp_path / 'work' / 'job'} (File too large): free some space"
    assert done.stdout.strip() == words
    assert files(tmp_path) == ["work/job/base.safetensors"]
    assert torch.equal(artefacts.load("job")["base"], torch.ones(1))  # what was there is there


def test_a_folder_that_cannot_be_made_is_an_error_in_words(artefacts, tmp_path):
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(StorageError, match=r"the latents of base cannot be kept in .*work.job"):
        artefacts.save("job", "base", torch.ones(1))
    assert artefacts.stages("job") == set()
