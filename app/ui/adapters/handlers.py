"""What buttons and fields of the tab do: a change of the library, of what is prepared, of a job, or of what is seen."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from dataclasses import replace

from app.studio import Studio
from app.ui.adapters.view_model import DRAFT, SHELF, WATCHED, View
from app.ui.context import EventContext
from app.ui.create import queue
from app.ui.html import alert
from app.ui.panels import number_in
from extensions.lora.adapter import MAX_WEIGHT
from lavie.errors import LavieError, RequestError, short

_JOB = ("cancel", "pause", "resume", "retry")  # what the queue's buttons do too
_MOST = 200  # characters of what is looked for


def act(studio: Studio, asked: EventContext, view: View) -> View:
    """Do what was asked; the view behind it. What cannot be done is said in it, on the board where it was asked."""
    what = asked.told.get("act", "")
    if what == "refresh":
        return view
    view = replace(view, said="", place="")
    doing, place = _DOINGS.get(what, (None, WATCHED))
    try:
        if what in _JOB:
            queue.act(studio, what, asked.told.get("id", ""))
            return view
        return view if doing is None else doing(studio, asked, view)
    except LavieError as error:
        return refused(view, str(error), place)


def refused(view: View, message: str, place: str) -> View:
    """The view with what went wrong."""
    return replace(view, said=alert(message), place=place, refused=secrets.token_hex(4))


def _find(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, find=asked.told.get("value", "")[:_MOST].strip(), page=0)


def _rename(studio: Studio, asked: EventContext, view: View) -> View:
    studio.adapters.rename(asked.told.get("id", ""), asked.told.get("value", ""))
    return view


def _remove(studio: Studio, asked: EventContext, view: View) -> View:
    studio.adapters.remove(asked.told.get("id", ""))
    return view


def _weigh(studio: Studio, asked: EventContext, view: View) -> View:
    """A slider was moved. It is for the next use: what prompts wear already stays as it is."""
    row, value = studio.adapters.require(asked.told.get("id", "")), _weight(asked.told.get("value", ""))
    new = (row.weight, value) if asked.told.get("name") == "text" else (value, row.set_text_weight)
    studio.adapters.weigh(row.sha256, *new)
    return view


def _set(studio: Studio, asked: EventContext, view: View) -> View:
    studio.drafts.set(asked.told.get("name", ""), asked.told.get("value", ""))
    return view


def _caption(studio: Studio, asked: EventContext, view: View) -> View:
    studio.drafts.caption(asked.told.get("name", ""), asked.told.get("value", ""))
    return view


def _drop(studio: Studio, asked: EventContext, view: View) -> View:
    studio.drafts.drop(asked.told.get("name", ""))
    return view


def _clear(studio: Studio, asked: EventContext, view: View) -> View:
    studio.drafts.clear()
    return replace(view, media_page=0)


def _start(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, training=studio.drafts.start(), media_page=0)


def _choose(studio: Studio, asked: EventContext, view: View) -> View:
    chosen = asked.told.get("value", "")
    return replace(view, training=chosen, away=tuple(one for one in view.away if one != chosen))


def _away(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, away=(*view.away, asked.told.get("id", "")), training="")


def _forget(studio: Studio, asked: EventContext, view: View) -> View:
    studio.training.forget(asked.told.get("id", ""))
    return replace(view, training="")


def _take(studio: Studio, asked: EventContext, view: View) -> View:
    row = studio.training.take(asked.told.get("id", ""), number_in(asked.told.get("n")))
    words = html.escape(asked.say("training_done", name=row.name))
    return replace(view, said=f'<p class="lv-note" role="status">{words}</p>', place=WATCHED)


def _page(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, page=number_in(asked.told.get("page")))


def _media_page(studio: Studio, asked: EventContext, view: View) -> View:
    return replace(view, media_page=number_in(asked.told.get("page")))


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise RequestError(f"the weight is {short(text)}: give a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return weight


# What is asked for → how it is done, and the board that says why it cannot be.
_DOINGS: dict[str, tuple[Callable[[Studio, EventContext, View], View], str]] = {
    "find": (_find, SHELF),
    "turn": (_page, SHELF),
    "rename": (_rename, SHELF),
    "remove": (_remove, SHELF),
    "weigh": (_weigh, SHELF),
    "set": (_set, DRAFT),
    "caption": (_caption, DRAFT),
    "drop": (_drop, DRAFT),
    "clear": (_clear, DRAFT),
    "media_turn": (_media_page, DRAFT),
    "start": (_start, DRAFT),
    "training": (_choose, WATCHED),
    "away": (_away, WATCHED),
    "forget": (_forget, WATCHED),
    "take": (_take, WATCHED),
}
