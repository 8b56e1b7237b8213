"""From one picture or video to the next: files that a person puts here, and the video that leads through them."""

from __future__ import annotations

import html
import typing
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.long_videos.join import NEW_FRAMES
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import alert, without_folders
from app.ui.long_video.sources import KINDS
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import gradio as gr


def create_leading(shell: PageContext) -> None:
    """Lay out the place to put files, what happens between them, and the button; wire them to the studio."""
    import gradio as gr

    say, card = shell.say, shell.studio.card
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
    asked: list[gr.components.Component] = [files, prompts, frames]
    # Reading videos takes its time: in gradio's queue, whose connection no proxy gives up on.
    slow = {"concurrency_limit": 1, "concurrency_id": "sources", "show_progress": "minimal"}
    go.click(shell.handler(partial(lead, shell.studio)), asked, answer, api_visibility="private", **slow)


def lead(
    studio: Studio, asked: EventContext, files: Sequence[str] | None, prompts: str | None, frames: int | None
) -> str:
    """Queue the video; what was done, or why it cannot be."""
    paths, notes = [Path(file) for file in files or ()], []
    written = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
    try:
        studio.long.join(paths, written, frames=frames, tell=notes.append)
    except LavieError as error:
        return alert(without_folders(str(error), *paths))
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<div class="lv-note" role="status">{html.escape(asked.say("lead_queued"))}<ul>{said}</ul></div>'
