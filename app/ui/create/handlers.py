"""The queue's board: what waits, and what can be done about it. The jobs themselves are pushed by `app.ui.live`."""

from __future__ import annotations

import typing

from app.queue.job import WAITING
from app.sharing.visitor import at_home_only
from app.studio import Studio
from app.ui.context import PageContext
from app.ui.panels import QUICK, board, slot

if typing.TYPE_CHECKING:
    import gradio as gr

_OF_ALL = ("pause_queue", "resume_queue", "front", "up", "down")  # what concerns other people's jobs too


def act(studio: Studio, what: str, job_id: str) -> None:
    """Do what a button of a board says, to a job or to all.

    Raises RequestError where the job is not there, or not so any more.
    """
    jobs = studio.jobs
    with_all = {"pause_queue": jobs.pause_queue, "resume_queue": studio.resume_queue, "cancel_all": jobs.cancel_all}
    acts = {
        "cancel": studio.cancel,
        "remove": studio.cancel,
        "keep": studio.keep,
        "pause": jobs.pause,
        "resume": studio.resume,
        "retry": studio.retry,
        "duplicate": studio.duplicate,
        "front": jobs.to_front,
        "up": lambda job_id: _shift(studio, job_id, -1),
        "down": lambda job_id: _shift(studio, job_id, +1),
    }
    if what in _OF_ALL:
        at_home_only("the line cannot be changed")
    if what in with_all:
        with_all[what]()
    elif what in acts:
        acts[what](job_id)


def create_queue(shell: PageContext) -> gr.HTML:
    """Lay out the queue; its board, for who takes what its `edit` buttons ask for."""
    lines = board(slot("queue"), name="queue")
    shell.works(lines.act(handler(shell), None, None, **QUICK))
    return lines


def handler(shell: PageContext) -> typing.Callable:
    """What a board of jobs does when a button of it is pressed."""
    return shell.handler(lambda asked: act(shell.studio, asked.told.get("act", ""), asked.told.get("id", "")))


def _shift(studio: Studio, job_id: str, by: int) -> None:
    """One place up or down among those that wait."""
    line = [row.id for row in studio.jobs.line() if row.state in WAITING]
    if job_id not in line:
        return
    place = line.index(job_id)
    target = place + by if by < 0 else place + 2
    if place + by < 0 or place + by >= len(line):
        return
    studio.jobs.move(job_id, line[target] if target < len(line) else None)
