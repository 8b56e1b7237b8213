"""The worker: one job at a time, cancelled within a step, alive after any failure."""

import re
import time
from pathlib import Path

import pytest

from app.config import StudioConfig
from app.media import read_recipe
from app.recipe import Recipe
from app.studio import CANCELLED, CANCELLING, DONE, FAILED, QUEUED, RUNNING, Studio
from lavie.errors import BundleError
from lavie.request import Interpolation, Request, Sampling
from tests.fakes import FakeCascade

PATIENCE = 60.0  # seconds; only a broken studio needs them
FEW = Sampling(steps=2)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def ended(studio, job_id):
    until(lambda: not studio.job(job_id).open)
    return studio.job(job_id)


@pytest.fixture
def make_studio(tmp_path):
    opened = []

    def make(cascade, **settings):
        studio = Studio(StudioConfig(data=tmp_path / "data", **settings), load=lambda config: cascade)
        opened.append(studio)
        return studio

    yield make
    for studio in opened:
        studio.close()


def test_a_job_becomes_a_clip_with_its_recipe(make_studio):
    studio = make_studio(FakeCascade(), model="some/folder")
    job_id = studio.submit(Request("a red star", seed=7, interpolation=Interpolation()))
    job = ended(studio, job_id)
    assert (job.state, job.seed, job.error) == (DONE, 7, None)
    assert job.path == studio.config.clips / f"{job_id}.mp4"
    assert job.clip.stages == {"base": 0.125, "interpolation": 0.125}
    recipe = Recipe.from_json(read_recipe(job.path))
    assert (recipe.request.prompt, recipe.request.seed, recipe.model) == ("a red star", 7, "some/folder")
    assert recipe.frame_hash == job.clip.frame_hash
    assert recipe.provenance["bundle"] == "fake"
    assert job.notices == ("the word <b>flurb</b> is not known",)


def test_a_seed_that_was_drawn_is_told(make_studio):
    studio = make_studio(FakeCascade())
    assert ended(studio, studio.submit(Request("a red star"))).seed == 123456789


def test_progress_is_seen_from_outside(make_studio):
    studio = make_studio(FakeCascade(step_seconds=0.05, steps=200))
    job_id = studio.submit(Request("a red star"))
    until(lambda: studio.job(job_id).index >= 2)
    job = studio.job(job_id)
    assert (job.state, job.stage, job.steps) == (RUNNING, "base", 200)
    assert job.preview.shape == (4, 8, 12, 3)


def test_jobs_are_made_one_at_a_time_in_order(make_studio):
    cascade = FakeCascade(step_seconds=0.002)
    studio = make_studio(cascade)
    ids = [studio.submit(Request("a red star", seed=seed)) for seed in range(4)]
    jobs = [ended(studio, job_id) for job_id in ids]
    assert [job.seed for job in jobs] == [0, 1, 2, 3]
    assert ids == sorted(ids)
    assert cascade.most == 1


def test_cancelling_never_lets_two_jobs_run_at_once(make_studio):
    cascade = FakeCascade(step_seconds=0.05, steps=200)
    studio = make_studio(cascade)
    first = studio.submit(Request("a red star"))
    until(lambda: studio.job(first).index >= 1)
    studio.cancel(first)
    second = studio.submit(Request("a blue star"))
    assert studio.job(first).state in (CANCELLING, CANCELLED)
    until(lambda: studio.job(second).index >= 1)
    assert studio.job(first).state == CANCELLED
    assert (cascade.most, cascade.closed) == (1, 1)
    assert list(studio.config.clips.iterdir()) == []


def test_a_waiting_job_is_cancelled_at_once_and_never_started(make_studio):
    cascade = FakeCascade(step_seconds=0.05, steps=20)
    studio = make_studio(cascade)
    first, second = studio.submit(Request("one")), studio.submit(Request("two"))
    until(lambda: studio.job(first).state == RUNNING)
    assert studio.job(second).state == QUEUED
    studio.cancel(second)
    assert studio.job(second).state == CANCELLED
    studio.cancel(first)
    assert ended(studio, studio.submit(Request("three", base=FEW))).state == DONE
    assert cascade.started == 2


def test_cancelling_what_is_over_or_unknown_changes_nothing(make_studio):
    studio = make_studio(FakeCascade())
    job_id = studio.submit(Request("a red star"))
    assert ended(studio, job_id).state == DONE
    studio.cancel(job_id)
    studio.cancel("unknown")
    assert studio.job(job_id).state == DONE
    assert studio.job("unknown") is None and studio.job(None) is None


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("refused", "prompt is 'refused': say something else"),
        ("broken", "something went wrong inside.*ZeroDivisionError"),
    ],
)
def test_a_failed_job_says_why_and_the_next_one_runs(make_studio, prompt, words):
    studio = make_studio(FakeCascade())
    job = ended(studio, studio.submit(Request(prompt)))
    assert job.state == FAILED and re.search(words, job.error)
    assert ended(studio, studio.submit(Request("a red star"))).state == DONE


def test_a_model_that_is_missing_fails_the_job_and_is_tried_again(tmp_path):
    attempts = []

    def load(config):
        attempts.append(config)
        if len(attempts) == 1:
            raise BundleError("there is no bundle yet: put one there")
        return FakeCascade()

    studio = Studio(StudioConfig(data=tmp_path), load=load)
    assert ended(studio, studio.submit(Request("a red star"))).error == "there is no bundle yet: put one there"
    assert ended(studio, studio.submit(Request("a red star"))).state == DONE
    assert ended(studio, studio.submit(Request("a red star"))).state == DONE
    assert len(attempts) == 2
    studio.close()


def test_a_data_folder_that_cannot_be_made_fails_the_job(tmp_path):
    (tmp_path / "file").write_text("x")
    studio = Studio(StudioConfig(data=tmp_path / "file"), load=lambda config: FakeCascade())
    assert "choose another data folder" in ended(studio, studio.submit(Request("a red star"))).error
    studio.close()


def test_closing_stops_the_running_job_and_takes_no_more(make_studio):
    cascade = FakeCascade(step_seconds=0.05, steps=200)
    studio = make_studio(cascade)
    running, waiting = studio.submit(Request("one")), studio.submit(Request("two"))
    until(lambda: studio.job(running).index >= 1)
    studio.close()
    assert (studio.job(running).state, studio.job(waiting).state) == (CANCELLED, CANCELLED)
    assert cascade.active == 0
    with pytest.raises(RuntimeError, match="closed"):
        studio.submit(Request("three"))


def test_a_real_cascade_makes_a_clip(tiny_bundle, tmp_path):
    studio = Studio(StudioConfig(data=tmp_path, model=str(tiny_bundle), device="cpu"))
    job = ended(studio, studio.submit(Request("a red star", seed=7)))
    studio.close()
    assert job.state == DONE, job.error
    assert Path(job.path).is_file()
