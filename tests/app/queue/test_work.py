"""A worker's side of the queue: a job is taken once, whoever takes, and its end is checked."""

import multiprocessing
import threading

import pytest

from app.queue.queue import JobQueue
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CLOSED, DONE, FAILED, OPEN, QUEUED, RUNNING
from app.storage.database import Database
from lavie.errors import RequestError
from tests.app.queue.lines import bring, fill, job, line, store

PATIENCE = 120  # seconds; only broken code needs them
NEWER = '{"dream": "of a later version"}'


def test_a_job_runs_and_is_done(jobs, work):
    fill(jobs, "a")
    row = work.take()
    assert (row.id, row.state, row.attempts, row.job) == ("a", RUNNING, 1, job("a"))
    assert row.started >= row.created
    work.store_recipe("a", '{"seed": 1}')
    work.set_progress("a", "base", 3, 10)
    work.add_notice("a", "the word 'flurb' is not known")
    work.add_notice("a", "slow")
    work.add_notice("a", "slow")
    row = jobs.get("a")
    assert (row.recipe, row.stage, row.step, row.steps) == ('{"seed": 1}', "base", 3, 10)
    assert row.notices == ("the word 'flurb' is not known", "slow")
    assert work.stop_request("a") is None
    work.finish("a", '{"identical": true}')
    row = jobs.get("a")
    assert (row.state, row.result) == (DONE, '{"identical": true}')
    assert row.finished >= row.started
    assert [row.id for row in jobs.recent(5)] == ["a"]


def test_a_worker_takes_the_first_of_what_suits_it(jobs, work):
    fill(jobs, "a b c")
    assert work.take(suits=lambda row: row.id != "a").id == "b"
    assert work.take(suits=lambda row: row.id == "b") is None
    assert work.take().id == "a"


def test_a_failed_job_says_why_and_the_next_one_is_taken(jobs, work):
    fill(jobs, "a b")
    work.take()
    work.set_progress("a", "base", 3, 10)
    work.fail("a", "out of memory: make it smaller, in \udcff")  # half a character, as undecodable file names have
    row = jobs.get("a")
    assert (row.state, row.error, row.stage, row.step) == (FAILED, "out of memory: make it smaller, in ?", "base", 3)
    assert work.take().id == "b"


def test_the_recipe_stays_when_a_job_goes_on(jobs, work):
    fill(jobs, "a")
    work.take()
    work.store_recipe("a", '{"seed": 1}')
    work.set_progress("a", "base", 3, 10)
    jobs.pause("a")
    work.finish_paused("a")
    jobs.resume("a")
    row = work.take()
    assert (row.recipe, row.attempts, row.stage, row.step) == ('{"seed": 1}', 2, None, 0)
    work.store_recipe("a", '{"seed": 2}')
    assert jobs.get("a").recipe == '{"seed": 2}'


def test_a_job_is_taken_by_name_once_and_only_if_it_waits(jobs, work):
    fill(jobs, "a b")
    assert work.take("b").id == "b"
    assert work.take("b") is None
    jobs.pause("a")
    assert work.take("a") is None
    with pytest.raises(RequestError, match="no job has the id 'nobody'"):
        work.take("nobody")


def test_a_released_job_is_the_next_one_again(jobs, work):
    fill(jobs, "a b")
    fill(jobs, "c", priority=3)
    work.take("b")
    work.release("b")
    assert (jobs.get("b").state, line(jobs)) == (QUEUED, "b c a")


def test_an_end_and_what_goes_with_it_are_kept_or_undone_together(jobs, database, work):
    fill(jobs, "a")
    work.take()
    with pytest.raises(ZeroDivisionError), database.write():
        store(database, "a", "base")
        work.add_notice("a", "lost")
        work.finish("a")
        raise ZeroDivisionError
    assert (jobs.get("a").state, jobs.get("a").notices) == (RUNNING, ())
    with database.write():
        store(database, "a", "base")
        work.finish("a")
        assert JobQueue(Database(database.path.parent)).get("a").state == RUNNING  # others do not see it yet
    assert jobs.get("a").state == DONE


def test_a_job_that_cannot_be_read_fails_and_stops_no_other(jobs, database, work):
    fill(jobs, "a b c")
    with database.write() as connection:
        connection.execute("UPDATE jobs SET job = ? WHERE id IN ('a', 'c')", [NEWER])
    assert line(jobs) == "a b c"
    assert work.take().id == "b"
    assert (jobs.get("a").state, jobs.get("a").attempts) == (FAILED, 1)
    assert "not the JSON of a job" in jobs.get("a").error
    assert work.take("c") is None
    assert [row.id for row in jobs.recent(5)] == ["c", "a"]
    with pytest.raises(RequestError, match="not the JSON of a job"):
        jobs.duplicate("a")


ENDS = {
    "store_recipe": ["{}"],
    "set_progress": ["base", 1, 2],
    "add_notice": ["x"],
    "finish": [],
    "fail": ["x"],
    "finish_cancelled": [],
    "finish_paused": [],
    "release": [],
}


@pytest.mark.parametrize("method", ENDS)
@pytest.mark.parametrize("state", [state for state in (*OPEN, *CLOSED) if state != RUNNING])
def test_only_a_running_job_is_worked_on(jobs, work, method, state):
    fill(jobs, "a")
    bring(jobs, "a", state)
    before = jobs.get("a")
    with pytest.raises(RequestError, match=f"the job a is {state}: only one that is running can be"):
        getattr(work, method)("a", *ENDS[method])
    assert jobs.get("a") == before


@pytest.mark.parametrize("method", [*ENDS, "stop_request"])
def test_an_unknown_id_is_told_to_the_worker_too(work, method):
    with pytest.raises(RequestError, match="no job has the id 'nobody'"):
        getattr(work, method)("nobody", *ENDS.get(method, []))


def _take_all(queue, barrier, folder) -> None:
    work, taken = WorkerQueue(Database(folder)), []
    barrier.wait(PATIENCE)

    def take() -> None:
        while row := work.take():
            taken.append((row.id, row.attempts))
            work.set_progress(row.id, "base", 1, 1)
            work.finish(row.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    queue.put(taken)


def test_every_job_is_taken_once_by_any_number_of_workers(jobs, database):
    names = [f"{number:03}" for number in range(120)]
    fill(jobs, " ".join(names))
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(2)
    workers = [context.Process(target=_take_all, args=(queue, barrier, database.path.parent)) for _ in range(2)]
    for worker in workers:
        worker.start()
    taken = [each for _ in workers for each in queue.get(timeout=PATIENCE)]
    for worker in workers:
        worker.join(PATIENCE)
    assert sorted(taken) == [(name, 1) for name in names]
    assert jobs.counts()[DONE] == len(names)
