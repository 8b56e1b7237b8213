"""Stop and keep what is there: the finished stages make a clip, the same as if no more had been asked for."""

from dataclasses import replace

import pytest

from app.models.loaded import Models, adapt_cascade, load_cascade
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import DONE, QUEUED, RUNNING
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from tests.app.studios import ONE, At, ended, smooth, until
from tests.fakes import FakeCascade

WHOLE = Request(
    "a red star",
    seed=5,
    base=ONE,
    interpolation=Interpolation(Sampling(steps=3)),
    super_resolution=SuperResolution(Sampling(steps=3)),
)


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        (INTERPOLATION, replace(WHOLE, interpolation=None, super_resolution=None)),
        (SUPER_RESOLUTION, replace(WHOLE, super_resolution=None)),
    ],
)
def test_the_finished_stages_make_the_clip_that_they_alone_would(make_studio, stage, left):
    cascade = FakeCascade(at_step=At(stage, 2, lambda: studio.queue.keep(job_id)))
    studio = make_studio(cascade, serve=False)
    job_id = studio.submit(WHOLE)
    studio.serve()
    job = ended(studio, job_id)
    assert (job.state, job.row.asked) == (DONE, None)
    stored = studio.gallery.require(job_id)
    assert stored.recipe.request == cascade.resolve(left)
    assert cascade.ran.count(BASE) == 1  # nothing was made twice
    assert ended(studio, studio.submit(left)).clip.frame_hash == job.clip.frame_hash
    assert ended(studio, studio.regenerate(job_id)).comparison.identical


def test_before_a_stage_is_finished_there_is_nothing_to_keep(make_studio):
    said = []

    def ask():
        with pytest.raises(RequestError, match="has finished no stage yet: there is nothing to keep, cancel it"):
            studio.queue.keep(job_id)
        said.append(studio.job(job_id).row.asked)

    studio = make_studio(FakeCascade(at_step=At(BASE, 1, ask)), serve=False)
    job_id = studio.submit(smooth())
    with pytest.raises(RequestError, match="kept as it is"):
        studio.queue.keep(job_id)  # it waits
    studio.serve()
    assert ended(studio, job_id).clip.frames == 4 and said == [None]


def test_who_cancelled_does_not_keep(make_studio):
    def ask():
        studio.cancel(job_id)
        with pytest.raises(RequestError, match="is being cancelled: nothing of it can be kept any more"):
            studio.queue.keep(job_id)

    studio = make_studio(FakeCascade(at_step=At(INTERPOLATION, 1, ask)), serve=False)
    job_id = studio.submit(smooth())
    studio.serve()
    assert ended(studio, job_id).clip is None


def test_a_kill_right_behind_the_wish_goes_on_with_the_whole(make_studio):
    dead = make_studio(serve=False)
    job_id = dead.submit(smooth())
    WorkerQueue(dead.database).take()
    WorkerQueue(dead.database).set_progress(job_id, INTERPOLATION, 1, 3)
    dead.queue.keep(job_id)
    assert (dead.queue.get(job_id).state, dead.queue.get(job_id).asked) == (RUNNING, "keep")
    WorkerQueue(dead.database).recover("resume")
    row = dead.queue.get(job_id)
    assert (row.state, row.asked) == (QUEUED, None)
    studio = make_studio(FakeCascade())
    assert studio.gallery.require(ended(studio, job_id).clip.id).recipe.request.interpolation is not None


def test_the_model_is_loaded_ahead_and_says_so(make_studio):
    studio = make_studio(FakeCascade(), serve=False)
    assert studio.read_prompt("a star") is None and studio.models.state == "ready"
    studio.serve()
    studio.warm()
    until(lambda: studio.models.state == "ready" and studio.models.cascade is not None)


def test_a_model_that_cannot_be_loaded_is_told_and_tried_again(make_studio, tmp_path):
    studio = make_studio(serve=False, model=str(tmp_path / "no model"))
    studio.workspace.models = Models(studio.config, load_cascade, adapt_cascade)
    studio.serve()
    studio.warm()
    until(lambda: "is not a folder" in studio.models.state)
    assert "is not a folder" in ended(studio, studio.submit(Request("a star"))).row.error
