"""The gallery's page of clips as HTML: pure functions of what was found, in the words of one language.

Everything that a person, a file or a model wrote is escaped here. `data-key` is the key that does the same as the
button (see `app.ui.gallery.browse`).
"""

from __future__ import annotations

import html
import typing
from collections.abc import Iterable

from app.gallery.values import MAX_RATING
from app.ui.html import STAGE_KEYS, alert, button, media
from app.ui.i18n import Words

if typing.TYPE_CHECKING:
    from app.gallery import Page, StoredClip
    from app.ui.gallery.browse import View

STAR, NO_STAR, HEART, NO_HEART, PAIR, CROSS = "★", "☆", "♥", "♡", "◧", "✕"
MAX_COMPARED = 4
_ALT = 200  # characters of a prompt that are read out for a picture


def browse(page: Page, view: View, say: Words, focus: str = "") -> str:
    """The whole board: what was found, and what can be done with it. focus: where to go on reading, if elsewhere."""
    number = len(view.cursors) + 1
    total = say("gallery_total" if page.total_is_exact else "gallery_total_more", count=page.total)
    if page.total == 1 and page.total_is_exact:
        total = say("gallery_total_one")
    where = total if number == 1 and page.next is None else f"{total} · {say('gallery_page', number=number)}"
    here = f' data-focus="{html.escape(focus)}"' if focus else ""
    status = f'<p class="lv-found" role="status" tabindex="-1"{here}>{html.escape(where)}</p>'
    turn = _turn(page, view, say)
    above = f'<div class="lv-tools">{status}{_now(view, say)}{turn}</div>{alert(view.alert) if view.alert else ""}'
    if not page.clips:
        return f"<div data-refresh>{above}{empty(view, say)}</div>"
    cards = "".join(card(clip, say, chosen=clip.id in view.chosen) for clip in page.clips)
    keys = "" if view.query.trashed else f'<p class="lv-quiet lv-keys">{html.escape(say("gallery_keys"))}</p>'
    below = f'<div class="lv-tools">{keys}{turn}</div>'
    return f'<div data-refresh>{above}<ul class="lv-cards">{cards}</ul>{below}</div>'


def refused(message: str) -> str:
    """In place of the clips, where the search itself is a mistake."""
    return f"<div data-refresh>{alert(message)}</div>"


def card(clip: StoredClip, say: Words, *, chosen: bool = False) -> str:
    """One clip: its still (the moving one is played by the script), what it is, and what people say of it."""
    known, alt = html.escape(clip.id), html.escape(clip.prompt[:_ALT])
    still, moving = media(clip.id, "poster.webp"), media(clip.id, "preview.webp")
    picture = f'<img src="{still}" data-still="{still}" data-moving="{moving}" alt="{alt}" loading="lazy">'
    badges = [f"×{clip.count}"] if clip.count > 1 else []
    badges += [say("gallery_is_missing")] if clip.missing else []
    badge = f'<span class="lv-badge">{html.escape(" · ".join(badges))}</span>' if badges else ""
    facts = html.escape(f"{say('seed')} {clip.seed} · {stages(clip.stages, say)} · {clip.width} × {clip.height}")
    marks = _trash_marks(clip, say) if clip.trashed else _marks(clip, say, chosen)
    return (
        f'<li class="lv-card" tabindex="0" data-id="{known}" aria-label="{alt}">'
        f'<button type="button" class="lv-shot" data-act="show" data-id="{known}" tabindex="-1">{picture}</button>'
        f'{badge}<p class="lv-name">{html.escape(clip.prompt)}</p><p class="lv-quiet">{facts}</p>{marks}</li>'
    )


def stages(names: str, say: Words) -> str:
    """`base+interpolation` in words; a stage that this version does not know as it is."""
    return " + ".join(say(STAGE_KEYS[name]) if name in STAGE_KEYS else name for name in names.split("+"))


def stars(clip: StoredClip, say: Words, tab: str = "") -> str:
    """Five buttons; the one that says the rating takes it away."""
    buttons = []
    for number in range(1, MAX_RATING + 1):
        on, key = number <= clip.rating, 0 if number == clip.rating else number
        label = say("gallery_rate_none") if key == 0 else say("gallery_rate", number=number)
        buttons.append(mark(STAR if on else NO_STAR, label, clip.id, str(key), on=on, tab=tab))
    return f'<span class="lv-stars" role="group" aria-label="{_rating(clip, say)}">{"".join(buttons)}</span>'


def heart(clip: StoredClip, say: Words, tab: str = "") -> str:
    """The button of favourites."""
    return mark(HEART if clip.favourite else NO_HEART, say("gallery_favourite"), clip.id, "f", clip.favourite, tab)


def mark(sign: str, label: str, clip_id: str, key: str, on: bool, tab: str = "") -> str:
    """A small button that does what a key does. tab: attributes more."""
    name = html.escape(label)
    return (
        f'<button type="button" class="lv-mark" data-act="key" data-key="{key}" data-id="{html.escape(clip_id)}" '
        f'aria-label="{name}" title="{name}" aria-pressed="{str(on).lower()}"{tab}>{sign}</button>'
    )


def empty(view: View, say: Words) -> str:
    """Nothing is there: what to do about it."""
    if view.query.trashed:
        return f'<p class="lv-quiet lv-empty">{html.escape(say("gallery_empty_trash"))}</p>'
    key = "gallery_empty" if view.asks_for_all else "gallery_empty_search"
    again = "" if view.asks_for_all else f'<div class="lv-actions">{button("reset", say)}</div>'
    return f'<div class="lv-empty"><p class="lv-quiet">{html.escape(say(key))}</p>{again}</div>'


def _marks(clip: StoredClip, say: Words, chosen: bool) -> str:
    # The keys do the same: a person without a mouse need not step through 24 times eight buttons.
    tab = ' tabindex="-1"'
    compare = mark(PAIR, say("gallery_choose"), clip.id, "c", chosen, tab)
    marks = stars(clip, say, tab) + heart(clip, say, tab) + compare + _reject(clip, say, tab)
    return f'<div class="lv-marks">{marks}</div>'


def _reject(clip: StoredClip, say: Words, tab: str) -> str:
    return mark(CROSS, say("act_reject"), clip.id, "x", False, tab).replace(' aria-pressed="false"', "")


def _trash_marks(clip: StoredClip, say: Words) -> str:
    return f'<div class="lv-actions">{trash_buttons(clip.id, say)}</div>'


def trash_buttons(clip_id: str, say: Words) -> str:
    """Out of the trash, by one way or the other."""
    purge = button("purge", say, id=clip_id, sure=say("gallery_sure_purge"))
    return button("restore", say, id=clip_id) + purge


def _rating(clip: StoredClip, say: Words) -> str:
    words = say("gallery_rated", number=clip.rating) if clip.rating else say("gallery_unrated")
    return html.escape(words)


def _turn(page: Page, view: View, say: Words) -> str:
    """To the pages before and behind; both are always there, so that nothing moves under the pointer."""
    buttons = [(button("earlier", say), bool(view.cursors)), (button("later", say), page.next is not None)]
    enabled: Iterable[str] = (
        one if there else one.replace("<button ", "<button disabled ", 1) for one, there in buttons
    )
    return f'<span class="lv-turn">{"".join(enabled)}</span>'


def _now(view: View, say: Words) -> str:
    """What can be done just now, where it moves nothing: undo, compare what is chosen, empty the trash."""
    parts = []
    if view.undo is not None:
        undo = button("undo", say, id=view.undo)
        parts.append(f'<span class="lv-now" role="status">{html.escape(say("gallery_rejected"))} {undo}</span>')
    if view.query.trashed:
        parts.append(button("empty", say, sure=say("gallery_sure_empty")))
    elif view.chosen:
        words = html.escape(say("gallery_chosen", count=len(view.chosen), most=MAX_COMPARED))
        acts = button("compare", say) if len(view.chosen) > 1 else ""
        acts += button("train", say, id=" ".join(view.chosen)) + button("unchoose", say)
        parts.append(f'<span class="lv-now">{words} {acts}</span>')
    return f'<div class="lv-tools lv-nows">{"".join(parts)}</div>' if parts else ""
