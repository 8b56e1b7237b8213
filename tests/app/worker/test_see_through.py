"""Seeing one job through: made here where nobody serves, followed where somebody does, cancelled when nobody looks."""

import pytest

from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, QUEUED, RUNNING
from lavie.errors import StorageError
from lavie.request import Request
from tests.app.studios import ENDLESS, ONE, ended, until
from tests.fakes import FakeCascade


def taken_by_one_who_was_killed(make_studio, **settings):
    """A job that was running when its studio's process ended."""
    studio = make_studio(serve=False, **settings)
    job_id = studio.submit(Request("a red star"))
    assert WorkerQueue(studio.database).take().id == job_id
    return job_id


def test_a_job_is_made_where_nobody_serves(make_studio):
    studio = make_studio(FakeCascade(), serve=False)
    waiting, job_id = studio.submit(Request("another")), studio.submit(Request("a red star"))
    snapshots = list(studio.follow(job_id))
    assert (snapshots[0].state, snapshots[-1].state) == (QUEUED, DONE)
    assert snapshots[-1].clip.id == job_id
    assert studio.job(waiting).state == QUEUED  # only what was asked for
    studio.close()
    make_studio(FakeCascade())  # the folder is free again


def test_a_failed_job_is_seen_to_its_end(make_studio):
    studio = make_studio(FakeCascade(), serve=False)
    *_, last = studio.follow(studio.submit(Request("refused")))
    assert (last.state, last.row.error) == (FAILED, "prompt is 'refused': say something else")


def test_a_job_is_followed_where_another_studio_serves(make_studio):
    cascade = FakeCascade()
    make_studio(cascade)
    follower = make_studio(serve=False)
    *_, last = follower.follow(follower.submit(Request("a red star")))
    assert (last.state, cascade.started) == (DONE, 1)


def test_a_studio_that_serves_makes_it_in_its_turn(make_studio):
    cascade = FakeCascade(**ENDLESS)
    studio = make_studio(cascade)
    running, job_id = studio.submit(Request("endless")), studio.submit(Request("a red star", base=ONE))
    until(lambda: studio.job(running).row.step)
    snapshots = studio.follow(job_id)
    assert [next(snapshots).state for _ in range(5)] == [QUEUED] * 5
    studio.cancel(running)
    *_, last = snapshots
    assert (last.state, cascade.most) == (DONE, 1)


@pytest.mark.parametrize("serve", [True, False])
def test_whoever_stops_looking_has_cancelled(make_studio, serve):
    cascade = FakeCascade(**ENDLESS)
    studio = make_studio(cascade, serve=serve)
    job_id = studio.submit(Request("a red star"))
    snapshots = studio.follow(job_id)
    assert any(snapshot.state == RUNNING and snapshot.row.step for snapshot in snapshots)
    snapshots.close()
    assert ended(studio, job_id).state == CANCELLED
    assert serve or cascade.active == 0


def test_stopping_before_the_beginning_cancels_too(make_studio):
    studio = make_studio(serve=False)
    job_id = studio.submit(Request("a red star"))
    snapshots = studio.follow(job_id)
    assert next(snapshots).state == QUEUED
    snapshots.close()
    assert studio.job(job_id).state == CANCELLED


def test_whoever_follows_goes_on_when_the_studio_was_killed(make_studio):
    job_id = taken_by_one_who_was_killed(make_studio)
    follower = make_studio(FakeCascade(), serve=False)
    *_, last = follower.follow(job_id)
    assert (last.state, last.row.attempts) == (DONE, 2)


def test_what_is_left_to_a_person_is_not_waited_for(make_studio):
    job_id = taken_by_one_who_was_killed(make_studio, recovery="never")
    make_studio(FakeCascade(), recovery="never")
    follower = make_studio(serve=False)
    *_, last = follower.follow(job_id)
    assert (last.state, last.row.error) == (INTERRUPTED, "the studio ended before its first step")
    assert follower.job(job_id).state == INTERRUPTED


def test_a_job_whose_end_cannot_be_stored_is_not_waited_for(make_studio, monkeypatch):
    def full(*_):
        raise StorageError("the disk is full")

    studio = make_studio(FakeCascade(), serve=False)
    for name in ("finish", "fail"):
        monkeypatch.setattr(WorkerQueue, name, full)
    with pytest.raises(StorageError, match="the disk is full"):
        list(studio.follow(studio.submit(Request("a red star"))))
