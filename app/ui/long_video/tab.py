"""The long-video tab: segments with their prompts, the timeline with its measurements, and the rendered video.

Every edit is stored in the database at once (`app.long_videos.projects`), so that any page shows the same.
"""

from __future__ import annotations

import typing
from dataclasses import replace
from functools import partial

import gradio as gr

from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.i18n import Words
from app.ui.long_video.handlers import Handler, handle, use_script
from app.ui.long_video.html import (
    render_advanced,
    render_projects,
    render_screen,
    render_segments,
    render_settings,
)
from app.ui.long_video.timeline import render_timeline
from app.ui.long_video.uploads import begin_with_clip, create_join, create_upload
from app.ui.long_video.view_model import View, build_view_model, list_projects
from app.ui.panels import QUICK, panel, sequence, sequence_panel, slot
from app.ui.state import PageSession

# Edits come as fast as a person moves from field to field: none may be dropped, or overtaken on its way back.
_EVERY: dict[str, typing.Any] = {**QUICK, "trigger_mode": "multiple"}
_PANELS = ("projects", "segments", "timeline", "player", "settings", "advanced")
_BARS = f'<section class="lv-live" id="lv-long-bars">{slot("bars")}</section>'


def create_tab(context: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    say, studio, panels = context.say, context.studio, {}
    session = gr.State(PageSession(View))
    panels["projects"], order = panel(name="long-projects"), sequence_panel("long-turn")
    with gr.Row(elem_id="lv-long"):
        with gr.Column(scale=7, min_width=320, elem_id="lv-long-main"):
            panels["segments"] = panel(name="long-segments")
            panels["timeline"] = panel(name="long-timeline")
        with gr.Column(scale=5, min_width=320, elem_id="lv-long-side"):  # stays in sight beside a long table
            with gr.Column(elem_id="lv-long-first"):  # comes first where only one column fits
                panels["player"] = panel(name="long-player")
                panel(_BARS, name="long-live")
            with gr.Column(elem_id="lv-long-more"):
                panels["settings"] = panel(name="long-settings")
                with gr.Accordion(say("advanced"), open=False, elem_id="lv-long-advanced-fold"):
                    panels["advanced"] = panel(name="long-advanced")
                text, script_buttons = _create_script(context)
                upload = create_upload(context)
                create_join(context)
    outputs = [*(panels[name] for name in _PANELS), order]

    answer = partial(_answer, studio)
    handler = context.handler(partial(answer, handle))
    for one in (*panels.values(), order):
        one.act(handler, session, outputs, **_EVERY)
    gr.on([context.page.load, context.tab.select], handler, session, outputs, **_EVERY)
    for how, button in script_buttons.items():
        use = context.handler(partial(answer, partial(use_script, how)))
        button.click(use, [session, text], outputs, **_EVERY)
    upload.wire(context, answer, session, outputs)
    context.openers += [panels["projects"], panels["player"]]
    context.extend = partial(_wire_extend, context, answer, session, outputs)


def _create_script(context: PageContext) -> tuple[gr.Textbox, dict[str, gr.Button]]:
    """Lay out the place for a pasted script: its lines, and the buttons for what becomes of it."""
    say = context.say
    with gr.Accordion(say("long_script"), open=False, elem_id="lv-long-script"):
        text = gr.Textbox(
            label=say("long_script_lines"), info=say("long_script_hint"), lines=5, max_lines=20, elem_id="lv-script"
        )
        with gr.Row():
            buttons = {how: gr.Button(say(f"long_script_{how}"), size="sm") for how in ("replace", "append", "new")}
    return text, buttons


def _answer(
    studio: Studio,
    handler: Handler | typing.Callable[..., View],
    event: EventContext,
    session: PageSession[View],
    *values: typing.Any,
) -> tuple:
    """Run a handler, one at a time for a page, and render the panels."""
    with session.lock:
        view = session.view
        if not view.project:
            view = replace(view, project=event.cookies.get("project", ""))
        session.view, *panels = render(studio, handler(studio, event, view, *values), event.say)
        session.answers += 1
        return *panels, sequence(session.answers)


def render(studio: Studio, view: View, say: Words) -> tuple:
    """The view as it is now, and the panels' HTML in the order of `_PANELS`."""
    video = build_view_model(studio, view)
    projects = render_projects(video, list_projects(studio, say), view.message, say)
    if video is None:
        return view, projects, "", "", "", "", ""
    rest = (render_segments, render_timeline, render_screen, render_settings, render_advanced)
    return video.view, projects, *(one(video, say) for one in rest)


def _wire_extend(
    context: PageContext, answer: typing.Callable, session: gr.State, outputs: list, source: gr.HTML
) -> None:
    """Make the `extend` buttons of a panel continue a clip here."""

    def extend(event: EventContext, session: PageSession[View]) -> tuple:
        return gr.Tabs(selected="long"), *answer(begin_with_clip, event, session)

    source.extend(context.handler(extend), session, [context.tabs, *outputs], **_EVERY)
