"""Files that a person uploads to the long-video tab: one to begin a video with, or several to join."""

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
from app.ui.html import alert, strip_folders
from app.ui.i18n import Words
from app.ui.long_video.handlers import example_prompt, new_project
from app.ui.long_video.view_model import View
from app.ui.panels import QUICK, panel
from app.ui.state import PageSession
from lavie.errors import LavieError
from lavie.request import Request

KINDS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".png", ".jpg", ".jpeg", ".webp"]
# Reading a video takes long: one at a time and in gradio's queue, so that no proxy closes the connection.
_SLOW: dict[str, typing.Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "sources",
    "show_progress": "minimal",
    "api_visibility": "private",
}


@dataclass(frozen=True)
class Upload:
    """The widgets. chosen: path of the uploaded file, which gradio keeps for a day; None without one."""

    file: gr.File
    chosen: gr.State
    preview: gr.HTML

    def wire(self, context: PageContext, answer: Callable, session: gr.State, outputs: list) -> None:
        """Preview an uploaded file as the model will see it, and begin a video with it at the press of a button."""
        shown = [self.chosen, self.preview]
        self.file.upload(context.handler(partial(_preview_file, context.studio)), self.file, shown, **_SLOW)
        self.file.clear(lambda: (None, ""), None, shown, **QUICK)

        def begin(event: EventContext, path: str | None, session: PageSession[View]) -> tuple:
            if path is None or event.data.get("act") != "begin":
                return (gr.skip(),) * len(outputs)
            return answer(partial(begin_with_file, path), event, session)

        self.preview.act(context.handler(begin), [self.chosen, session], outputs, **_SLOW)


def create_upload(context: PageContext) -> Upload:
    """Lay out the place for a file to begin with."""
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
    """Begin a long video that continues an uploaded file."""
    try:
        start, notices = studio.long_videos.start_from_file(Path(path), event.data.get("fit", ""))
        prompt = example_prompt(studio)
        project_id = new_project(studio, Request(prompt), [prompt], start)
    except LavieError as error:
        return replace(view, message=alert(strip_folders(str(error), path)))
    notes = "".join(f'<p class="lv-note" role="status">{html.escape(note)}</p>' for note in notices)
    return View(project_id, message=notes)


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
    words = html.escape(say("long_upload_seen", name=name))
    figures = "".join(_fit(fit, pictures[fit], len(fits) > 1, say) for fit in fits)
    return f'<p class="lv-quiet">{words}</p><div class="lv-fits">{figures}</div>'


def _fit(fit: str, picture: bytes, named: bool, say: Words) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    label = html.escape(say(f"long_fit_{fit}") if named else say("long_begin"))
    return (
        f'<figure><img src="{source}" alt="{label}"><figcaption><button type="button" class="lv-button" '
        f'data-act="begin" data-fit="{html.escape(fit)}">{label}</button></figcaption></figure>'
    )


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
    go.click(context.handler(partial(join_files, context.studio)), [files, prompts, frames], answer, **_SLOW)


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
    rows = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<div class="lv-note" role="status">{html.escape(event.say("lead_queued"))}<ul>{rows}</ul></div>'
