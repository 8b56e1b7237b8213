"""What a Hugging Face Space shows besides: whether what is made there lasts, and on whose quota it is made."""

from __future__ import annotations

import typing
from collections.abc import Callable
from html import escape

from app.config import StudioConfig
from app.ui import html
from app.ui.context import PageContext
from app.ui.i18n import Words
from app.ui.panels import QUICK

if typing.TYPE_CHECKING:
    import gradio as gr


def space_panel(shell: PageContext, panel: gr.HTML, trouble: Callable[[], str | None]) -> None:
    """Fill a board whenever a page is opened. trouble: what keeps snapshots from being taken."""
    show = shell.handler(lambda asked: space_notes(shell.studio.config, trouble(), asked.say))
    shell.page.load(show, None, panel, **QUICK)


def space_notes(config: StudioConfig, trouble: str | None, say: Words) -> str:
    """What a visitor has to know before they make something, as HTML."""
    notes = []
    if config.snapshots is None:
        notes.append(html.alert(say("space_no_storage")))
    elif trouble is not None:
        notes.append(html.alert(say("space_trouble", reason=html.without_folders(trouble, config.snapshots))))
    if config.zero_gpu:
        notes.append(f'<p class="lv-note">{escape(say("space_zero"))}</p>')
    return "".join(notes)
