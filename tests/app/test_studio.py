"""The studio: jobs in one line for every process on the folder, cancelled within a step, alive after any failure."""

import re

import pytest

from app.config import StudioConfig
from app.gallery.trash import move_to_trash, purge
from app.media import read_recipe
from app.recipes.job_row import CANCELLED, DONE, FAILED, QUEUED, RUNNING
from app.recipes.recipe import Recipe
from app.studio import Studio
from lavie.errors import BundleError, StorageError
from lavie.request import Interpolation, Request
from tests.app.studios import ENDLESS, ONE, ended, until
from tests.fakes import FakeCascade


def test_a_job_becomes_a_clip_with_its_recipe(make_studio, tmp_path):
    studio = make_studio(FakeCascade(), model=str(tmp_path / "weights"))
    job_id = studio.submit(Request("a red star", seed=7, interpolation=Interpolation()))
    job = ended(studio, job_id)
    assert (job.state, job.row.error, job.row.attempts) == (DONE, None, 1)
    clip = job.clip
    assert (clip.id, clip.path, clip.seed) == (job_id, studio.config.clips / f"{job_id}.mp4", 7)
    assert (clip.frames, clip.width, clip.height, clip.fps) == (4, 96, 64, 8.0)
    assert (job.stage_seconds, clip.seconds) == ({"base": 0.125, "interpolation": 0.125}, 0.25)
    recipe = Recipe.from_json(read_recipe(clip.path))
    assert (recipe.request.prompt, recipe.request.seed) == ("a red star", 7)
    assert (recipe.model, recipe.provenance["bundle"]) == (str(tmp_path / "weights"), "fake")
    assert recipe.frame_hash == clip.frame_hash
    assert job.row.notices == ("the word <b>flurb</b> is not known",)
    assert studio.gallery.poster(job_id).is_file() and studio.gallery.preview(job_id).is_file()


def test_a_seed_that_was_drawn_is_told(make_studio):
    studio = make_studio(FakeCascade())
    assert ended(studio, studio.submit(Request("a red star"))).clip.seed == 123456789


def test_a_folder_of_weights_means_the_same_wherever_the_maker_was_started(make_studio, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    studio = make_studio(serve=False, model="weights")
    assert studio.job(studio.submit(Request("x"))).row.job.model == str(tmp_path / "weights")
    for name in ("nano", "official"):
        studio = make_studio(serve=False, model=name)
        assert studio.job(studio.submit(Request("x"))).row.job.model == name


def test_progress_is_seen_from_outside(make_studio):
    studio, other = make_studio(FakeCascade(**ENDLESS)), make_studio(serve=False)
    job_id = studio.submit(Request("a red star"))
    until(lambda: studio.job(job_id).row.step >= 2)
    job = studio.job(job_id)
    assert (job.state, job.row.stage, job.row.steps) == (RUNNING, "base", 1000)
    assert job.preview.shape == (4, 8, 12, 3)
    assert other.job(job_id).row.step >= 2 and other.job(job_id).preview is None


def test_jobs_are_made_one_at_a_time_in_order(make_studio):
    cascade = FakeCascade()
    studio = make_studio(cascade)
    ids = [studio.submit(Request("a red star", seed=seed)) for seed in range(4)]
    clips = [ended(studio, job_id) for job_id in ids]
    assert [job.clip.seed for job in clips] == [0, 1, 2, 3]
    ends = [job.row.finished for job in clips]
    assert ends == sorted(ends) and ids == sorted(ids)
    assert cascade.most == 1


def test_jobs_from_other_processes_are_picked_up(make_studio):
    studio, other = make_studio(FakeCascade()), make_studio(serve=False)
    job_id = other.submit(Request("a red star"))
    assert ended(other, job_id).clip == ended(studio, job_id).clip
    assert other.job(job_id).state == DONE


def test_a_second_studio_on_the_folder_is_refused_in_words(make_studio, tmp_path):
    studio, second = make_studio(FakeCascade()), make_studio(FakeCascade(), serve=False)
    with pytest.raises(StorageError, match=rf"{tmp_path}.* by another studio or command \(process \d+.*another --data"):
        second.serve()
    assert second.job(second.submit(Request("a red star"))).open  # it is of use all the same
    studio.close()
    second.serve()


def test_cancelling_stops_within_a_step_and_never_lets_two_run_at_once(make_studio):
    cascade = FakeCascade(**ENDLESS)
    studio = make_studio(cascade)
    first = studio.submit(Request("a red star"))
    until(lambda: studio.job(first).row.step)
    studio.cancel(first)
    second = studio.submit(Request("a blue star"))
    assert studio.job(first).state == CANCELLED or studio.job(first).stopping
    until(lambda: studio.job(second).row.step)
    assert (studio.job(first).state, cascade.most, cascade.closed) == (CANCELLED, 1, 1)
    assert studio.job(first).preview is None and studio.job(second).preview is not None
    assert list(studio.config.clips.iterdir()) == []


def test_a_waiting_job_is_cancelled_alone_and_never_started(make_studio):
    cascade = FakeCascade(**ENDLESS)
    studio = make_studio(cascade)
    running, second = studio.submit(Request("one")), studio.submit(Request("two"))
    third = studio.submit(Request("three", base=ONE))
    until(lambda: studio.job(running).row.step)
    studio.cancel(second)
    assert [studio.job(job_id).state for job_id in (running, second, third)] == [RUNNING, CANCELLED, QUEUED]
    studio.cancel(running)
    assert ended(studio, third).state == DONE
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
        ("broken", r"something went wrong inside \(ZeroDivisionError: inside the network\).* LAVIE_DEBUG=1"),
    ],
)
def test_a_failed_job_says_why_and_the_next_one_runs(make_studio, prompt, words):
    studio = make_studio(FakeCascade())
    first, second = studio.submit(Request(prompt)), studio.submit(Request("a red star"))
    job = ended(studio, first)
    assert job.state == FAILED and re.fullmatch(words, job.row.error)
    assert ended(studio, second).state == DONE


def test_a_model_that_is_missing_fails_the_job_and_is_tried_again(tmp_path):
    attempts = []

    def load(config):
        attempts.append(config.model)
        if len(attempts) == 1:
            raise BundleError("there is no bundle yet: put one there")
        return FakeCascade()

    studio = Studio(StudioConfig(data=tmp_path), load=load)
    studio.serve()
    first = studio.submit(Request("a red star"))
    assert ended(studio, first).row.error == "there is no bundle yet: put one there"
    studio.queue.retry(first)
    assert ended(studio, first).state == DONE
    assert ended(studio, studio.submit(Request("a red star"))).state == DONE
    assert attempts == ["nano", "nano"]  # loaded once, it stays
    studio.close()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="choose another data folder"):
        Studio(StudioConfig(data=tmp_path / "file"))


def test_a_clip_that_was_purged_is_none(make_studio):
    studio = make_studio(FakeCascade())
    job_id = studio.submit(Request("a red star"))
    ended(studio, job_id)
    move_to_trash(studio.gallery, job_id)
    purge(studio.gallery)
    assert (studio.job(job_id).state, studio.job(job_id).clip) == (DONE, None)


def test_what_is_closed_twice_or_was_never_served_is_closed(make_studio):
    studio = make_studio(FakeCascade())
    studio.close()
    studio.close()
    assert studio.job(studio.submit(Request("a red star"))).state == QUEUED  # for whoever comes next
