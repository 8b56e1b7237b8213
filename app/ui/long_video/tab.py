"""The long-video tab: segments with their prompts, the timeline with its measurements, and the rendered video.

Every edit is stored in the database at once (`app.long_videos.projects`), so that any page shows the same.
"""

from __future__ import annotations

import base64
import html
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gradio as gr

from app.gallery.clip import check_id
from app.long_videos.join import NEW_FRAMES
from app.long_videos.sources import preview
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.context import answer as context_answer
from app.ui.html import action_button, alert, listed, quiet, status, strip_folders
from app.ui.i18n import Words
from app.ui.long_video.handlers import example_prompt, handle, new_project, use_script
from app.ui.long_video.html import (
    render_advanced,
    render_projects,
    render_screen,
    render_segments,
    render_settings,
)
from app.ui.long_video.timeline import render_timeline
from app.ui.long_video.view_model import View, build_view_model, list_projects
from app.ui.panels import EVERY, QUICK, panel, sequence_panel, slot, slow
from app.ui.state import PageSession
from lavie.errors import LavieError
from lavie.request import Request

KINDS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".png", ".jpg", ".jpeg", ".webp"]
_READING = slow("sources")


_PANELS = ("projects", "segments", "timeline", "player", "settings", "advanced")
_BARS = f'<section class="lv-live" id="lv-long-bars">{slot("bars")}</section>'


def create_tab(context: PageContext) -> None:
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

    def answer(handler: typing.Callable[..., View], *values: typing.Any) -> tuple:
        return context_answer(studio, render, partial(_in_project, handler), *values)

    handler = context.handler(partial(answer, handle))
    for one in (*panels.values(), order):
        one.act(handler, session, outputs, **EVERY)
    gr.on([context.page.load, context.tab.select], handler, session, outputs, **EVERY)
    for how, button in script_buttons.items():
        use = context.handler(partial(answer, partial(use_script, how)))
        button.click(use, [session, text], outputs, **EVERY)
    upload.wire(context, answer, session, outputs)
    context.openers += [panels["projects"], panels["player"]]
    context.add_lead("extend", "long", partial(answer, begin_with_clip), session, outputs, **EVERY)


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


def _in_project(
    handler: typing.Callable[..., View], studio: Studio, event: EventContext, view: View, *values: typing.Any
) -> View:
    """Run a handler on the long video that this browser showed last, where the page shows none yet."""
    view = view if view.project else replace(view, project=event.cookies.get("project", ""))
    return handler(studio, event, view, *values)


def render(studio: Studio, view: View, say: Words) -> tuple:
    """The view as it is now, and the panels' HTML in the order of `_PANELS`."""
    video = build_view_model(studio, view)
    projects = render_projects(video, list_projects(studio, say), view.message, say)
    if video is None:
        return view, projects, "", "", "", "", ""
    rest = (render_segments, render_timeline, render_screen, render_settings, render_advanced)
    return video.view, projects, *(one(video, say) for one in rest)


@dataclass(frozen=True)
class Upload:
    """The widgets. chosen: path of the uploaded file, which gradio keeps for a day; None without one."""

    file: gr.File
    chosen: gr.State
    preview: gr.HTML

    def wire(self, context: PageContext, answer: Callable, session: gr.State, outputs: list) -> None:
        """Preview an uploaded file as the model will see it, and begin a video with it at the press of a button."""
        shown = [self.chosen, self.preview]
        self.file.upload(context.handler(partial(_preview_file, context.studio)), self.file, shown, **_READING)
        self.file.clear(lambda: (None, ""), None, shown, **QUICK)

        def begin(event: EventContext, path: str | None, session: PageSession[View]) -> tuple:
            if path is None or event.data.get("act") != "begin":
                return (gr.skip(),) * len(outputs)
            return answer(partial(begin_with_file, path), event, session)

        self.preview.act(context.handler(begin), [self.chosen, session], outputs, **_READING)


def create_upload(context: PageContext) -> Upload:
    say = context.say
    with gr.Accordion(say("long_upload"), open=False, elem_id="lv-long-upload"):
        file = gr.File(label=say("long_upload_hint"), file_types=KINDS, type="filepath", height=120)
        return Upload(file, gr.State(None), panel(name="long-source"))


def begin_with_clip(studio: Studio, event: EventContext, view: View) -> View:
    """Begin a long video that continues a clip of the gallery."""
    try:
        return View(studio.long_videos.project_of(check_id(event.data.get("id"))))
    except LavieError as error:
        return replace(view, message=alert(str(error)))


def begin_with_file(path: str, studio: Studio, event: EventContext, view: View) -> View:
    try:
        start, notices = studio.long_videos.start_from_file(Path(path), event.data.get("fit", ""))
        prompt = example_prompt(studio)
        project_id = new_project(studio, Request(prompt), [prompt], start)
    except LavieError as error:
        return replace(view, message=alert(strip_folders(str(error), path)))
    return View(project_id, message="".join(map(status, notices)))


def _preview_file(studio: Studio, event: EventContext, path: str | None) -> tuple[str | None, str]:
    """The end of a file as the model will see it: cropped, and with bars."""
    if path is None:
        return None, ""
    size = (studio.card.width, studio.card.height) if studio.card else (512, 320)
    try:
        return path, render_preview(Path(path).name, preview(Path(path), size), event.say)
    except LavieError as error:
        return None, alert(strip_folders(str(error), path))


def render_preview(name: str, pictures: Mapping[str, bytes], say: Words) -> str:
    """The pictures with a button each. pictures: fit → PNG; equal ones are shown once."""
    fits = list(pictures) if len(set(pictures.values())) > 1 else list(pictures)[:1]
    figures = "".join(_fit(fit, pictures[fit], len(fits) > 1, say) for fit in fits)
    return f'{quiet(say("long_upload_seen", name=name))}<div class="lv-fits">{figures}</div>'


def _fit(fit: str, picture: bytes, named: bool, say: Words) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    label = html.escape(say(f"long_fit_{fit}") if named else say("long_begin"))
    begin = action_button("begin", label, fit=fit)
    return f'<figure><img src="{source}" alt="{label}"><figcaption>{begin}</figcaption></figure>'


def create_join(context: PageContext) -> None:
    """Lay out the place for files that are joined by generated transitions, and wire it."""
    say, card = context.say, context.studio.card
    usual = min(NEW_FRAMES, max(card.frames - 2, 1)) if card else NEW_FRAMES
    with gr.Accordion(say("lead_title"), open=False, elem_id="lv-long-leading"):
        files = gr.File(
            label=say("lead_files"),
            file_count="multiple",
            file_types=KINDS,
            type="filepath",
            allow_reordering=True,
            height=160,
            elem_id="lv-lead-files",
        )
        prompts = gr.Textbox(
            label=say("lead_prompt"), info=say("lead_prompt_hint"), lines=2, max_lines=8, elem_id="lv-lead-prompt"
        )
        frames = gr.Number(
            usual, label=say("lead_frames"), info=say("lead_frames_hint"), precision=0, elem_id="lv-lead-frames"
        )
        go = gr.Button(say("lead_go"), elem_id="lv-lead-go")
        answer = gr.HTML(elem_id="lv-lead-answer", apply_default_css=False)
    go.click(context.handler(partial(join_files, context.studio)), [files, prompts, frames], answer, **_READING)


def join_files(
    studio: Studio, event: EventContext, files: Sequence[str] | None, prompts: str | None, frames: int | None
) -> str:
    """Queue a video of the files, a prompt a line for the transitions; HTML of the notes or the error."""
    paths, notes = [Path(file) for file in files or ()], list[str]()
    lines = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
    try:
        studio.long_videos.join(paths, lines, frames=frames, report=notes.append)
    except LavieError as error:
        return alert(strip_folders(str(error), *paths))
    return listed(event.say("lead_queued"), notes)
