"""A job that is looked at now and then, told as if each event had been heard; on a terminal and in a log."""

import io

import pytest

from app.cli.progress import Lines, progress
from app.queue.status import JobStatus, Watch
from app.recipes.job_row import DONE, FAILED, PAUSED, QUEUED, RUNNING, JobRow
from app.recipes.recipe import Job
from lavie.events import Notice, StageDone, StageStarted, Step
from lavie.request import Request


def snapshot(state=RUNNING, stage=None, step=0, steps=0, notices=()):
    values = dict.fromkeys(JobRow.__dataclass_fields__)
    values |= {"id": "job", "kind": "render", "state": state, "job_json": Job(Request("x")).to_json()}
    return JobStatus(JobRow(**{**values, "stage": stage, "step": step, "steps": steps, "notices": notices}))


@pytest.fixture
def told():
    """What each snapshot adds, with a clock that goes on by a second each time it is asked."""
    seconds = iter(range(1000))
    watch = Watch(clock=lambda: next(seconds))
    return lambda *args, **values: list(watch.events(snapshot(*args, **values)))


def test_a_job_is_told_from_its_beginning_to_its_end(told):
    assert told(QUEUED) == []
    assert told(RUNNING, notices=("one",)) == [Notice("one")]
    assert told(RUNNING, "base", 0, 4, ("one",)) == [StageStarted("base", 4)]
    assert told(RUNNING, "base", 2, 4, ("one", "two")) == [Notice("two"), Step("base", 2, 4)]
    done = [StageDone("base", 1, None), StageStarted("interpolation", 9), Step("interpolation", 1, 9)]
    assert told(RUNNING, "interpolation", 1, 9, ("one", "two")) == done
    end = told(DONE, "interpolation", 9, 9, ("one", "two"))
    assert end == [Step("interpolation", 9, 9), StageDone("interpolation", 1, None)]


def test_a_job_that_is_over_before_the_first_look_is_told_in_short(told):
    assert told(DONE, "base", 3, 3) == [StageStarted("base", 3), Step("base", 3, 3), StageDone("base", 1, None)]


def test_a_failed_stage_is_not_done(told):
    told(RUNNING, "base", 1, 3)
    assert told(FAILED, "base", 2, 3) == [Step("base", 2, 3)]


def test_a_pause_begins_no_stage_anew(told):
    told(RUNNING, "base", 1, 3)
    assert told(PAUSED, "base", 1, 3) == [Step("base", 1, 3)]
    assert told(RUNNING) == []  # taken again, not yet at its first step
    assert told(RUNNING, "base", 1, 3) == [Step("base", 1, 3)]


def test_a_log_shows_what_was_watched(told):
    lines = []
    show = Lines(lines.append, clock=lambda: 0.0)
    for each in (snapshot(RUNNING, "base", 1, 3, ("a note",)), snapshot(DONE, "super_resolution", 2, 2, ("a note",))):
        for event in told(each.state, each.row.stage, each.row.step, each.row.steps, each.row.notices):
            show(event)
    assert lines == [
        "note: a note",
        "base: 3 steps",
        "base: done in 1.0 s",
        "super-resolution: 2 steps",
        "super-resolution: done in 1.0 s",
    ]


def test_a_bar_is_full_when_its_stage_is_over_though_no_look_fell_on_its_last_step(told, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress(stream) as show:
        for look in ((RUNNING, "base", 1, 4), (RUNNING, "interpolation", 1, 9), (DONE, "interpolation", 9, 9)):
            for event in told(*look):
                show(event)
    last = stream.getvalue()[-400:]
    assert "4/4" in last and "9/9" in last
