"""Changes of a long video's plan and request, each by the name of the button or field that asks for it.

What an event says comes from outside: each value is read here, and each change is checked by `app.long_videos.plan_edits`.
"""

from __future__ import annotations

import secrets
import typing
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from app.long_videos import plan_edits
from app.studio import Studio
from app.ui import panels
from app.ui.context import EventContext
from app.ui.create.form import Form
from app.ui.long_video.view_model import ROWS, View
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError, short

number_in = partial(panels.number_in, what="number of a segment")
_SWITCHES = ("anchored", "guarded")
_NUMBERS = ("seed", "overlap", "ramp")


def _edit(change: Callable[[SegmentPlan, int, dict], SegmentPlan], **shown: typing.Any) -> Callable:
    """A doing that changes the plan: `change(plan, number, told)`. shown: fields of the view behind it."""

    def do(studio: Studio, asked: EventContext, view: View) -> View:
        told = asked.told
        number = number_in(told.get("n"))
        studio.long.projects.change(project_in(told), lambda plan: change(plan, number, told))
        return replace(view, project=project_in(told), **shown)

    return do


def _undoable(change: Callable[[SegmentPlan, int, dict], SegmentPlan]) -> Callable:
    """The same, for what takes something away: one can take it back."""

    def do(studio: Studio, asked: EventContext, view: View) -> View:
        before = studio.long.projects.get(project_in(asked.told)).plan
        return replace(_edit(change)(studio, asked, view), undo=before, chosen=None)

    return do


def _insert(behind: int) -> Callable:
    def do(studio: Studio, asked: EventContext, view: View) -> View:
        number = number_in(asked.told.get("n"))
        place = number + behind

        def change(plan: SegmentPlan) -> SegmentPlan:
            prompt = plan_edits.segment_of(plan, number).prompt
            return plan_edits.insert(plan, place, Segment(prompt))

        studio.long.projects.change(project_in(asked.told), change)
        return shown(replace(view, project=project_in(asked.told)), place, "type")

    return do


def _add(studio: Studio, asked: EventContext, view: View) -> View:
    """More segments behind the last, with its prompt."""
    count = number_in(asked.told.get("value"))

    def change(plan: SegmentPlan) -> SegmentPlan:
        return plan_edits.append(plan, *[Segment(plan.segments[-1].prompt)] * count)

    project = studio.long.projects.change(project_in(asked.told), change)
    return shown(replace(view, project=project.id), len(project.plan.segments) - count, "type")


def _spread(plan: SegmentPlan, number: int, told: dict) -> SegmentPlan:
    """One prompt for all segments behind it."""
    prompt = plan_edits.segment_of(plan, number).prompt
    behind = tuple(replace(segment, prompt=prompt) for segment in plan.segments[number + 1 :])
    return plan_edits.set_plan(plan, segments=(*plan.segments[: number + 1], *behind))


def _toggle_lock(plan: SegmentPlan, number: int, told: dict) -> SegmentPlan:
    return plan_edits.lock(plan, number, not plan_edits.segment_of(plan, number).locked)


def _set_plan(plan: SegmentPlan, told: typing.Mapping[str, str]) -> SegmentPlan:
    name, value = told.get("name", ""), told.get("value", "")
    if name in _SWITCHES:
        return plan_edits.set_plan(plan, **{name: value == "true"})
    if name in _NUMBERS:
        return plan_edits.set_plan(plan, **{name: whole_in(f"the video's {name}", value)})
    if name == "strategy":
        return plan_edits.set_plan(plan, strategy=value or None)
    raise RequestError(f"a plan has no {short(name)}: load the page again")


def _plan(studio: Studio, asked: EventContext, view: View) -> View:
    studio.long.projects.change(project_in(asked.told), lambda plan: _set_plan(plan, asked.told))
    return replace(view, project=project_in(asked.told))


def _reseed(studio: Studio, asked: EventContext, view: View) -> View:
    """Another seed for all segments that have none of their own."""
    studio.long.projects.change(
        project_in(asked.told), lambda plan: plan_edits.set_plan(plan, seed=plan_edits.draw_seed())
    )
    return replace(view, project=project_in(asked.told))


def _set_form(studio: Studio, asked: EventContext, view: View) -> View:
    """Another value of what the form has too."""
    told = asked.told
    project = studio.long.projects.get(project_in(told))
    form, name, value = Form.of(project.request), told.get("name", ""), told.get("value", "")
    if name not in Form.names():
        raise RequestError(f"there is no field {short(name)}: load the page again")
    value = value == "true" if isinstance(getattr(Form(), name), bool) else value
    studio.long.projects.set_request(project.id, replace(form, **{name: value}).request())
    return replace(view, project=project.id)


def shown(view: View, number: int, how: str) -> View:
    """The view with a segment marked and in sight. how: `row`, or `type` to go on in its prompt."""
    return replace(view, chosen=number, page=number // ROWS, focus=f"{how} {secrets.token_hex(4)}")


def project_in(told: typing.Mapping[str, str]) -> str:
    return told.get("id", "")


def whole_in(name: str, text: str) -> int | None:
    """What a person typed; None where it is empty."""
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


EDITS: dict[str, typing.Callable[[Studio, EventContext, View], View]] = {
    "prompt": _edit(lambda plan, n, told: plan_edits.set_segment(plan, n, prompt=told.get("value", ""))),
    "seed": _edit(
        lambda plan, n, told: plan_edits.set_segment(plan, n, seed=whole_in("a seed", told.get("value", "")))
    ),
    "frames": _edit(
        lambda plan, n, told: plan_edits.set_segment(plan, n, frames=whole_in("frames", told.get("value", "")))
    ),
    "reroll": _edit(lambda plan, n, told: plan_edits.reroll(plan, n)),
    "lock": _edit(_toggle_lock),
    "insert_above": _insert(0),
    "insert_below": _insert(1),
    "remove": _undoable(lambda plan, n, told: plan_edits.remove(plan, n)),
    "spread": _undoable(_spread),
    "add": _add,
    "plan": _plan,
    "reseed": _reseed,
    "form": _set_form,
}
