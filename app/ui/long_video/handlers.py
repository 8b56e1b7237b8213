"""What buttons and fields of the tab do: a change of what the database holds, and of what the page looks at."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from app.long_videos import plan_edits
from app.queue.job import CANCELLED, FAILED, INTERRUPTED
from app.studio import Studio
from app.ui.context import EventContext
from app.ui.create import queue
from app.ui.html import alert
from app.ui.long_video.begin import first_prompt, new_project
from app.ui.long_video.edits import EDITS, number_in, project_in, shown
from app.ui.long_video.view_model import View
from lavie.errors import LavieError
from lavie.request import Request

_JOB = ("cancel", "pause", "resume", "keep")  # what the queue's buttons do too
_KEEPS_UNDO = ("undo", "select", "turn")  # all others change what it would take back


def act(studio: Studio, asked: EventContext, view: View) -> View:
    """Do what was asked; the view behind it. What cannot be done is said in it."""
    told, what = asked.told, asked.told.get("act", "")
    if what == "refresh":
        return view
    view = replace(view, said="", undo=view.undo if what in _KEEPS_UNDO else None)
    try:
        if what in _JOB:
            queue.act(studio, what, told.get("id", ""))
            return view
        doing = _DOINGS.get(what)
        return view if doing is None else doing(studio, asked, view)
    except LavieError as error:
        return replace(view, said=alert(str(error)), refused=secrets.token_hex(4))


def _new(studio: Studio, asked: EventContext, view: View) -> View:
    prompt = first_prompt(studio)
    return View(new_project(studio, Request(prompt), [prompt]))


def _branch(studio: Studio, asked: EventContext, view: View) -> View:
    return View(studio.long.projects.duplicate(project_in(asked.told)))


def _forget(studio: Studio, asked: EventContext, view: View) -> View:
    studio.long.projects.delete(project_in(asked.told))
    return View()


def _rename(studio: Studio, asked: EventContext, view: View) -> View:
    studio.long.projects.rename(project_in(asked.told), asked.told.get("value", ""))
    return view


def _choose(studio: Studio, asked: EventContext, view: View) -> View:
    return View(studio.long.projects.get(asked.told.get("value", "")).id)


def _render(studio: Studio, asked: EventContext, view: View) -> View:
    """What stopped goes on in its own job, if nothing was changed since; else a new one makes what is missing."""
    project = studio.long.projects.get(project_in(asked.told))
    job = studio.job(project.job)
    if job is not None and job.open and job.state != INTERRUPTED:
        return view
    again = job is not None and job.state in (FAILED, CANCELLED, INTERRUPTED)
    if again and (job.row.job.plan, job.row.job.start) == (project.plan, project.start):
        studio.retry(job.row.id)
    else:
        studio.long.render(project.id)
    return replace(view, project=project.id)


def _try(studio: Studio, asked: EventContext, view: View) -> View:
    told = asked.told
    studio.long.candidates(project_in(told), number_in(told.get("n")), number_in(told.get("value")))
    return replace(view, project=project_in(told))


def _pick(studio: Studio, asked: EventContext, view: View) -> View:
    told = asked.told
    studio.long.choose(project_in(told), number_in(told.get("n")), number_in(told.get("seed")))
    return replace(view, project=project_in(told))


def _hide(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, hidden=(*view.hidden, asked.told.get("job", "")))


def _select(studio: Studio, asked: EventContext, view: View) -> View:
    return shown(view, number_in(asked.told.get("n")), "row")


def _turn(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, page=number_in(asked.told.get("page")), chosen=None)


def _undo(studio: Studio, asked: EventContext, view: View) -> View:
    """Take the last removal back."""
    if view.undo is None:
        return view
    before = view.undo
    try:
        studio.long.projects.change(
            project_in(asked.told), lambda plan: plan_edits.set_plan(plan, segments=before.segments)
        )
    except LavieError as error:
        return replace(view, said=alert(str(error)), refused=secrets.token_hex(4), undo=None)
    return replace(view, said="", undo=None)


_DOINGS: dict[str, Callable[[Studio, EventContext, View], View]] = {
    **EDITS,
    "choose": _choose,
    "title": _rename,
    "new": _new,
    "branch": _branch,
    "forget": _forget,
    "undo": _undo,
    "render": _render,
    "try": _try,
    "pick": _pick,
    "tried": _hide,
    "select": _select,
    "turn": _turn,
}
