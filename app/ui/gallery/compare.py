"""Two to four clips side by side, played in step, and what their recipes differ in."""

from __future__ import annotations

import html
import typing
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from app.gallery.values import check_id
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery.browse import View
from app.ui.gallery.facts import differences, gone
from app.ui.html import alert, button, media
from app.ui.i18n import Words
from app.ui.panels import QUICK, board
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import gradio as gr

    from app.gallery import Gallery, StoredClip


def create_compare(shell: PageContext, view: gr.State) -> gr.HTML:
    """Lay out the players, and wire them. view: has the chosen clips."""
    players = board(name="compare", extra="in_step")
    players.act(shell.handler(partial(_act, shell.studio)), view, [view, players], **QUICK)
    return players


def show(studio: Studio, chosen: Sequence[str], say: Words) -> str:
    """The clips that are still there, in the order they were chosen."""
    clips = [clip for clip in map(studio.gallery.get, chosen) if clip is not None and clip.trashed is None]
    if len(clips) < 2:
        return gone(say("gallery_compare_few"), say)
    return page(clips, _differences(studio.gallery, clips, say), say)


def page(clips: Sequence[StoredClip], below: str, say: Words) -> str:
    """The players with one control for all. below: HTML of what differs."""
    ratio = max(clip.height / clip.width for clip in clips)
    players = "".join(_player(number, clip, ratio, say) for number, clip in enumerate(clips, 1))
    play, scrub = html.escape(say("gallery_play")), html.escape(say("gallery_scrub"))
    control = (
        f'<div class="lv-tools"><button type="button" class="lv-button" data-play>{play}</button>'
        f'<input type="range" class="lv-scrub" min="0" max="1" step="0.001" value="0" data-scrub aria-label="{scrub}">'
        f"</div>"
    )
    back = f'<div class="lv-actions">{button("close", say, focus="compare")}</div>'
    heading = f'<h2 class="lv-prompt">{html.escape(say("gallery_compare"))}</h2>'
    title = f"<h3>{html.escape(say('gallery_difference'))}</h3>"
    return f'{back}{heading}<div class="lv-compared">{players}</div>{control}{title}{below}'


def _player(number: int, clip: StoredClip, ratio: float, say: Words) -> str:
    alt = html.escape(f"{number}: {clip.prompt[:200]}")
    source = f'src="{media(clip.id)}" poster="{media(clip.id, "poster.webp")}"'
    video = f'<video {source} loop muted playsinline preload="auto" aria-label="{alt}"></video>'
    words = html.escape(f"{number} · {say('seed')} {clip.seed}")
    actions = button("show", say, id=clip.id) + button("reject", say, id=clip.id)
    return (
        f'<figure><div class="lv-screen" style="aspect-ratio: {1 / ratio:.4f}">{video}</div>'
        f'<figcaption>{words}<div class="lv-actions">{actions}</div></figcaption></figure>'
    )


def merged(others: Sequence[Sequence[tuple[str, typing.Any, typing.Any]]]) -> list[tuple]:
    """Differences of one clip from each of some others, side by side: (name, its value, the first other's, …)."""
    tables = [{name: (mine, its) for name, mine, its in other} for other in others]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = []
    for name in names:
        mine = next(table[name][0] for table in tables if name in table)
        rows.append((name, mine, *(table[name][1] if name in table else mine for table in tables)))
    return rows


def _differences(gallery: Gallery, clips: Sequence[StoredClip], say: Words) -> str:
    one, *others = clips
    try:
        rows = merged([gallery.difference(one.id, other.id) for other in others])
    except LavieError as error:
        return alert(str(error))
    heads = [f"{number} · {clip.seed}" for number, clip in enumerate(clips, 1)]
    return differences(rows, heads) or f'<p class="lv-quiet">{html.escape(say("gallery_same"))}</p>'


def _act(studio: Studio, asked: EventContext, view: View):
    """A clip of those compared goes into the trash."""
    import gradio as gr

    clip_id = asked.told.get("id", "")
    if asked.told.get("act") != "reject":
        return gr.skip(), gr.skip()
    try:
        studio.gallery.delete(check_id(clip_id))
    except LavieError as error:
        return view, gone(str(error), asked.say)
    chosen = tuple(other for other in view.chosen if other != clip_id)
    view = replace(view, chosen=chosen, undo=clip_id)
    return view, show(studio, view.chosen, asked.say)
