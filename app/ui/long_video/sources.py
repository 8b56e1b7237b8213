"""Where a long video begins: a clip of the gallery, or a person's file, first shown as the model will see it."""

from __future__ import annotations

import base64
import html
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.gallery.values import check_id
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import alert, without_folders
from app.ui.i18n import Words
from app.ui.long_video.begin import first_prompt, new_project
from app.ui.long_video.view_model import View
from app.ui.panels import QUICK, board
from app.ui.state import PageSession
from lavie.errors import LavieError
from lavie.request import Request

if typing.TYPE_CHECKING:
    import gradio as gr

KINDS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".png", ".jpg", ".jpeg", ".webp"]


@dataclass(frozen=True)
class Upload:
    """The widgets. chosen: where gradio keeps, for a day, the file that was put here; None without one."""

    file: gr.File
    chosen: gr.State
    preview: gr.HTML

    def wire(self, shell: PageContext, answer: Callable, seat: gr.State, outputs: list) -> None:
        """Show what is put here as the model will see it; begin with it when the person says so."""
        import gradio as gr

        studio = shell.studio
        # Reading a video takes its time: in gradio's queue, whose connection no proxy gives up on.
        slow = {"concurrency_limit": 1, "concurrency_id": "sources", "show_progress": "minimal"}
        slow["api_visibility"] = "private"
        shown = [self.chosen, self.preview]
        self.file.upload(shell.handler(partial(_show, studio)), self.file, shown, **slow)
        self.file.clear(lambda: (None, ""), None, shown, **QUICK)

        def begin(asked: EventContext, path: str | None, seat: PageSession) -> tuple:
            if path is None or asked.told.get("act") != "begin":
                return (gr.skip(),) * len(outputs)
            return answer(partial(from_file, path), asked, seat)

        self.preview.act(shell.handler(begin), [self.chosen, seat], outputs, **slow)


def create_upload(shell: PageContext) -> Upload:
    """Lay out the place to put a file."""
    import gradio as gr

    say = shell.say
    with gr.Accordion(say("long_upload"), open=False, elem_id="lv-long-upload"):
        file = gr.File(label=say("long_upload_hint"), file_types=KINDS, type="filepath", height=120)
        return Upload(file, gr.State(None), board(name="long-source"))


def from_clip(studio: Studio, asked: EventContext, view: View) -> View:
    """A long video that goes on behind a clip of the gallery."""
    try:
        return View(studio.long.project_of(check_id(asked.told.get("id"))))
    except LavieError as error:
        return replace(view, said=alert(str(error)))


def from_file(path: str, studio: Studio, asked: EventContext, view: View) -> View:
    """A long video that begins with a file."""
    try:
        start, notices = studio.long.start_from_file(Path(path), asked.told.get("fit", ""))
        prompt = first_prompt(studio)
        project = new_project(studio, Request(prompt), [prompt], start)
    except LavieError as error:
        return replace(view, said=alert(without_folders(str(error), path)))
    said = "".join(f'<p class="lv-note" role="status">{html.escape(note)}</p>' for note in notices)
    return View(project, said=said)


def _show(studio: Studio, asked: EventContext, path: str | None) -> tuple:
    """The end of the file as the model will see it: cropped, and with bars."""
    from app.long_videos.sources import preview

    if path is None:
        return None, ""
    size = (studio.card.width, studio.card.height) if studio.card else (512, 320)
    try:
        return path, shown(Path(path).name, preview(Path(path), size), asked.say)
    except LavieError as error:
        return None, alert(without_folders(str(error), path))


def shown(name: str, pictures: typing.Mapping[str, bytes], say: Words) -> str:
    """The board under the file. pictures: fit → PNG; one is enough where both are the same."""
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
