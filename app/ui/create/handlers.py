"""What the Create tab's buttons and fields do: submit and edit requests, change the queue, estimate time and memory."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from html import escape

import gradio as gr

from app.recipes.job_row import WAITING
from app.sharing import at_home_only
from app.studio import Studio
from app.ui.context import EventContext, form_values
from app.ui.create.form import Form
from app.ui.create.prompt import tag_prompt
from app.ui.html import STAGE_KEYS, alert, duration
from app.ui.i18n import Words
from lavie.errors import LavieError
from lavie.memory_mode import DECODING, MODEL, PLAIN, SEQUENTIAL, MemoryMode, MemoryPlan
from lavie.request import Request

_REORDERING = ("pause_queue", "resume_queue", "front", "up", "down")  # affect other visitors' jobs too
_GIB = 2**30
_STAGE_KEYS = {**STAGE_KEYS, DECODING: "decoding"}


def act_on_queue(studio: Studio, action: str, job_id: str) -> None:
    """Run the action of a queue button. Unknown actions do nothing.

    Raises RequestError if the job does not exist or its state does not allow the action.
    """
    queue = studio.queue
    of_queue: dict[str, Callable[[], typing.Any]] = {
        "pause_queue": queue.pause_queue,
        "resume_queue": queue.resume_queue,
        "cancel_all": queue.cancel_all,
    }
    of_job: dict[str, Callable[[str], typing.Any]] = {
        "cancel": studio.cancel,
        "remove": studio.cancel,
        "keep": queue.keep,
        "pause": queue.pause,
        "resume": queue.resume,
        "retry": queue.retry,
        "duplicate": queue.duplicate,
        "front": queue.to_front,
        "up": lambda job_id: _shift(studio, job_id, -1),
        "down": lambda job_id: _shift(studio, job_id, +1),
    }
    if action in _REORDERING:
        at_home_only("the line cannot be changed")
    if action in of_queue:
        of_queue[action]()
    elif action in of_job:
        of_job[action](job_id)


def handle_queue(studio: Studio, event: EventContext) -> None:
    act_on_queue(studio, event.data.get("act", ""), event.data.get("id", ""))


def submit(studio: Studio, event: EventContext, *values: typing.Any) -> str:
    """Queue all requests of the form, or none if one is invalid."""
    *fields, count, each_line = values
    try:
        requests = Form(*fields).requests(count, each_line)
        for request in requests:
            studio.submit(request)
    except LavieError as error:
        return alert(str(error))
    words = event.say("submitted", count=len(requests))
    return f'<p class="lv-quiet" role="status">{words}</p>' if len(requests) > 1 else ""


def start_edit(studio: Studio, event: EventContext) -> typing.Sequence[typing.Any]:
    """Load a queued job into the form. Returns its id, the edit buttons, the Generate button, a note and the fields."""
    row = studio.queue.get(event.data.get("id", "")) if event.data.get("act") == "edit" else None
    if row is None:
        return [gr.skip()] * (4 + len(Form.names()))
    prompt = tag_prompt(row.job.request.prompt, row.job.adapters, studio.adapters.names())
    fields = form_values(replace(Form.of(row.job.request), prompt=prompt))
    note = f'<p class="lv-note" role="status">{escape(event.say("editing"))}</p>'
    return row.id, gr.Row(visible=True), gr.Button(visible=False), note, *fields


def end_edit(
    studio: Studio, event: EventContext, job_id: str | None, *fields: typing.Any
) -> typing.Sequence[typing.Any]:
    """Replace the job's request by the form's. Adapters are those of the prompt's tags."""
    try:
        if job_id:
            studio.edit(job_id, Form(*fields).request(), adapters=())
    except LavieError as error:
        return gr.skip(), gr.skip(), gr.skip(), alert(str(error))
    return leave_edit(event)


def leave_edit(event: EventContext) -> typing.Sequence[typing.Any]:
    return None, gr.Row(visible=False), gr.Button(visible=True), ""


def estimate(studio: Studio, event: EventContext, *values: typing.Any) -> str:
    """Size, time and memory of the form's videos, in words."""
    *fields, count, _ = values
    try:
        requests = replace(Form(*fields), prompt="any", seed="", style="").requests(count)
    except LavieError as error:
        return alert(str(error))
    say, request = event.say, requests[0]
    outcome = say("outcome", **studio.card.outcome(request)) if studio.card else ""
    estimated = studio.estimates.of_request(request, studio.model)
    words = say("estimate_none")
    if estimated is not None:
        time = duration(estimated.seconds * len(requests), say)
        words = say("estimate", time=time)
        if estimated.memory:
            words = say("estimate_memory", time=time, memory=_gib(estimated.memory))
    planned = describe_plan(plan_memory(studio, request), bool(estimated and estimated.memory), say)
    return f'<p class="lv-facts">{escape(" · ".join(filter(None, [outcome, words, planned])))}</p>'


def plan_memory(studio: Studio, request: Request) -> MemoryPlan | None:
    """The memory plan that the request would get now; None without a loaded model or for an invalid request."""
    cascade = studio.models.cascade
    if cascade is None:
        return None
    try:
        plan = cascade.plan(cascade.resolve(request))
    except LavieError:
        return None
    return plan if plan.free is not None else None


def describe_plan(plan: MemoryPlan | None, measured: bool, say: Words) -> str:
    """Predicted peak memory, and the stages that save memory. measured: past runs give the peak, so leave it out."""
    if plan is None:
        return ""
    words = [] if measured else [say("forecast", memory=_gib(plan.peak), free=_gib(plan.free or 0))]
    saving = {stage: mode for stage, mode in plan.modes.items() if mode != PLAIN}
    words += [f"{say(_STAGE_KEYS[stage])}: {_mode_words(mode, say)}" for stage, mode in saving.items()]
    return " · ".join(words if plan.fits else [*words, say("forecast_tight")])


def last_seed(studio: Studio) -> str:
    newest = studio.gallery.newest()
    return str(newest.seed) if newest else ""


def _mode_words(mode: MemoryMode, say: Words) -> str:
    words = [say("mode_tile", pixels=mode.tile)] if mode.tile else []
    words += [say("mode_split_guidance")] if mode.split_guidance else []
    words += {MODEL: [say("mode_offload")], SEQUENTIAL: [say("mode_sequential")]}.get(mode.offload, [])
    return ", ".join(words)


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


def _shift(studio: Studio, job_id: str, by: int) -> None:
    """Move a waiting job by one place. by: -1 is up, +1 down."""
    line = [row.id for row in studio.queue.line() if row.state in WAITING]
    if job_id not in line:
        return
    place = line.index(job_id)
    before = place + by if by < 0 else place + 2
    if 0 <= place + by < len(line):
        studio.queue.move(job_id, line[before] if before < len(line) else None)
