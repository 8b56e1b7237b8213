"""The adapters of the library as cards: pure functions of a shelf, in the words of one language.

All texts of an adapter are a stranger's: each is escaped here. What stands in an address is a hash of ours.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Iterable

from app.ui.adapters.view_model import CARDS, SHELF, Shelf
from app.ui.html import button, media
from app.ui.i18n import Words
from app.ui.panels import answered, editing, turns
from app.ui.settings.tab import size
from extensions.lora.adapter import MAX_NAME, MAX_WEIGHT

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow
    from app.gallery import StoredClip

_HASH = 12  # digits that are shown
_WORDS = 8  # of a maker's that are shown as buttons
_FACTS = ("title", "author", "licence", "description")


def shelf(of: Shelf, say: Words) -> str:
    """The whole board."""
    view = of.view
    said = view.said_on(SHELF)
    pages = turns("turn", view.page, -(-of.found // CARDS), say)
    head = f'<div class="lv-head"><h2>{html.escape(say("adapters"))}</h2>{pages}</div>'
    if not of.count:
        empty = html.escape(say("adapters_empty"))
        return answered(view.refused, f'{head}{said}<p class="lv-quiet lv-empty">{empty}</p>')
    label = html.escape(say("adapters_find"))
    find = (
        f'<input class="lv-field lv-find" type="search" maxlength="200" value="{html.escape(view.find)}" '
        f'placeholder="{label}" aria-label="{label}" {editing("find")}>'
    )
    find = find if of.count > 1 or view.find else ""
    cards = "".join(_card(row, of, say) for row in of.rows)
    cards = f'<ul class="lv-cards lv-shelf">{cards}</ul>' if cards else _none(say)
    return answered(view.refused, f"{head}{find}{said}{cards}")


def preview(sha256: str) -> str:
    """The address of an adapter's picture. See `app.ui.adapters.files`."""
    return f"studio/adapter/{sha256}.webp"


def _none(say: Words) -> str:
    return f'<p class="lv-quiet lv-empty" role="status">{html.escape(say("adapters_none"))}</p>'


def _card(row: AdapterRow, of: Shelf, say: Words) -> str:
    name = html.escape(row.name)
    picture = '<span class="lv-blank" aria-hidden="true"></span>'
    if row.preview is not None:
        picture = f'<img src="{preview(row.sha256)}" alt="" loading="lazy">'
    label = html.escape(say("adapter_name", name=row.name))
    rename = (
        f'<input class="lv-field lv-title" maxlength="{MAX_NAME}" value="{name}" aria-label="{label}" '
        f"{editing('rename', id=row.sha256)}>"
    )
    use = html.escape(say("adapter_use_named", name=row.name))
    wear = (
        f'<button type="button" class="lv-button lv-wear-it" data-act="wear" data-id="{row.sha256}" '
        f'aria-label="{use}">{html.escape(say("adapter_use"))}</button>'
    )
    remove = button("remove", say, id=row.sha256, sure=say("adapter_sure_remove", name=row.name))
    gone = "" if row.path.is_file() else f'<p class="lv-warn">{html.escape(say("adapter_gone"))}</p>'
    return (
        f'<li class="lv-card lv-adapter" data-id="{row.sha256}" aria-label="{name}">'
        f'<div class="lv-shot">{picture}</div>'
        f"{rename}{_summary(row, say)}{gone}{_words(row, say)}{_weights(row, say)}"
        f'<div class="lv-actions">{wear}{remove}</div>{_clips(of.clips.get(row.sha256, ()), say)}{_more(row, say)}</li>'
    )


def _summary(row: AdapterRow, say: Words) -> str:
    """What it is, in a line; and what of it does not fit."""
    card = row.card
    facts = [card.family, card.base_model, size(card.size)]
    if card.ranks:
        ranks = f"{card.ranks[0]}" if len(card.ranks) == 1 else f"{card.ranks[0]}–{card.ranks[-1]}"
        facts.insert(1, say("adapter_rank", rank=ranks))
    what = say("adapter_vectors", count=card.vectors)
    if not card.vectors:
        what = say("adapter_layers", count=card.unet_layers + card.text_layers)
    lines = f'<p class="lv-quiet">{html.escape(" · ".join(filter(None, facts)))}</p>'
    if not card.unmatched:
        return f'{lines}<p class="lv-quiet">{html.escape(what)}</p>'
    unmatched = html.escape(say("adapter_unmatched", count=card.unmatched))
    names = html.escape(", ".join(card.unmatched_names))
    wrong = f'<span class="lv-warn" title="{names}">{unmatched}</span>'
    return f'{lines}<p class="lv-quiet">{html.escape(what)} · {wrong}</p>'


def _words(row: AdapterRow, say: Words) -> str:
    """Its trigger words, each of which goes into the prompt when it is pressed."""
    if not row.card.trigger_words:
        return ""
    chips = "".join(
        f'<button type="button" class="lv-word" data-act="word" data-word="{html.escape(word)}" '
        f'title="{html.escape(say("adapter_word"))}">{html.escape(word)}</button>'
        for word in row.card.trigger_words[:_WORDS]
    )
    return f'<div class="lv-words" role="group" aria-label="{html.escape(say("adapter_words"))}">{chips}</div>'


def _weights(row: AdapterRow, say: Words) -> str:
    weight, text = f"{row.weight:g}", "" if row.set_text_weight is None else f"{row.set_text_weight:g}"
    main = _slider("weight", row, weight, say("adapter_weight"), weight)
    return main + _slider("text", row, text or weight, say("adapter_text_weight"), text or "=", follows=not text)


def _slider(which: str, row: AdapterRow, value: str, label: str, shown: str, follows: bool = False) -> str:
    """follows: whether it has no value of its own."""
    known = html.escape(f"{label}: {row.name}")
    return (
        f'<label class="lv-slide{" lv-follows" if follows else ""}"><span>{html.escape(label)}</span>'
        f'<input type="range" min="{-MAX_WEIGHT:g}" max="{MAX_WEIGHT:g}" step="0.05" value="{html.escape(value)}" '
        f'aria-label="{known}" {editing("weigh", id=row.sha256, name=which)}>'
        f"<output>{html.escape(shown)}</output></label>"
    )


def _clips(clips: Iterable[StoredClip], say: Words) -> str:
    """Some that were made with it; each leads to the gallery."""
    shots = "".join(
        f'<button type="button" class="lv-shot" data-act="show" data-id="{html.escape(clip.id)}" '
        f'aria-label="{html.escape(clip.prompt[:200])}">'
        f'<img src="{media(clip.id, "poster.webp")}" alt="" loading="lazy"></button>'
        for clip in clips
    )
    if not shots:
        return ""
    return f'<div class="lv-made" role="group" aria-label="{html.escape(say("adapter_made"))}">{shots}</div>'


def _more(row: AdapterRow, say: Words) -> str:
    """What else is known of it; folded up."""
    card = row.card
    rows = [(say(f"adapter_{name}"), html.escape(getattr(card, name))) for name in _FACTS if getattr(card, name)]
    short = f'<span title="{row.sha256}" tabindex="0">{row.sha256[:_HASH]}…</span>'
    rows.append((say("adapter_hash"), short))
    rows.append((say("adapter_parts"), html.escape(f"UNet {card.unet_layers} · Text {card.text_layers}")))
    alphas = ", ".join(f"{alpha:g}" for alpha in card.alphas[:_WORDS])
    rows += [(say("adapter_alphas"), html.escape(alphas))] if alphas else []
    rows += [(say("adapter_tags"), html.escape(", ".join(card.tags)))] if card.tags else []
    rows += [(say("adapter_unmatched_names"), html.escape(", ".join(card.unmatched_names)))] if card.unmatched else []
    rows += [(say("adapter_notes"), html.escape("; ".join(card.notes)))] if card.notes else []
    cells = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
    words = html.escape(say("adapter_more"))
    table = f'<table class="lv-table">{cells}</table>'
    return f'<details data-fold="{row.sha256}"><summary>{words}</summary>{table}</details>'
