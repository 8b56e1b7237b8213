"""The life of a job: what is stored before what, and that it goes on from there after a pause, an end or a change."""

import logging
import threading
from dataclasses import replace

import pytest

from app.gallery.search import find_clips
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING
from app.recipes.recipe import Recipe
from app.worker import worker
from lavie.errors import StorageError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Interpolation, Request, SuperResolution
from tests.app.studios import ONE, PATIENCE, At, damage, ended, smooth, until
from tests.fakes import FakeCascade


def frames_of(make_studio, request, name, tmp_path):
    """The hash of an undisturbed run, in a folder of its own."""
    studio = make_studio(FakeCascade(), data=tmp_path / name)
    return ended(studio, studio.submit(request)).clip.frame_hash


def test_the_recipe_is_stored_before_the_first_step(make_studio):
    seen = []
    cascade = FakeCascade(at_step=At(BASE, 1, lambda: seen.append(studio.queue.line()[0])))
    studio = make_studio(cascade)
    job_id = studio.submit(Request("a red star"))
    ended(studio, job_id)
    (row,) = seen
    assert (row.id, row.state, row.stage) == (job_id, RUNNING, BASE)
    recipe = Recipe.from_json(row.recipe)
    assert recipe.request == cascade.resolve(Request("a red star")) and recipe.request.seed == 123456789
    assert (recipe.provenance, recipe.frame_hash) == (cascade.provenance(), None)


def test_latents_are_stored_as_a_stage_ends_and_the_large_ones_dropped_at_the_end(make_studio):
    def files():
        return {path.stem for path in (studio.config.data / "work" / job_id).glob("*")}

    kept = []
    studio = make_studio(FakeCascade(at_step=lambda stage, index: kept.append((stage, files()))), serve=False)
    request = Request("a red star", base=ONE, interpolation=Interpolation(ONE), super_resolution=SuperResolution(ONE))
    job_id = studio.submit(request)
    studio.serve()
    ended(studio, job_id)
    assert kept == [(BASE, set()), (INTERPOLATION, {BASE}), (SUPER_RESOLUTION, {BASE, INTERPOLATION})]
    until(lambda: files() == {BASE, INTERPOLATION})


def test_a_paused_job_goes_on_from_its_last_stage(make_studio, tmp_path):
    cascade = FakeCascade(at_step=At(INTERPOLATION, 2, lambda: studio.queue.pause(job_id)))
    studio = make_studio(cascade, serve=False)
    job_id, other = studio.submit(smooth()), studio.submit(smooth(seed=8))
    studio.serve()
    until(lambda: studio.job(job_id).state == PAUSED)
    assert ended(studio, other).state == DONE  # the others go on meanwhile
    assert (studio.job(job_id).state, studio.job(job_id).stopping) == (PAUSED, False)
    studio.queue.resume(job_id)
    job = ended(studio, job_id)
    assert (job.state, job.row.attempts) == (DONE, 2)
    assert cascade.ran == [BASE, INTERPOLATION] * 2 + [INTERPOLATION]
    assert job.clip.frame_hash == frames_of(make_studio, smooth(), "whole", tmp_path)
    assert job.row.notices == ("the word <b>flurb</b> is not known",)  # told once


def test_closing_puts_the_running_job_first_and_the_next_studio_finishes_it(make_studio, tmp_path):
    reached = threading.Event()
    cascade = FakeCascade(0.01, at_step=At(INTERPOLATION, 2, reached.set))
    studio = make_studio(cascade)
    running, waiting = studio.submit(smooth(steps=1000)), studio.submit(Request("two", base=ONE))
    assert reached.wait(PATIENCE)
    studio.close()
    assert cascade.active == 0
    fast = FakeCascade()
    again = make_studio(fast, serve=False)
    assert [(row.id, row.state) for row in again.queue.line()] == [(running, QUEUED), (waiting, QUEUED)]
    again.serve()
    assert [ended(again, job_id).state for job_id in (running, waiting)] == [DONE, DONE]
    assert fast.ran == [INTERPOLATION, BASE]
    whole = frames_of(make_studio, smooth(steps=1000), "whole", tmp_path)
    assert again.job(running).clip.frame_hash == whole


@pytest.mark.parametrize(("recovery", "state"), [("resume", DONE), ("ask", INTERRUPTED), ("never", INTERRUPTED)])
def test_what_a_kill_interrupted_goes_on_as_the_setting_says(make_studio, recovery, state):
    dead = make_studio(serve=False)
    job_id = dead.submit(Request("a red star"))
    WorkerQueue(dead.database).take()
    dead.config.clips.mkdir()
    half = dead.config.clips / ".lavie-0123456789abcdef.partial.mp4"
    latents = dead.config.data / "work" / job_id / "base.partial"
    latents.parent.mkdir(parents=True)
    for path in (half, latents):
        path.write_bytes(b"half")
    studio = make_studio(FakeCascade(), recovery=recovery)
    until(lambda: studio.job(job_id).state in (DONE, INTERRUPTED))
    assert studio.job(job_id).state == state and not half.exists() and not latents.exists()
    if state == INTERRUPTED:
        studio.queue.resume(job_id)
        assert ended(studio, job_id).state == DONE


@pytest.mark.parametrize(
    ("kind", "damaged", "ran"),
    [
        ("bit", [INTERPOLATION], [INTERPOLATION, SUPER_RESOLUTION]),
        ("cut", [INTERPOLATION], [INTERPOLATION, SUPER_RESOLUTION]),
        ("gone", [INTERPOLATION, BASE], [BASE, INTERPOLATION, SUPER_RESOLUTION]),
        ("empty", [INTERPOLATION, BASE], [BASE, INTERPOLATION, SUPER_RESOLUTION]),
    ],
)
def test_a_job_whose_latents_are_damaged_makes_these_stages_again(make_studio, tmp_path, kind, damaged, ran):
    first = FakeCascade(at_step=At(SUPER_RESOLUTION, 1, lambda: studio.queue.pause(job_id)))
    studio = make_studio(first, serve=False)
    request = replace(smooth(), super_resolution=SuperResolution())
    job_id = studio.submit(request)
    studio.serve()
    until(lambda: studio.job(job_id).state == PAUSED)
    studio.close()
    paths = [studio.config.data / "work" / job_id / f"{stage}.safetensors" for stage in damaged]
    for path in paths:
        damage(path, kind)
    second = FakeCascade()
    again = make_studio(second)
    again.queue.resume(job_id)
    job = ended(again, job_id)
    assert (job.state, second.ran) == (DONE, ran), job.row.error
    assert job.clip.frame_hash == frames_of(make_studio, request, "whole", tmp_path)
    told = [text for text in job.row.notices if "that stage is made again" in text]
    assert len(told) == len(paths) and all(str(path) in text for path, text in zip(paths, told, strict=True))


def test_starting_forgets_the_latents_of_what_failed_long_ago(make_studio):
    cascade = FakeCascade(at_step=At(INTERPOLATION, 1, lambda: studio.cancel(job_id)))
    studio = make_studio(cascade, serve=False)
    job_id = studio.submit(smooth())
    studio.serve()
    assert ended(studio, job_id).state == CANCELLED
    studio.close()
    latents = studio.config.data / "work" / job_id / "base.safetensors"
    make_studio(FakeCascade()).close()
    assert latents.is_file()
    again = FakeCascade()
    third = make_studio(again, keep_work_days=0)
    assert not latents.exists()
    third.queue.retry(job_id)
    assert ended(third, job_id).state == DONE and again.ran == [BASE, INTERPOLATION]


def test_latents_of_other_weights_are_not_gone_on_from(make_studio):
    first = FakeCascade(at_step=At(INTERPOLATION, 1, lambda: studio.queue.pause(job_id)))
    studio = make_studio(first, serve=False)
    job_id = studio.submit(smooth(seed=None))
    studio.serve()
    until(lambda: studio.job(job_id).state == PAUSED)
    studio.close()
    second = FakeCascade(weights="2")
    again = make_studio(second)
    again.queue.resume(job_id)
    clip = ended(again, job_id).clip
    assert second.ran == [BASE, INTERPOLATION]
    stored = again.gallery.get(job_id).recipe
    assert (stored.provenance, clip.seed) == (second.provenance(), 123456789)


def test_a_full_disk_fails_the_job_in_words_and_a_retry_goes_on(make_studio, monkeypatch):
    from app.storage.latents import StageLatents

    def full(self, job_id, stage, latents):
        if stage == INTERPOLATION:
            raise StorageError("the disk is full: free some space")
        save(self, job_id, stage, latents)

    save = StageLatents.save
    monkeypatch.setattr(StageLatents, "save", full)
    cascade = FakeCascade()
    studio = make_studio(cascade)
    job_id = studio.submit(smooth())
    job = ended(studio, job_id)
    assert (job.state, job.row.error) == (FAILED, "the disk is full: free some space")
    assert not studio.config.clips.exists() or not list(studio.config.clips.iterdir())
    monkeypatch.setattr(StageLatents, "save", save)
    studio.queue.retry(job_id)
    assert ended(studio, job_id).state == DONE
    assert cascade.ran == [BASE, INTERPOLATION, INTERPOLATION]


def test_a_job_whose_end_cannot_be_stored_is_made_again_and_the_others_too(make_studio, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL, "app")  # the traceback that follows is meant
    finish, refused = WorkerQueue.finish, []

    def full(self, job_id, *_):
        raise StorageError("the disk is full")

    def once(self, job_id, result=None):
        if not refused:
            refused.append(job_id)
            full(self, job_id)
        finish(self, job_id, result)

    monkeypatch.setattr(WorkerQueue, "fail", full)
    monkeypatch.setattr(WorkerQueue, "finish", once)
    studio = make_studio(FakeCascade())
    first, second = studio.submit(Request("one")), studio.submit(Request("two"))
    assert ended(studio, second).state == DONE
    job = ended(studio, first)
    assert (refused, job.state, job.row.attempts) == ([first], DONE, 2)
    assert find_clips(studio.gallery).total == 2


def test_while_a_step_goes_on_the_folder_is_nobody_elses(make_studio, monkeypatch):
    reached, gate = threading.Event(), threading.Event()
    studio = make_studio(FakeCascade(at_step=lambda *_: (reached.set(), gate.wait(PATIENCE))))
    job_id = studio.submit(Request("a red star"))
    assert reached.wait(PATIENCE)
    monkeypatch.setattr(worker, "_STOP_SECONDS", 0.01)
    studio.close()
    with pytest.raises(StorageError, match="is worked on by another"):
        make_studio(FakeCascade())
    gate.set()
    monkeypatch.undo()
    studio.close()
    assert studio.job(job_id).state == QUEUED
    assert ended(make_studio(FakeCascade()), job_id).state == DONE


def test_a_cancelled_job_leaves_no_file_and_can_be_tried_again(make_studio):
    cascade = FakeCascade(at_step=At(INTERPOLATION, 1, lambda: studio.cancel(job_id)))
    studio = make_studio(cascade, serve=False)
    job_id = studio.submit(smooth())
    studio.serve()
    assert ended(studio, job_id).state == CANCELLED
    assert list(studio.config.clips.iterdir()) == [] and cascade.active == 0
    studio.queue.retry(job_id)
    assert ended(studio, job_id).state == DONE
    assert cascade.ran == [BASE, INTERPOLATION, INTERPOLATION]


def test_a_file_goes_where_it_was_asked_for(make_studio, tmp_path):
    studio = make_studio(FakeCascade())
    job_id = studio.submit(Request("a red star"), output=tmp_path / "here.mp4")
    clip = ended(studio, job_id).clip
    assert clip.path == tmp_path / "here.mp4" and (tmp_path / "here.mp4").is_file()
    refused = studio.submit(Request("a red star"), output=tmp_path / "no" / "here.mp4")
    assert "does not exist: create it first" in ended(studio, refused).row.error
