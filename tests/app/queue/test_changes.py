"""What a person may do to a job, in which state."""

import threading
import time
from dataclasses import replace

import pytest

from app.queue.queue import JobQueue
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, CLOSED, DONE, FAILED, INTERRUPTED, OPEN, PAUSED, QUEUED, REGENERATE, RUNNING
from app.recipes.recipe import Job
from app.storage.database import Database
from lavie.errors import RequestError
from lavie.request import Request
from tests.app.queue.lines import bring, fill, job, line


def test_a_job_comes_back_as_it_was_given(jobs, database):
    job_id = jobs.add(job(), kind="regenerate", parent="clip", output="/out/a.mp4", priority=3)
    row = JobQueue(Database(database.path.parent)).get(job_id)  # another process would see the same
    assert (row.job, row.kind, row.parent, row.output, row.priority) == (
        job(),
        "regenerate",
        "clip",
        "/out/a.mp4",
        3,
    )
    assert (row.state, row.attempts, row.recipe, row.error, row.asked, row.notices) == (QUEUED, 0, None, None, None, ())
    assert (row.stage, row.step, row.steps, row.started, row.finished) == (None, 0, 0, None, None)
    assert row.created.endswith("+00:00")


def test_ids_are_unlike_unless_they_are_given(jobs):
    assert len({jobs.add(job()) for _ in range(20)}) == 20
    assert jobs.add(job(), job_id="mine") == "mine"
    with pytest.raises(RequestError, match="there is a job 'mine' already"):
        jobs.add(job(), job_id="mine")
    assert len(jobs.line()) == 21


def test_an_edited_job_is_another_and_what_was_made_of_the_old_one_is_forgotten(jobs, database, work):
    fill(jobs, "a b")
    work.take("a")
    work.store_recipe("a", '{"seed": 1}')
    work.add_notice("a", "a word is not known")
    work.set_progress("a", "base", 3, 10)
    with database.write() as connection:
        connection.execute(
            "INSERT INTO artefacts VALUES ('a', 'base', 'a.x', 1, 'ab', 'now'), ('b', 'base', 'b.x', 1, 'ab', 'now')"
        )
    work.recover("ask")
    jobs.resume("a")
    jobs.edit("a", job("a"))  # the same: all stays
    row = jobs.get("a")
    assert (row.recipe, row.stage, len(row.notices)) == ('{"seed": 1}', "base", 1)
    jobs.edit("a", job("a blue star"))
    row = jobs.get("a")
    assert (row.job, row.recipe, row.stage, row.step, row.notices) == (job("a blue star"), None, None, 0, ())
    assert (row.state, line(jobs)) == (QUEUED, "a b")
    assert [row["job"] for row in database.query("SELECT job FROM artefacts")] == ["b"]


def test_an_edit_may_be_made_of_the_job_as_it_is_when_its_turn_comes(jobs, database):
    fill(jobs, "a")

    def add(text):
        def changed(old):
            time.sleep(0.01)  # while the others are at it too
            return replace(old, request=replace(old.request, prompt=old.request.prompt + text))

        jobs.edit("a", changed)
        database.close()

    threads = [threading.Thread(target=add, args=(f" {number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(jobs.get("a").prompt.split()) == sorted(["a", *map(str, range(5))])  # no edit undid another


def test_an_edit_that_fails_changes_nothing(jobs):
    fill(jobs, "a")
    before = jobs.get("a")
    with pytest.raises(RequestError, match="prompt is empty"):
        jobs.edit("a", lambda old: replace(old, request=replace(old.request, prompt=" ")))
    assert jobs.get("a") == before


def test_what_makes_a_clip_again_is_not_edited(jobs):
    jobs.add(job(), job_id="a", kind=REGENERATE, parent="clip")
    before = jobs.get("a")
    words = "the job a makes the clip clip again, as it was, and cannot be edited: `remix clip` makes another like it"
    with pytest.raises(RequestError, match=words):
        jobs.edit("a", job("other"))
    assert jobs.get("a") == before


@pytest.mark.parametrize("state", [RUNNING, PAUSED, INTERRUPTED, DONE])
def test_what_cannot_be_edited_is_told_with_a_way_out(jobs, state):
    fill(jobs, "a")
    bring(jobs, "a", state)
    words = f"the job a is {state}: only one that is queued can be edited; `jobs duplicate a` queues a copy that can"
    with pytest.raises(RequestError, match=words):
        jobs.edit("a", job("other"))
    jobs.edit(jobs.duplicate("a"), job("other"))


def test_a_duplicate_is_a_job_of_its_own_at_the_end_of_the_line(jobs):
    jobs.add(job(), job_id="a", parent="clip", output="/out/a.mp4", priority=1)
    fill(jobs, "b", priority=1)
    bring(jobs, "a", DONE)
    new = jobs.duplicate("a")
    row = jobs.get(new)
    assert (row.job, row.parent, row.priority, row.state, row.attempts) == (job(), "clip", 1, QUEUED, 0)
    assert row.output is None  # two jobs would write one file
    assert line(jobs) == f"b {new}"


def test_cancelling_one_leaves_the_others(jobs, work):
    fill(jobs, "a b c")
    work.take("a")
    assert jobs.cancel("b") and jobs.cancel("a")
    assert (jobs.get("a").state, jobs.get("a").asked) == (RUNNING, "cancel")
    assert (jobs.get("b").state, jobs.get("c").state) == (CANCELLED, QUEUED)
    work.finish_cancelled("a")
    assert not jobs.cancel("a") and not jobs.cancel("b")
    assert jobs.get("a").asked is None
    assert line(jobs) == "c"


def test_cancelling_the_others_and_all(jobs, work):
    fill(jobs, "a b c d e f")
    jobs.pause("b")
    bring(jobs, "c", INTERRUPTED)
    bring(jobs, "d", DONE)
    work.take("a")
    assert jobs.cancel_others("e") == 4
    assert [jobs.get(name).state for name in "abcdef"] == [RUNNING, CANCELLED, CANCELLED, DONE, QUEUED, CANCELLED]
    assert (jobs.get("a").asked, jobs.get("d").asked) == ("cancel", None)
    with pytest.raises(RequestError, match="no job has the id"):
        jobs.cancel_others("nobody")
    assert jobs.cancel_all() == 2
    assert jobs.counts() == {**dict.fromkeys((*OPEN, *CLOSED), 0), RUNNING: 1, CANCELLED: 4, DONE: 1}


def test_a_paused_job_keeps_its_place_and_is_passed_over(jobs, work):
    fill(jobs, "a b")
    jobs.pause("a")
    assert line(jobs) == "a b"
    assert work.take().id == "b"
    assert work.take() is None
    jobs.resume("a")
    assert work.take().id == "a"


def test_a_running_job_is_asked_to_pause_and_may_be_told_otherwise(jobs, work):
    fill(jobs, "a b")
    work.take("a")
    jobs.pause("a")
    assert work.stop_request("a") == "pause"
    jobs.resume("a")
    assert (jobs.get("a").state, work.stop_request("a")) == (RUNNING, None)
    jobs.pause("a")
    work.finish_paused("a")
    assert (jobs.get("a").state, work.stop_request("a")) == (PAUSED, None)
    jobs.resume("a")
    assert line(jobs) == "a b"
    work.take("a")
    jobs.pause("a")
    jobs.cancel("a")
    with pytest.raises(RequestError, match="is being cancelled"):
        jobs.pause("a")
    assert work.stop_request("a") == "cancel"


def test_the_queue_is_paused_for_everybody_until_it_is_resumed(jobs, database, work):
    fill(jobs, "a b")
    work.take()
    jobs.pause_queue()
    jobs.pause_queue()
    again = JobQueue(Database(database.path.parent))
    assert jobs.queue_paused and again.queue_paused
    assert work.take() is None and WorkerQueue(again._database).take() is None
    work.finish("a")  # the running one goes on
    assert work.take("b").id == "b"  # and what is asked for by name is made
    fill(jobs, "c")
    again.resume_queue()
    assert not jobs.queue_paused
    assert work.take().id == "c"


@pytest.mark.parametrize("option", ["job_id", "parent", "output"])
def test_a_name_that_no_database_can_store_is_told(jobs, option):
    with pytest.raises(RequestError, match=rf"{option} is '.*half a character"):
        jobs.add(job(), **{option: "/out/\udcff.mp4"})
    fill(jobs, "a")
    for change in (jobs.add, lambda other: jobs.edit("a", other)):
        with pytest.raises(RequestError, match=r"model is '.*half a character"):
            change(Job(Request("a red star"), "/models/\udcff"))
    assert jobs.get("a").job == job("a")


@pytest.mark.parametrize("state", [FAILED, CANCELLED, INTERRUPTED])
def test_what_went_wrong_can_be_tried_again(jobs, state, work):
    fill(jobs, "a b")
    bring(jobs, "a", state)
    before = jobs.get("a")
    jobs.retry("a")
    row = jobs.get("a")
    assert (row.state, row.attempts, row.error, row.finished) == (QUEUED, before.attempts, before.error, None)
    assert line(jobs) == ("a b" if state == INTERRUPTED else "b a")
    assert jobs.recent(10) == []
    row = work.take("a")
    assert (row.attempts, row.error) == (before.attempts + 1, None)


ALLOWED = {
    "edit": {QUEUED},
    "move": {QUEUED, PAUSED, INTERRUPTED},
    "to_front": {QUEUED, PAUSED, INTERRUPTED},
    "set_priority": {QUEUED, PAUSED, INTERRUPTED},
    "pause": {QUEUED, RUNNING},
    "resume": {PAUSED, INTERRUPTED},
    "retry": {FAILED, CANCELLED, INTERRUPTED},
}
ARGUMENTS = {"edit": [job()], "move": [None], "set_priority": [1]}


@pytest.mark.parametrize("method", ALLOWED)
@pytest.mark.parametrize("state", [*OPEN, *CLOSED])
def test_what_a_state_does_not_allow_is_refused_and_changes_nothing(jobs, method, state):
    fill(jobs, "a")
    bring(jobs, "a", state)
    before = jobs.get("a")
    if state in ALLOWED[method]:
        getattr(jobs, method)("a", *ARGUMENTS.get(method, []))
    else:
        with pytest.raises(RequestError, match=f"the job a is {state}: only one that is .* can be"):
            getattr(jobs, method)("a", *ARGUMENTS.get(method, []))
        assert jobs.get("a") == before


@pytest.mark.parametrize("method", [*ALLOWED, "duplicate", "cancel", "cancel_others"])
@pytest.mark.parametrize("job_id", ["nobody", "", "'; DROP TABLE jobs", "\udcff" * 10_000])
def test_an_unknown_id_is_told(jobs, method, job_id):
    with pytest.raises(RequestError, match="no job has the id") as told:
        getattr(jobs, method)(job_id, *ARGUMENTS.get(method, []))
    assert len(str(told.value)) < 1000
    assert jobs.get(job_id) is None
