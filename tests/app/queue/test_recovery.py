"""What becomes of jobs that a kill stopped."""

import pytest

from app.recipes.job_row import CANCELLED, INTERRUPTED, PAUSED, QUEUED, RUNNING
from lavie.errors import RequestError
from tests.app.queue.lines import fill, line, store, store_part


@pytest.mark.parametrize("policy", ["resume", "ask", "never"])
def test_a_kill_interrupts_and_says_where(jobs, policy, work):
    fill(jobs, "a b")
    work.take("b")
    work.store_recipe("b", '{"seed": 1}')
    work.set_progress("b", "base", 3, 10)
    assert work.recover(policy) == ["b"]
    row = jobs.get("b")
    assert (row.state, row.error) == (
        QUEUED if policy == "resume" else INTERRUPTED,
        "the studio ended at base, step 3 of 10",
    )
    assert (row.recipe, row.attempts) == ('{"seed": 1}', 1)
    assert line(jobs) == ("b a" if policy == "resume" else "a b")
    assert work.recover(policy) == []


def test_the_interrupted_go_before_all_that_wait_and_keep_their_order(jobs, work):
    fill(jobs, "a b c d")
    fill(jobs, "e", priority=2)
    for name in "b", "c":
        work.take(name)
    assert work.recover("resume") == ["b", "c"]
    assert line(jobs) == "b c e a d"
    assert jobs.get("b").error == "the studio ended before its first step"


def test_a_job_never_goes_on_by_itself_twice_with_nothing_stored_in_between(jobs, database, work):
    fill(jobs, "a")
    states = []
    for stage in (None, "base", "interpolation", None):
        work.take("a")
        if stage is not None:
            store(database, "a", stage)
        work.recover("resume")
        states.append(jobs.get("a").state)
    assert states == [QUEUED, QUEUED, QUEUED, INTERRUPTED]
    assert "for the second time with nothing new stored" in jobs.get("a").error
    assert work.take() is None
    jobs.retry("a")  # a person has looked at it
    work.take("a")
    work.recover("resume")
    assert jobs.get("a").state == QUEUED
    work.take("a")
    work.recover("resume")
    assert jobs.get("a").state == INTERRUPTED


def test_every_segment_that_is_stored_is_progress(jobs, database, work):
    fill(jobs, "a")
    states = []
    for number in (0, 1, None):
        work.take("a")
        if number is not None:
            store_part(database, "a", number)
        work.recover("resume")
        states.append(jobs.get("a").state)
    assert states == [QUEUED, QUEUED, INTERRUPTED]


def test_a_stop_in_between_that_was_asked_for_is_no_failure(jobs, work):
    fill(jobs, "a")
    for stop in (work.release, lambda job_id: (work.finish_paused(job_id), jobs.resume(job_id))):
        work.take("a")
        work.recover("resume")
        work.take("a")
        stop("a")
        work.take("a")
        work.recover("resume")
        assert jobs.get("a").state == QUEUED
        work.take("a")
        work.release("a")


def test_what_was_asked_to_stop_when_the_kill_came_has_stopped(jobs, work):
    fill(jobs, "a b")
    work.take("a")
    work.take("b")
    jobs.cancel("a")
    jobs.pause("b")
    assert sorted(work.recover("resume")) == ["a", "b"]
    assert [jobs.get(name).state for name in "ab"] == [CANCELLED, PAUSED]
    assert jobs.get("a").finished is not None
    assert [jobs.get(name).asked for name in "ab"] == [None, None]


def test_an_unknown_policy_is_told(jobs, work):
    with pytest.raises(RequestError, match="recovery is 'perhaps': choose one of resume, ask, never"):
        work.recover("perhaps")


def test_a_lost_device_puts_its_job_back_once_for_all_that_was_stored(jobs, database, work):
    fill(jobs, "a b")
    states = []
    for stage in ("base", None):
        work.take("a")
        work.set_progress("a", "base", 3, 10)
        if stage is not None:
            store(database, "a", stage)
        work.interrupt("a", "resume")
        states.append(jobs.get("a").state)
    assert states == [QUEUED, INTERRUPTED]
    assert jobs.get("a").error.startswith("its device was lost at base, step 3 of 10, for the second time")


def test_a_worker_puts_in_order_what_was_its_own_alone(jobs, work):
    fill(jobs, "a b")
    work.take("a")
    work.take("b")
    assert work.recover("resume", "b") == ["b"]
    assert [jobs.get(name).state for name in "ab"] == [RUNNING, QUEUED]
