"""Parts of long videos: there as they were, found by every job, never damaged ones, and gone when of no use."""

from datetime import datetime, timedelta, timezone

import pytest
import torch

from app.queue.queue import JobQueue
from app.recipes.job_row import CANDIDATES, DONE, FAILED, RUNNING
from app.storage.latents import SegmentLatents, StageLatents, find_stored
from extensions.long_video.pipeline import Part
from lavie.errors import StorageError
from tests.app.queue.lines import bring, job

A, B, C = (letter * 64 for letter in "abc")


@pytest.fixture
def parts(database, tmp_path):
    """The parts of a job, and what was told of them."""

    def open_parts(job_id, **options):
        told = []
        return SegmentLatents(database, tmp_path, job_id, warn=told.append, **options), told

    return open_parts


def part(number=0, stage="base", value=1.0, **state):
    latents = torch.full((1, 4, 3, 2, 2), value)
    return Part(stage, number, latents, {"seed": 5, "windows": [{"gain": [1.0]}]}, state)


def files(folder):
    return sorted(path.name for path in (folder / "work").glob("*/*"))


def same(one, other):
    assert (one.stage, one.number, one.facts) == (other.stage, other.number, other.facts)
    assert torch.equal(one.latents, other.latents)
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_a_part_comes_back_as_it_was(parts, tmp_path):
    mine, told = parts("one")
    first, window = part(0, next=torch.tensor([1, 2])), part(12, "interpolation", 2.0)
    mine[A], mine[B] = first, window
    again, _ = parts("one")
    same(again[A], first)
    same(again[B], window)
    assert list(again) == [A, B] and len(again) == 2 and A in again and C not in again
    with pytest.raises(KeyError):
        again[C]
    assert files(tmp_path) == [f"base-00000-{A[:12]}.safetensors", f"interpolation-00012-{B[:12]}.safetensors"]
    assert told == []


def test_another_jobs_part_becomes_ones_own_and_outlives_it(parts, tmp_path):
    theirs, _ = parts("one")
    theirs[A] = part()
    mine, told = parts("two")
    assert A in mine and len(mine) == 1
    theirs.drop()
    assert not (tmp_path / "work" / "one").exists() and list(parts("one")[0]) == []
    same(parts("two")[0][A], part())
    assert told == []


def test_without_a_second_name_on_the_disk_a_part_is_copied(parts, monkeypatch, tmp_path):
    parts("one")[0][A] = part()

    def refuse(*_):
        raise OSError(38, "no links here")

    monkeypatch.setattr("os.link", refuse)
    assert A in parts("two")[0]
    parts("one")[0].drop()
    same(parts("two")[0][A], part())


def test_a_job_that_is_to_prove_something_looks_at_its_own_alone(parts):
    parts("one")[0][A] = part()
    mine, _ = parts("two", shared=False)
    assert A not in mine
    mine[A] = part()
    assert A in mine


@pytest.mark.parametrize("damage", ["gone", "cut", "bit"])
def test_a_damaged_part_is_told_and_does_not_count(parts, tmp_path, damage):
    mine, _ = parts("one")
    mine[A] = part()
    (path,) = (tmp_path / "work").glob("*/*")
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:-9] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    again, told = parts("one")
    assert A not in again and len(told) == 1
    assert "segment 1" in told[0] and str(path) in told[0] and told[0].endswith("that part is made again")
    again[A] = part()
    same(parts("one")[0][A], part())


def test_where_one_jobs_part_is_damaged_anothers_will_do(parts, tmp_path, database):
    for job_id in ("one", "two"):
        parts(job_id, shared=False)[0][A] = part()
    next((tmp_path / "work" / "two").iterdir()).unlink()
    mine, told = parts("three")
    same(mine[A], part())
    assert len(told) == 1
    assert find_stored(database, tmp_path, [A, B]) == {A}


def test_keys_are_known_by_their_files(parts, database, tmp_path):
    mine, _ = parts("one")
    for number, key in enumerate((A, B)):
        mine[key] = part(number)
    assert find_stored(database, tmp_path, [A, B, C]) == {A, B}
    del mine[A]
    assert find_stored(database, tmp_path, [A, B, C]) == {B} and list(mine) == [B]
    assert mine.keys_of("base") == [B] and mine.keys_of("interpolation") == []
    with pytest.raises(KeyError):
        del mine[A]


def test_on_a_full_disk_nothing_is_half_stored(parts, monkeypatch, tmp_path):
    mine, _ = parts("one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"segment 3 cannot be kept .*No space left on device"):
        mine[A] = part(2)
    assert files(tmp_path) == [] and len(mine) == 0


@pytest.mark.parametrize(
    ("state", "kind", "days", "left"),
    [
        (RUNNING, "render", 9, [0, 1]),
        (DONE, "render", 0, []),  # its clip is gone
        (DONE, CANDIDATES, 0, [0, 1]),
        (DONE, CANDIDATES, 9, []),
        (FAILED, "render", 0, [0, 1]),
        (FAILED, "render", 9, []),
    ],
)
def test_what_is_of_no_use_is_swept(parts, database, tmp_path, state, kind, days, left):
    jobs = JobQueue(database)
    jobs.add(job(), job_id="one", kind=kind)
    bring(jobs, "one", state)
    mine, _ = parts("one")
    mine[A], mine[B] = part(0), part(1, "interpolation")
    (tmp_path / "work" / "one" / "candidate-5.webp").write_bytes(b"a picture")
    (tmp_path / "work" / "one" / "base-00009-x.partial").write_bytes(b"half")
    ended = (datetime.now(timezone.utc) - timedelta(days=days)).isoformat(timespec="microseconds")
    with database.write() as connection:
        connection.execute("UPDATE jobs SET finished = ? WHERE finished IS NOT NULL", [ended])
    StageLatents(database, tmp_path).sweep(7)
    assert [row["number"] for row in database.query("SELECT number FROM parts ORDER BY number")] == left
    assert len(files(tmp_path)) == len(left) + bool(left)
