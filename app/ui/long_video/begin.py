"""New long videos: from nothing, from a pasted script; and a script in place of segments that are there."""

from __future__ import annotations

import html
import typing
from dataclasses import replace

from app.long_videos import plan_edits
from app.studio import Studio
from app.ui.context import EventContext
from app.ui.html import alert
from app.ui.i18n import Words
from app.ui.long_video.view_model import View
from extensions.long_video.plan import OVERLAPS
from extensions.long_video.script import parse_script
from lavie.errors import LavieError
from lavie.request import Request

if typing.TYPE_CHECKING:
    from app.recipes.initial_frames import InitialFrames

FIRST_SEGMENTS = 4  # of a new long video
FIRST_PROMPT = "a boat on a calm sea at sunset"  # where the model has no examples


def new_project(studio: Studio, request: Request, prompts: list[str], start: InitialFrames | None = None) -> str:
    """A long video with these prompts, joined as suits the model; its id."""
    window = request.frames or (studio.card.frames if studio.card else 16)
    overlap = max(overlap for overlap in OVERLAPS if overlap <= max(1, min(4, window - 1)))
    plan = studio.long.plan(
        prompts, max(len(prompts), FIRST_SEGMENTS), window=window, overlap=overlap, seed=request.seed
    )
    return studio.long.projects.create(plan, request, studio.model, start)


def first_prompt(studio: Studio) -> str:
    """What a new video shows as long as nobody says anything else."""
    return next(iter(studio.card.examples if studio.card else ()), FIRST_PROMPT)


def use_script(studio: Studio, asked: EventContext, view: View, text: str, how: str) -> View:
    """Take a pasted script: `replace` all segments, `append` them, or begin a `new` video with them."""
    view = replace(view, said="", undo=None)
    try:
        projects = studio.long.projects
        card = studio.card
        if how == "new" or not view.project:
            fps, window = (card.fps, card.frames) if card else (8.0, 16)
            script = parse_script(text or "", fps, window, min(4, window - 1))
            project = new_project(studio, Request(script.segments[0].prompt), [one.prompt for one in script.segments])
            projects.change(project, lambda plan: plan_edits.set_plan(plan, segments=script.segments))
            return replace(View(project), said=_snapped(script.said, asked.say))
        project = projects.get(view.project)
        plan, fps = project.plan, project.request.fps or (card.fps if card else 8.0)
        there = 1 if how == "append" or project.start else 0
        script = parse_script(text or "", fps, plan.window, plan.overlap, there)
        if how == "append":
            projects.change(project.id, lambda plan: plan_edits.append(plan, *script.segments))
        else:
            projects.change(project.id, lambda plan: plan_edits.set_plan(plan, segments=script.segments))
        return replace(view, said=_snapped(script.said, asked.say), undo=plan, chosen=None)
    except LavieError as error:
        return replace(view, said=alert(str(error)))


def _snapped(said: typing.Sequence[str], say: Words) -> str:
    """What the times of a script became."""
    if not said:
        return ""
    rows = "".join(f"<li>{html.escape(line)}</li>" for line in said)
    return f'<div class="lv-note" role="status">{html.escape(say("long_snapped"))}<ul>{rows}</ul></div>'
