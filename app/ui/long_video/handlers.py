"""Handlers of the long-video tab: changes of a video's plan and request, of its jobs, and of what the page shows.

Values of an event come from outside: they are parsed here, and `app.long_videos.plan_edits` checks each change.
"""

from __future__ import annotations

import secrets
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from app.long_videos import plan_edits
from app.recipes.initial_frames import InitialFrames
from app.recipes.job_row import CANCELLED, FAILED, INTERRUPTED
from app.recipes.segments import plan_of
from app.studio import Studio
from app.ui import panels
from app.ui.context import EventContext
from app.ui.create.form import Form, parse_whole
from app.ui.create.handlers import act_on_queue
from app.ui.html import alert, listed
from app.ui.i18n import Words
from app.ui.long_video.view_model import ROWS, View
from extensions.long_video.plan import OVERLAPS, Segment, SegmentPlan
from extensions.long_video.script import parse_script
from lavie.errors import LavieError, RequestError, short
from lavie.request import Request

FIRST_SEGMENTS = 4  # of a new long video
FIRST_PROMPT = "a boat on a calm sea at sunset"  # where the model has no examples
_QUEUE_ACTS = ("cancel", "pause", "resume", "keep")
_KEEP_UNDO = ("undo", "select", "turn")  # all other acts change what undo would restore
_SWITCHES = ("anchored", "guarded")
_NUMBERS = ("seed", "overlap", "ramp")

Handler = Callable[[Studio, EventContext, View], View]
Change = Callable[[SegmentPlan, int, Mapping[str, str]], SegmentPlan]  # gets a segment's number, the event's data

parse_number = partial(panels.parse_number, what="number of a segment")


def handle(studio: Studio, event: EventContext, view: View) -> View:
    """Handle a button or a field; the view afterwards, with an error as its message."""
    act = event.data.get("act", "")
    if act == "refresh":
        return view
    view = replace(view, message="", undo=view.undo if act in _KEEP_UNDO else None)
    try:
        if act in _QUEUE_ACTS:
            act_on_queue(studio, act, event.data.get("id", ""))
            return view
        handler = _HANDLERS.get(act)
        return view if handler is None else handler(studio, event, view)
    except LavieError as error:
        return _refuse(view, error)


def _refuse(view: View, error: LavieError) -> View:
    return replace(view, message=alert(str(error)), refused=secrets.token_hex(4))


def new_project(studio: Studio, request: Request, prompts: list[str], start: InitialFrames | None = None) -> str:
    """Create a long video with these prompts and the overlap that suits the model; its id."""
    window = request.frames or (studio.card.frames if studio.card else 16)
    overlap = max(overlap for overlap in OVERLAPS if overlap <= max(1, min(4, window - 1)))
    count = max(len(prompts), FIRST_SEGMENTS)
    plan = plan_of(prompts, count, window=window, overlap=overlap, seed=request.seed)
    return studio.long_videos.projects.create(plan, request, studio.model, start)


def example_prompt(studio: Studio) -> str:
    return next(iter(studio.card.examples if studio.card else ()), FIRST_PROMPT)


def use_script(how: str, studio: Studio, event: EventContext, view: View, text: str) -> View:
    """Take a pasted script: `replace` all segments, `append` them, or begin a `new` video with them."""
    view = replace(view, message="", undo=None)
    projects, card = studio.long_videos.projects, studio.card
    try:
        if how == "new" or not view.project:
            fps, window = (card.fps, card.frames) if card else (8.0, 16)
            script = parse_script(text or "", fps, window, min(4, window - 1))
            prompts = [segment.prompt for segment in script.segments]
            project_id = new_project(studio, Request(prompts[0]), prompts)
            projects.change(project_id, lambda plan: plan_edits.set_plan(plan, segments=script.segments))
            return replace(View(project_id), message=_script_notes(script.said, event.say))
        project = projects.get(view.project)
        plan, fps = project.plan, project.request.fps or (card.fps if card else 8.0)
        there = 1 if how == "append" or project.start else 0
        script = parse_script(text or "", fps, plan.window, plan.overlap, there)
        before = plan.segments if how == "append" else ()
        projects.change(project.id, lambda plan: plan_edits.set_plan(plan, segments=(*before, *script.segments)))
        return replace(view, message=_script_notes(script.said, event.say), undo=plan, chosen=None)
    except LavieError as error:
        return replace(view, message=alert(str(error)))


def _script_notes(notes: Sequence[str], say: Words) -> str:
    """What the times of a script were rounded to."""
    if not notes:
        return ""
    return listed(say("long_snapped"), notes)


def _new(studio: Studio, event: EventContext, view: View) -> View:
    prompt = example_prompt(studio)
    return View(new_project(studio, Request(prompt), [prompt]))


def _rename(studio: Studio, event: EventContext, view: View) -> View:
    studio.long_videos.projects.rename(_project_id(event), event.data.get("value", ""))
    return view


def _forget(studio: Studio, event: EventContext, view: View) -> View:
    studio.long_videos.projects.delete(_project_id(event))
    return View()


def _render(studio: Studio, event: EventContext, view: View) -> View:
    """Continue a stopped job if nothing was changed since; else queue a new one for the outdated segments."""
    project = studio.long_videos.projects.get(_project_id(event))
    job = studio.job(project.job)
    if job is not None and job.open and job.state != INTERRUPTED:
        return view
    stopped = job is not None and job.state in (FAILED, CANCELLED, INTERRUPTED)
    if job is not None and stopped and (job.row.job.plan, job.row.job.start) == (project.plan, project.start):
        studio.queue.retry(job.row.id)
    else:
        studio.long_videos.render(project.id)
    return replace(view, project=project.id)


def _make_candidates(studio: Studio, event: EventContext, view: View) -> View:
    project_id, data = _project_id(event), event.data
    studio.long_videos.candidates(project_id, parse_number(data.get("n")), parse_number(data.get("value")))
    return replace(view, project=project_id)


def _pick_candidate(studio: Studio, event: EventContext, view: View) -> View:
    project_id, data = _project_id(event), event.data
    studio.long_videos.choose(project_id, parse_number(data.get("n")), parse_number(data.get("seed")))
    return replace(view, project=project_id)


def _undo(studio: Studio, event: EventContext, view: View) -> View:
    """Restore the segments before the last removal."""
    before = view.undo
    if before is None:
        return view
    try:
        _change_plan(studio, event, lambda plan: plan_edits.set_plan(plan, segments=before.segments))
    except LavieError as error:
        return replace(_refuse(view, error), undo=None)
    return replace(view, message="", undo=None)


def _edit(change: Change) -> Handler:
    def handler(studio: Studio, event: EventContext, view: View) -> View:
        number = parse_number(event.data.get("n"))
        _change_plan(studio, event, lambda plan: change(plan, number, event.data))
        return replace(view, project=_project_id(event))

    return handler


def _undoable(change: Change) -> Handler:
    """A handler that changes one segment and can be undone."""

    def handler(studio: Studio, event: EventContext, view: View) -> View:
        before = studio.long_videos.projects.get(_project_id(event)).plan
        return replace(_edit(change)(studio, event, view), undo=before, chosen=None)

    return handler


def _insert(offset: int) -> Handler:
    """A handler that inserts a segment with the prompt of segment n before it (0) or after it (1)."""

    def handler(studio: Studio, event: EventContext, view: View) -> View:
        number = parse_number(event.data.get("n"))

        def change(plan: SegmentPlan) -> SegmentPlan:
            prompt = plan_edits.segment_of(plan, number).prompt
            return plan_edits.insert(plan, number + offset, Segment(prompt))

        _change_plan(studio, event, change)
        return _focus(replace(view, project=_project_id(event)), number + offset, "type")

    return handler


def _append(studio: Studio, event: EventContext, view: View) -> View:
    count = parse_number(event.data.get("value"))

    def change(plan: SegmentPlan) -> SegmentPlan:
        return plan_edits.append(plan, *[Segment(plan.segments[-1].prompt)] * count)

    project = studio.long_videos.projects.change(_project_id(event), change)
    return _focus(replace(view, project=project.id), len(project.plan.segments) - count, "type")


def _spread(plan: SegmentPlan, number: int, data: Mapping[str, str]) -> SegmentPlan:
    """Give all later segments this one's prompt."""
    prompt = plan_edits.segment_of(plan, number).prompt
    later = tuple(replace(segment, prompt=prompt) for segment in plan.segments[number + 1 :])
    return plan_edits.set_plan(plan, segments=(*plan.segments[: number + 1], *later))


def _set_plan(studio: Studio, event: EventContext, view: View) -> View:
    """Set a field of the plan; without a field, draw another seed for all segments without their own."""
    name, text = event.data.get("name", ""), event.data.get("value", "")
    value: typing.Any = text == "true"
    if event.data.get("act") == "reseed":
        name, value = "seed", plan_edits.draw_seed()
    elif name in _NUMBERS:
        value = parse_whole(f"the video's {name}", text)
    elif name == "strategy":
        value = text or None
    elif name not in _SWITCHES:
        raise RequestError(f"a plan has no {short(name)}: load the page again")
    _change_plan(studio, event, lambda plan: plan_edits.set_plan(plan, **{name: value}))
    return replace(view, project=_project_id(event))


def _set_form(studio: Studio, event: EventContext, view: View) -> View:
    project = studio.long_videos.projects.get(_project_id(event))
    form, name, text = Form.of(project.request), event.data.get("name", ""), event.data.get("value", "")
    if name not in Form.names():
        raise RequestError(f"there is no field {short(name)}: load the page again")
    value: typing.Any = text == "true" if isinstance(getattr(Form(), name), bool) else text
    studio.long_videos.projects.set_request(project.id, replace(form, **{name: value}).request())
    return replace(view, project=project.id)


def _change_plan(studio: Studio, event: EventContext, change: Callable[[SegmentPlan], SegmentPlan]) -> None:
    studio.long_videos.projects.change(_project_id(event), change)


def _focus(view: View, number: int, how: str) -> View:
    """Mark a segment and bring it into sight. how: `row`, or `type` to go on in its prompt."""
    return replace(view, chosen=number, page=number // ROWS, focus=f"{how} {secrets.token_hex(4)}")


def _project_id(event: EventContext) -> str:
    return event.data.get("id", "")


_HANDLERS: dict[str, Handler] = {
    "prompt": _edit(lambda plan, n, data: plan_edits.set_segment(plan, n, prompt=data.get("value", ""))),
    "seed": _edit(
        lambda plan, n, data: plan_edits.set_segment(plan, n, seed=parse_whole("a seed", data.get("value", "")))
    ),
    "frames": _edit(
        lambda plan, n, data: plan_edits.set_segment(plan, n, frames=parse_whole("frames", data.get("value", "")))
    ),
    "reroll": _edit(lambda plan, n, data: plan_edits.reroll(plan, n)),
    "lock": _edit(lambda plan, n, data: plan_edits.lock(plan, n, not plan_edits.segment_of(plan, n).locked)),
    "insert_above": _insert(0),
    "insert_below": _insert(1),
    "remove": _undoable(lambda plan, n, data: plan_edits.remove(plan, n)),
    "spread": _undoable(_spread),
    "add": _append,
    "plan": _set_plan,
    "reseed": _set_plan,
    "form": _set_form,
    "choose": lambda studio, event, view: View(studio.long_videos.projects.get(event.data.get("value", "")).id),
    "title": _rename,
    "new": _new,
    "branch": lambda studio, event, view: View(studio.long_videos.projects.duplicate(_project_id(event))),
    "forget": _forget,
    "undo": _undo,
    "render": _render,
    "try": _make_candidates,
    "pick": _pick_candidate,
    "tried": lambda studio, event, view: replace(view, hidden=(*view.hidden, event.data.get("job", ""))),
    "select": lambda studio, event, view: _focus(view, parse_number(event.data.get("n")), "row"),
    "turn": lambda studio, event, view: replace(view, page=parse_number(event.data.get("page")), chosen=None),
}
