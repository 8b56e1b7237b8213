"""Latents on disk: there as they were, or told to be damaged; never half, and nothing is left lying about."""

import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
import torch

from app.config import ROOT
from app.queue.queue import JobQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, OPEN
from app.storage.database import Database
from app.storage.latents import StageLatents
from lavie.errors import StorageError
from lavie.events import STAGES
from tests.app.queue.lines import bring, fill, job
from tests.app.studios import damage

# Stores latents of 400 kB where no file may have more than 100 kB, as on a full disk; the limit ends with the process.
FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from app.storage.latents import StageLatents
from app.storage.database import Database
from lavie.errors import StorageError
artefacts = StageLatents(Database(Path(sys.argv[1])), Path(sys.argv[1]))
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
    yield StageLatents(database, tmp_path)
    database.close()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("work/**/*") if path.is_file())


def test_latents_come_back_as_they_were(artefacts, tmp_path):
    base, turned = torch.randn(1, 4, 2, 3, 5), torch.randn(5, 3).T  # not one piece of memory
    artefacts.save("job", "base", torch.zeros(3))
    artefacts.save("job", "base", base)  # instead
    artefacts.save("job", "interpolation", turned)
    artefacts.save("other", "base", torch.ones(1))
    assert artefacts.stages("job") == {"base", "interpolation"}
    assert torch.equal(artefacts.load("job", "base"), base)
    assert torch.equal(artefacts.load("job", "interpolation"), turned)
    assert artefacts.load("unknown", "base") is None and artefacts.load("job", "super_resolution") is None
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
    assert artefacts.load("job", "base") is None and not (tmp_path / "work" / "job").exists()
    assert files(tmp_path) == ["work/other/base.safetensors"]


@pytest.mark.parametrize("kind", ["gone", "empty", "cut", "noise", "bit", "other"])
def test_what_is_not_what_was_stored_is_told_and_never_loaded(artefacts, tmp_path, kind):
    artefacts.save("job", "base", torch.zeros(100))
    artefacts.save("job", "interpolation", torch.ones(100))
    path = tmp_path / "work" / "job" / "interpolation.safetensors"
    damage(path, kind)
    words = r"cannot be read \(No such file" if kind == "gone" else "are damaged: they are not what was stored"
    with pytest.raises(StorageError, match=rf"the latents of interpolation in {path} {words}"):
        artefacts.load("job", "interpolation")
    kept, (said,) = artefacts.latest(STAGES, {"job": STAGES})
    assert list(kept) == ["base"] and torch.equal(kept["base"], torch.zeros(100)) and str(path) in said
    artefacts.save("job", "interpolation", torch.ones(100))
    assert torch.equal(artefacts.load("job", "interpolation"), torch.ones(100))


def test_the_furthest_stage_that_will_do_is_gone_on_from(artefacts, tmp_path):
    for job_id, stage, value in (("own", "base", 1), ("draft", "base", 2), ("draft", "interpolation", 3)):
        artefacts.save(job_id, stage, torch.full((1,), float(value)))

    def found(stages, **sources):
        kept, wrong = artefacts.latest(stages, sources)
        assert wrong == []
        return {stage: latents.item() for stage, latents in kept.items()}

    assert found(STAGES, own=STAGES, draft=STAGES) == {"interpolation": 3}
    assert found(STAGES, own=STAGES, draft={"base"}) == {"base": 1}
    assert found(STAGES, own=STAGES, draft=()) == {"base": 1}
    assert found(("base", "super_resolution"), draft=STAGES) == {"base": 2}
    assert found(STAGES, unknown=STAGES) == found(("interpolation",), own=STAGES) == {}
    damage(tmp_path / "work" / "own" / "base.safetensors", "empty")
    assert found(STAGES, draft=STAGES, own=STAGES) == {"interpolation": 3}  # what is not needed is not looked at
    kept, wrong = artefacts.latest(["base"], {"own": STAGES, "draft": STAGES})
    assert kept["base"].item() == 2 and len(wrong) == 1


def test_sweeping_removes_what_no_row_lists(artefacts, tmp_path):
    artefacts.sweep(7)  # where nothing is yet
    artefacts.save("job", "base", torch.ones(1))
    for name in ("job/interpolation.partial", "job/interpolation.safetensors", "lost/base.safetensors"):
        path = tmp_path / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / "work" / "notes").mkdir()
    (tmp_path / "work" / "notes" / "mine.txt").write_text("not ours")
    artefacts.sweep(7)
    assert files(tmp_path) == ["work/job/base.safetensors", "work/notes/mine.txt"]
    assert not (tmp_path / "work" / "lost").exists()


def test_sweeping_forgets_what_is_of_no_use_any_more(artefacts, tmp_path):
    database = Database(tmp_path)
    jobs = JobQueue(database)
    fill(jobs, "done waiting")
    bring(jobs, "done", DONE)  # and its clip was purged since
    for job_id in ("done", "waiting"):
        artefacts.save(job_id, "base", torch.ones(1))
    artefacts.sweep(7)
    assert files(tmp_path) == ["work/waiting/base.safetensors"]
    assert artefacts.stages("done") == set()
    database.close()


def test_what_failed_or_was_cancelled_is_kept_for_so_many_days(artefacts, tmp_path):
    database = Database(tmp_path)
    jobs = JobQueue(database)
    states = {**{state: state for state in OPEN}, "old failed": FAILED, "old cancelled": CANCELLED}
    states |= {"failed": FAILED, "cancelled": CANCELLED, "tried again": FAILED}
    for job_id, state in states.items():
        jobs.add(job(), job_id=job_id)
        bring(jobs, job_id, state)
        artefacts.save(job_id, "base", torch.ones(1))
    long_ago = (datetime.now(timezone.utc) - timedelta(days=7, minutes=1)).isoformat(timespec="microseconds")
    just_so = (datetime.now(timezone.utc) - timedelta(days=7, minutes=-1)).isoformat(timespec="microseconds")
    with database.write() as connection:
        connection.execute("UPDATE jobs SET created = ?, started = ?", [long_ago, long_ago])
        connection.execute("UPDATE artefacts SET created = ?", [long_ago])
        for finished, name in ((long_ago, "old %"), (long_ago, "tried again"), (just_so, "failed")):
            connection.execute("UPDATE jobs SET finished = ? WHERE id LIKE ?", [finished, name])
    jobs.retry("tried again")
    artefacts.sweep(7)
    kept = [*OPEN, "failed", "cancelled", "tried again"]
    assert files(tmp_path) == sorted(f"work/{job_id}/base.safetensors" for job_id in kept)
    assert artefacts.stages("old failed") == set() and jobs.get("old failed").state == FAILED
    artefacts.sweep(0)
    assert files(tmp_path) == sorted(f"work/{job_id}/base.safetensors" for job_id in [*OPEN, "tried again"])
    database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_full_disk_is_an_error_in_words_with_nothing_half_stored(artefacts, tmp_path):
    artefacts.save("job", "base", torch.ones(1))
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    words = f"the latents of base cannot be kept in {tmp_path / 'work' / 'job'} (File too large): free some space"
    assert done.stdout.strip() == words
    assert files(tmp_path) == ["work/job/base.safetensors"]
    assert torch.equal(artefacts.load("job", "base"), torch.ones(1))  # what was there is there


def test_a_folder_that_cannot_be_made_is_an_error_in_words(artefacts, tmp_path):
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(StorageError, match=r"the latents of base cannot be kept in .*work.job"):
        artefacts.save("job", "base", torch.ones(1))
    assert artefacts.stages("job") == set()
