"""How long it will take: told by what a real database says was made before."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.config import StudioConfig
from app.queue.estimates import Estimates
from app.queue.queue import JobQueue
from app.recipes.job_row import JobRow
from app.recipes.recipe import Job, Recipe
from app.storage.database import Database
from lavie.request import Interpolation, Request, Sampling, SuperResolution

CARD = {"name": "T", "width": 64, "height": 32, "frames": 8, "fps": 8, "base": {"steps": 10}}
CARD |= {"interpolation": {"steps": 4}, "super_resolution": {"steps": 2}}
RUN = {"job": "j", "stage": "base", "device": "cpu", "steps": 10, "frames": 8, "width": 64, "height": 32}
RUN |= {"seconds": 4.0, "peak_bytes": 1000}


class World:
    """A data folder, a bundle that says `CARD`, and what was timed."""

    def __init__(self, folder):
        (folder / "bundle").mkdir()
        (folder / "bundle" / "cascade.json").write_text(json.dumps(CARD))
        self.model = str(folder / "bundle")
        self.database = Database(folder / "data")
        self.estimates = Estimates(self.database, StudioConfig(data=folder / "data", model=self.model))
        self._timed = 0

    def timed(self, **values):
        self._timed += 1
        created = f"2026-01-01T00:00:00.{self._timed:06d}+00:00"
        with self.database.write() as connection:
            connection["timings"].insert({"model": self.model, **RUN, **values, "created": created})

    def of(self, request=Request("x")):
        return self.estimates.of_request(request, self.model)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.database.close()


def test_without_a_past_nothing_is_said(world):
    assert world.of() is None
    assert world.estimates.of_recipe(Recipe(Request("x"), world.model).to_json()) == {"base": None}


def test_the_same_again_takes_as_long(world):
    world.timed()
    estimate = world.of()
    assert (estimate.seconds, estimate.stages, estimate.memory) == (4.0, {"base": 4.0}, 1000)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"base": Sampling(steps=20)}, 8.0),
        ({"frames": 16}, 8.0),
        ({"width": 128, "height": 64}, 16.0),
        ({"base": Sampling(steps=5), "frames": 4}, 1.0),
    ],
)
def test_time_grows_with_the_work(world, asked, seconds):
    world.timed()
    assert world.of(Request("x", **asked)).seconds == pytest.approx(seconds)


def test_the_nearest_runs_tell(world):
    for _ in range(5):
        world.timed(frames=16, seconds=100.0)
    for _ in range(5):
        world.timed(seconds=4.0)
    assert world.of().seconds == 4.0
    assert world.of(Request("x", frames=16)).seconds == 100.0


def test_one_slow_run_does_not_tell(world):
    for seconds in (4.0, 400.0, 4.2):
        world.timed(seconds=seconds)
    assert world.of().seconds == 4.2


def test_old_runs_are_forgotten(world):
    world.timed(seconds=400.0)
    for _ in range(20):
        world.timed(frames=16, seconds=8.0)
    assert world.of().seconds == pytest.approx(4.0)


def test_runs_on_another_device_do_not_tell(world):
    world.timed(device="cuda (H100)", seconds=0.1, peak_bytes=9000)
    world.timed(device="cpu", seconds=4.0)
    assert (world.of().seconds, world.of().memory) == (4.0, 1000)


def test_runs_of_other_models_and_stages_do_not_tell(world):
    world.timed(model="official")
    world.timed(stage="interpolation")
    assert world.of() is None


def test_all_stages_together(world):
    asked = Request("x", interpolation=Interpolation(), super_resolution=SuperResolution())
    world.timed()
    world.timed(stage="interpolation", steps=4, seconds=3.0, peak_bytes=5000)
    assert world.of(asked) is None
    world.timed(stage="super_resolution", steps=2, seconds=2.5, peak_bytes=None)
    estimate = world.of(asked)
    assert (estimate.seconds, estimate.memory) == (9.5, 5000)
    assert list(estimate.stages) == ["base", "interpolation", "super_resolution"]


def test_memory_that_was_never_measured(world):
    world.timed(peak_bytes=None)
    assert world.of().memory is None


def test_a_model_without_a_card(world, tmp_path):
    world.timed()
    assert world.estimates.of_request(Request("x"), str(tmp_path / "gone")) is None
    assert world.estimates.of_request(Request("x"), "a\0b") is None


def test_a_recipe_tells_each_of_its_stages(world):
    world.timed()
    whole = Request("x", width=64, height=32, frames=8, fps=8.0, base=Sampling(steps=10))
    smooth = replace(whole, interpolation=Interpolation(Sampling(steps=4)))
    assert world.estimates.of_recipe(Recipe(smooth, world.model).to_json()) == {"base": 4.0, "interpolation": None}


@pytest.mark.parametrize("text", ["", "null", "{}", "[" * 5000])
def test_what_is_no_recipe(world, text):
    assert world.estimates.of_recipe(text) == {}


def test_a_recipe_that_is_not_resolved(world):
    world.timed()
    asked = Request("x", base=Sampling(steps=10))
    assert world.estimates.of_recipe(Recipe(asked, world.model).to_json()) == {"base": None}


def test_a_line_of_jobs(world):
    jobs = JobQueue(world.database)
    for frames in (8, 16):
        jobs.add(Job(Request("x", frames=frames), world.model))
    assert world.estimates.of_jobs([]) == 0
    assert world.estimates.of_jobs(jobs.line()) is None
    world.timed()
    assert world.estimates.of_jobs(jobs.line()) == pytest.approx(12.0)
    broken = replace(jobs.line()[0], job_json="{}")
    assert isinstance(broken, JobRow) and world.estimates.of_jobs([broken]) is None
