"""Real processes, really killed: nothing lost, nothing doubled, every resumed result bit-identical.

python -m pytest tests/slow/faults [--kills 50]
"""

import random
import subprocess
import sys
import time

import pytest

from app.config import StudioConfig
from app.media import is_partial, read_recipe
from app.recipes.job_row import DONE, INTERRUPTED, RUNNING
from app.recipes.recipe import Recipe
from app.studio import Studio
from lavie.request import Interpolation, Request, SuperResolution
from tests.slow.faults.victim import POINTS

PATIENCE = 120  # seconds; only a broken studio needs them
REQUESTS = [
    Request("a red star", seed=1, interpolation=Interpolation(), super_resolution=SuperResolution()),
    Request("a blue circle", seed=2, interpolation=Interpolation()),
    Request("a green square", seed=3, super_resolution=SuperResolution()),
]


@pytest.fixture(scope="module")
def expected(tiny_cascade):
    """The frame hashes of an undisturbed run."""
    runs = [list(tiny_cascade.generate(request)) for request in REQUESTS]
    return [run[-1].video.frame_hash for run in runs]


@pytest.fixture
def config(tmp_path, tiny_bundle):
    return StudioConfig(data=tmp_path / "data", model=str(tiny_bundle), device="cpu")


def submit(config: StudioConfig, rounds: int = 1) -> list[str]:
    """Put every request into the line, so often; the ids."""
    studio = Studio(config)
    jobs = [studio.submit(request) for request in REQUESTS * rounds]
    studio.close()
    return jobs


def wait_until_it_works(config: StudioConfig, victim: subprocess.Popen) -> None:
    """Until the victim is within a stage, or has ended."""
    studio = Studio(config)
    end = time.monotonic() + PATIENCE
    while victim.poll() is None and not any(row.state == RUNNING and row.stage for row in studio.queue.line()):
        assert time.monotonic() < end, "it did not begin"
        time.sleep(0.01)
    studio.close()


def start(config: StudioConfig, *arguments: str) -> subprocess.Popen:
    """A victim that has begun to serve."""
    command = [sys.executable, "-m", "tests.slow.faults.victim", str(config.data), config.model, *arguments]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with victim.stdout:
        assert victim.stdout.readline() in ("serving\n", "")  # "": it died before
    return victim


def work_to_the_end(config: StudioConfig) -> None:
    """As a person would: start the studio, and go on with what it left interrupted after two like failures."""
    while True:
        victim = start(config)
        assert victim.wait(PATIENCE) == 0
        studio = Studio(config)
        waiting = [row.id for row in studio.queue.line() if row.state == INTERRUPTED]
        for job_id in waiting:
            studio.queue.retry(job_id)
        studio.close()
        if not waiting:
            return


def check(config: StudioConfig, jobs: list[str], expected: list[str]) -> None:
    """Everything is there once, whole, and as an undisturbed run would have made it."""
    studio = Studio(config)
    try:
        assert studio.database.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        for number, job_id in enumerate(jobs):
            frame_hash, seed = expected[number % len(REQUESTS)], REQUESTS[number % len(REQUESTS)].seed
            snapshot = studio.job(job_id)
            assert snapshot.state == DONE, snapshot.row.error
            assert snapshot.clip.frame_hash == frame_hash
            recipe = Recipe.from_json(read_recipe(snapshot.clip.path))
            assert (recipe.frame_hash, recipe.request.seed) == (frame_hash, seed)
        assert [row["id"] for row in studio.database.query("SELECT id FROM clips ORDER BY id")] == sorted(jobs)
        assert sorted(path.stem for path in config.clips.glob("*.mp4")) == sorted(jobs)
        assert not [path for path in config.data.rglob("*") if is_partial(path.name) or path.suffix == ".partial"]
    finally:
        studio.close()


def test_a_studio_that_is_killed_again_and_again_loses_nothing(config, expected, pytestconfig):
    """Every third kill comes at any moment, starting up included; the others while it makes something."""
    kills = pytestconfig.getoption("--kills")
    jobs, moments = submit(config, rounds=1 + kills // 6), random.Random(2026)
    for number in range(kills):
        victim = start(config)
        if number % 3:
            wait_until_it_works(config, victim)
        time.sleep(moments.uniform(0, 1.5))
        victim.kill()
        victim.wait(PATIENCE)
        studio = Studio(config)  # opens, whatever was cut off
        for row in studio.queue.line():
            if row.state == INTERRUPTED:
                studio.queue.retry(row.id)
        studio.close()
    work_to_the_end(config)
    check(config, jobs, expected)


@pytest.mark.parametrize(("point", "number"), list(zip(POINTS, (1, 4, 6, 9), strict=True)))
def test_a_kill_in_the_middle_of_a_rename_or_a_commit_loses_nothing(config, expected, point, number):
    jobs = submit(config)
    victim = start(config, "--die", point, str(number))
    assert victim.wait(PATIENCE) == -9
    work_to_the_end(config)
    check(config, jobs, expected)
