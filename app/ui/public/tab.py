"""The tab of a shared Space: what visitors show each other, what of one's own is shown, and all of it as one zip.

Whose a clip is, is told to nobody.
"""

from __future__ import annotations

import html
import importlib.util
import tempfile
import typing
from functools import partial
from pathlib import Path

from app.gallery import Query
from app.gallery.values import check_id
from app.sharing.visitor import in_public_gallery, share, shared_ids
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import alert, button, media
from app.ui.i18n import Words
from app.ui.panels import QUICK, board
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip

SHOWN = 48  # clips of a section, the newest
_ALT = 200  # characters of a prompt that are read out for a picture
_SLOW = {"concurrency_limit": 1, "concurrency_id": "export", "show_progress": "minimal", "api_visibility": "private"}


def wall_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page."""
    import gradio as gr

    studio, say = shell.studio, shell.say
    with gr.Row(equal_height=True):
        gather = gr.Button(say("wall_zip"), size="sm", elem_id="lv-zip")
        save = gr.DownloadButton(say("gallery_save_file"), visible=False, size="sm", variant="primary")
        if studio.config.space.sign_in and importlib.util.find_spec("authlib"):  # gradio[oauth]
            gr.LoginButton(size="sm")
    said, wall = board(name="zip"), board(name="wall")
    gather.click(shell.handler(partial(_gather, studio)), None, [save, said], **_SLOW)
    shell.tab.select(shell.handler(partial(_show, studio)), None, wall, **QUICK)
    wall.act(shell.handler(partial(_act, studio)), None, wall, **QUICK)


def _show(studio: Studio, asked: EventContext, said: str = "") -> str:
    return f"<div data-refresh>{said}{wall_page(studio, asked.say)}</div>"


def _act(studio: Studio, asked: EventContext) -> str:
    """Show a clip of one's own, or show it no longer."""
    what, said = asked.told.get("act"), ""
    try:
        if what in ("share", "unshare"):
            share(studio.database, check_id(asked.told.get("id")), what == "share")
    except LavieError as error:
        said = alert(str(error))
    return _show(studio, asked, said)


def wall_page(studio: Studio, say: Words) -> str:
    """Both sections as HTML."""
    mine, shared = studio.gallery.page(Query(), None, SHOWN).clips, shared_ids(studio.database)
    with in_public_gallery():
        there = studio.gallery.page(Query(), None, SHOWN).clips
    own = "".join(_card(clip, say, "unshare" if clip.id in shared else "share") for clip in mine)
    others = "".join(_card(clip, say) for clip in there)
    return (
        f"<h2>{html.escape(say('wall_all'))}</h2>{_cards(others, say('wall_empty'))}"
        f"<h2>{html.escape(say('wall_mine'))}</h2>{_cards(own, say('wall_none'))}"
    )


def _cards(cards: str, empty: str) -> str:
    return f'<ul class="lv-cards">{cards}</ul>' if cards else f'<p class="lv-quiet">{html.escape(empty)}</p>'


def _card(clip: StoredClip, say: Words, act: str = "") -> str:
    still, moving = media(clip.id, "poster.webp"), media(clip.id, "preview.webp")
    alt, facts = html.escape(clip.prompt[:_ALT]), html.escape(f"{say('seed')} {clip.seed} · {clip.model}")
    picture = f'<img src="{still}" data-still="{still}" data-moving="{moving}" alt="{alt}" loading="lazy">'
    acts = f'<p class="lv-actions">{button(act, say, id=clip.id)}</p>' if act else ""
    watch = f'<a href="{media(clip.id)}" target="_blank" rel="noopener">{picture}</a>'
    return f'<li class="lv-card">{watch}<p>{alt}</p><p class="lv-quiet">{facts}</p>{acts}</li>'


def _gather(studio: Studio, asked: EventContext):
    """All clips of the visitor's in one zip, with their recipes and notes."""
    import gradio as gr

    try:
        saved, count, left_out = _zipped(studio)
    except LavieError as error:
        return gr.DownloadButton(visible=False), alert(str(error))
    words = asked.say("wall_zipped", count=count, left_out=left_out)
    return gr.DownloadButton(value=saved, visible=True), f'<p class="lv-quiet" role="status">{html.escape(words)}</p>'


def _zipped(studio: Studio) -> tuple[str, int, int]:
    """The zip within gradio's cache, where files are kept for a day; clips in it, and left out. Raises LavieError."""
    from gradio.processing_utils import save_file_to_cache
    from gradio.utils import get_upload_folder

    with tempfile.TemporaryDirectory(prefix="lavie-gallery-") as folder:
        done = studio.gallery.export(Path(folder, "my-gallery.zip"))
        return save_file_to_cache(done.path, get_upload_folder()), len(done.clips), len(done.left_out)
