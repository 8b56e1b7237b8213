"""What a Hugging Face Space shows besides: notes at the top, and on a shared Space the tab of the public gallery."""

from __future__ import annotations

import importlib.util
import tempfile
import typing
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from app.config import StudioConfig
from app.gallery import Clip, Query
from app.gallery.clip import check_id
from app.gallery.exchange import export_zip
from app.gallery.search import find_clips
from app.sharing import in_public_gallery, list_shared, share
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import MAX_ALT, alert, button, media, moving_picture, quiet, status, strip_folders
from app.ui.i18n import Words
from app.ui.panels import QUICK, panel, slow
from lavie.errors import LavieError

SHOWN = 48  # newest clips of a section


def wire_notes(context: PageContext, notes: gr.HTML, backup_problem: Callable[[], str | None]) -> None:
    show = context.handler(lambda event: space_notes(context.studio.config, backup_problem(), event.say))
    context.page.load(show, None, notes, **QUICK)


def space_notes(config: StudioConfig, backup_problem: str | None, say: Words) -> str:
    """Warnings about missing or failing storage, and the note on ZeroGPU quota."""
    notes = []
    if config.snapshots is None:
        notes.append(alert(say("space_no_storage")))
    elif backup_problem is not None:
        notes.append(alert(say("space_trouble", reason=strip_folders(backup_problem, config.snapshots))))
    if config.zero_gpu:
        notes.append(f'<p class="lv-note">{escape(say("space_zero"))}</p>')
    return "".join(notes)


def create_tab(context: PageContext) -> None:
    """Lay out the public gallery. It does not show whose a clip is."""
    studio, say = context.studio, context.say
    with gr.Row(equal_height=True):
        export = gr.Button(say("wall_zip"), size="sm", elem_id="lv-zip")
        label = typing.cast(str, say("gallery_save_file"))  # gradio takes its labels to translate too
        save = gr.DownloadButton(label, visible=False, size="sm", variant="primary")
        if studio.config.space and studio.config.space.sign_in and importlib.util.find_spec("authlib"):  # gradio[oauth]
            gr.LoginButton(size="sm")
    exported, clips = panel(name="zip"), panel(name="wall")
    export.click(context.handler(partial(_export, studio)), None, [save, exported], **slow("export"))
    context.tab.select(context.handler(partial(_show, studio)), None, clips, **QUICK)
    clips.act(context.handler(partial(_act, studio)), None, clips, **QUICK)


def _show(studio: Studio, event: EventContext, message: str = "") -> str:
    return f"<div data-refresh>{message}{public_gallery(studio, event.say)}</div>"


def _act(studio: Studio, event: EventContext) -> str:
    action, message = event.data.get("act"), ""
    try:
        if action in ("share", "unshare"):
            share(studio.database, check_id(event.data.get("id")), action == "share")
    except LavieError as error:
        message = alert(str(error))
    return _show(studio, event, message)


def public_gallery(studio: Studio, say: Words) -> str:
    """The shared clips of all visitors, then the visitor's own clips."""
    mine, shared = find_clips(studio.gallery, Query(), None, SHOWN).clips, list_shared(studio.database)
    with in_public_gallery():
        public = find_clips(studio.gallery, Query(), None, SHOWN).clips
    own_cards = "".join(_card(clip, say, "unshare" if clip.id in shared else "share") for clip in mine)
    public_cards = "".join(_card(clip, say) for clip in public)
    return (
        f"<h2>{escape(say('wall_all'))}</h2>{_list(public_cards, say('wall_empty'))}"
        f"<h2>{escape(say('wall_mine'))}</h2>{_list(own_cards, say('wall_none'))}"
    )


def _list(cards: str, empty: str) -> str:
    return f'<ul class="lv-cards">{cards}</ul>' if cards else quiet(empty)


def _card(clip: Clip, say: Words, action: str = "") -> str:
    prompt, facts = escape(clip.prompt[:MAX_ALT]), quiet(f"{say('seed')} {clip.seed} · {clip.model}")
    actions = f'<p class="lv-actions">{button(action, say, id=clip.id)}</p>' if action else ""
    watch = f'<a href="{media(clip.id)}" target="_blank" rel="noopener">{moving_picture(clip)}</a>'
    return f'<li class="lv-card">{watch}<p>{prompt}</p>{facts}{actions}</li>'


def _export(studio: Studio, event: EventContext) -> tuple[gr.DownloadButton, str]:
    """All of the visitor's clips in one zip, with their recipes and notes, in gradio's cache for a day."""
    try:
        with tempfile.TemporaryDirectory(prefix="lavie-gallery-") as folder:
            exported = export_zip(studio.gallery, Path(folder, "my-gallery.zip"))
            path = save_file_to_cache(exported.path, get_upload_folder())
    except LavieError as error:
        return gr.DownloadButton(visible=False), alert(str(error))
    words = event.say("wall_zipped", count=len(exported.clips), left_out=len(exported.left_out))
    return gr.DownloadButton(value=path, visible=True), status(words, "lv-quiet")
