"""What a training is to learn from, as cards with captions to write in: pure functions of what is prepared."""

from __future__ import annotations

import html
import typing

from app.training.draft import number_of
from app.ui.adapters.view_model import MEDIA, MEDIA_CARDS, Preparing
from app.ui.html import button
from app.ui.i18n import Words
from app.ui.panels import answered, editing, turns
from lavie.values import MAX_PROMPT

if typing.TYPE_CHECKING:
    from app.training.media import SetItem

_REASONS = 20  # left out, of which each reason is shown


def media(of: Preparing, say: Words) -> str:
    """The whole board."""
    usable = of.media.usable
    said = of.view.said_on(MEDIA)
    left_out = [item for item in of.media.items if item.path is None]
    if not of.media.items:
        return answered(of.view.refused, f'{said}<p class="lv-quiet">{html.escape(say("train_no_media"))}</p>')
    count = html.escape(say("train_media_count", count=len(usable)))
    pages = turns("media_turn", of.view.media_page, -(-len(usable) // MEDIA_CARDS), say)
    clear = button("clear", say, sure=say("train_sure_clear"))
    head = f'<div class="lv-head"><span class="lv-found" role="status">{count}</span>{pages}{clear}</div>'
    captions = of.media.captions(of.draft.trigger or "…")
    first = of.view.media_page * MEDIA_CARDS
    cards = "".join(
        _card(of, item, captions[item.path.name], place, say)
        for place, item in enumerate(usable[first : first + MEDIA_CARDS], first + 1)
    )
    listed = f'<ul class="lv-cards lv-media">{cards}</ul>' if cards else ""
    return answered(of.view.refused, f"{said}{head}{_left_out(left_out, say)}{listed}")


def thumb(set_id: str, item: SetItem) -> str:
    """The address of a medium's picture. See `app.ui.adapters.files`."""
    return f"studio/training/{html.escape(set_id)}/media/{number_of(item)}.webp"


def _card(of: Preparing, item: SetItem, caption: str, place: int, say: Words) -> str:
    file = item.path.name
    label = html.escape(say("train_caption_of", number=place))
    drop = html.escape(say("train_drop", number=place))
    note = f'<p class="lv-quiet" title="{html.escape(item.note)}">{html.escape(item.note)}</p>' if item.note else ""
    return (
        f'<li class="lv-card lv-medium"><div class="lv-shot"><img src="{thumb(of.draft.id, item)}" '
        f'alt="{html.escape(item.name[:200])}" loading="lazy"></div>'
        f'<button type="button" class="lv-mark lv-cross" data-act="drop" data-name="{html.escape(file)}" '
        f'aria-label="{drop}" title="{drop}">✕</button>{note}'
        f'<textarea class="lv-field" rows="2" maxlength="{MAX_PROMPT}" aria-label="{label}" '
        f"{editing('caption', name=file)}>\n{html.escape(caption)}</textarea></li>"
    )


def _left_out(items: list[SetItem], say: Words) -> str:
    """What cannot be used, and why."""
    if not items:
        return ""
    rows = "".join(f"<li>{html.escape(item.name)}: {html.escape(item.problem or '')}</li>" for item in items[:_REASONS])
    more = len(items) - _REASONS
    rows += f"<li>{html.escape(say('queue_more', count=more))}</li>" if more > 0 else ""
    words = html.escape(say("train_left_out", count=len(items)))
    return f'<div class="lv-note lv-left-out" role="status">{words}<ul>{rows}</ul></div>'
