"""A clip in another format, to be saved. It is written to a temporary place, of which nothing stays behind."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from app.gallery.values import check_id
from app.media import EXPORTS, export
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import alert
from app.ui.panels import board
from lavie.errors import LavieError, RequestError, short

# Encoding takes its time: one after the other, and in gradio's queue, whose connection no proxy gives up on.
_SLOW = {"concurrency_limit": 1, "concurrency_id": "export", "show_progress": "minimal", "api_visibility": "private"}


def create_exports(shell: PageContext, opened) -> None:
    """Lay out the formats, and wire them. opened: the state that says which clip is open."""
    import gradio as gr

    say = shell.say
    with gr.Row(equal_height=True):
        kinds = [(format.description, kind) for kind, format in EXPORTS.items()]
        kind = gr.Dropdown(kinds, value="webm", label=say("gallery_export"), scale=3, min_width=280)
        clean = gr.Checkbox(
            label=say("gallery_clean"), info=say("gallery_clean_hint"), elem_classes="lv-switch", min_width=160
        )
        convert = gr.Button(say("gallery_convert"), size="sm", min_width=110)
    save = gr.DownloadButton(say("gallery_save_file"), visible=False, size="sm", variant="primary", elem_id="lv-save")
    said = board(name="export")
    convert.click(shell.handler(partial(_convert, shell.studio)), [opened, kind, clean], [save, said], **_SLOW)
    for widget in (kind, clean, opened):  # what is offered is what is chosen
        widget.change(lambda: (gr.DownloadButton(visible=False), ""), None, [save, said], queue=False)


def _convert(studio: Studio, asked: EventContext, opened, kind: str, clean: bool):
    import gradio as gr

    try:
        saved = _written(studio, opened.id, kind, recipe=not clean)
    except LavieError as error:
        return gr.DownloadButton(visible=False), alert(str(error))
    words = asked.say("gallery_save_as", name=Path(saved).name)
    return gr.DownloadButton(words, value=saved, visible=True), ""


def _written(studio: Studio, clip_id: str, kind: str, *, recipe: bool) -> str:
    """The export within gradio's cache, where files are kept for a day. Raises LavieError."""
    from gradio.processing_utils import save_file_to_cache
    from gradio.utils import get_upload_folder

    if not isinstance(kind, str) or kind not in EXPORTS:
        raise RequestError(f"there is no export {short(kind)}: choose one of {', '.join(EXPORTS)}")
    clip = studio.gallery.require(check_id(clip_id))
    with tempfile.TemporaryDirectory(prefix="lavie-export-") as folder:
        target = Path(folder, f"{clip.id}{EXPORTS[kind].suffix}")
        export(studio.gallery.path(clip), target, kind, recipe=recipe)
        return save_file_to_cache(target, get_upload_folder())
