"""The grid: a page of what was found, and what keys and buttons of a card do."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field, replace
from functools import partial

from app.gallery import Query
from app.gallery.values import check_id
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery import cards
from app.ui.gallery.filters import Filters, asked_for, create_search
from app.ui.i18n import Words
from app.ui.panels import QUICK, board
from lavie.errors import LavieError, RequestError

if typing.TYPE_CHECKING:
    import gradio as gr

PAGE = 24  # clips


@dataclass(frozen=True)
class View:
    """What one open page looks at.

    cursors: `after` of each page behind the first, down to the one that is shown; following: of the one behind it.
    chosen: ids to compare. undo: id of the clip that was put into the trash last. alert: what went wrong last.
    """

    query: Query = field(default_factory=Query)
    cursors: tuple[str, ...] = ()
    following: str | None = None
    chosen: tuple[str, ...] = ()
    undo: str | None = None
    alert: str = ""

    @property
    def asks_for_all(self) -> bool:
        """Whether nothing is left out, so that an empty page means an empty gallery."""
        return replace(self.query, sort="newest", stacked=False) == Query()


@dataclass(frozen=True)
class Browse:
    """The grid's widgets that others need. outputs: what `render` gives."""

    clips: gr.HTML
    view: gr.State
    outputs: list


def create_browse(shell: PageContext) -> Browse:
    """Lay out the search and the grid, and wire them."""
    import gradio as gr

    studio = shell.studio
    view, search = gr.State(View()), create_search(shell)
    clips = board(name="clips", extra="cards")
    outputs = [view, clips]
    search.wire(shell, partial(_search, studio), partial(_use, studio), view, outputs)
    fields = list(search.fields.values())
    clips.act(shell.handler(partial(_act, studio)), view, [*outputs, *fields], **QUICK)
    if shell.train:
        shell.train(clips)
    fresh = shell.handler(lambda asked, view: render(studio, view, asked.say))
    # A tab that was never open is not in the page yet, so that no news of the studio's reaches it.
    gr.on([shell.page.load, shell.tab.select], fresh, view, outputs, **QUICK)
    return Browse(clips, view, outputs)


def render(studio: Studio, view: View, say: Words, focus: str = "") -> tuple[View, str]:
    """The page that a view looks at, and the view as it is then. Where a page has become empty, the one before it."""
    try:
        page = studio.gallery.page(view.query, view.cursors[-1] if view.cursors else None, PAGE)
    except LavieError as error:
        return view, cards.refused(str(error))
    if not page.clips and view.cursors:
        return render(studio, replace(view, cursors=view.cursors[:-1]), say, focus)
    view = replace(view, following=page.next)
    return view, cards.browse(page, view, say, focus)


def mark(studio: Studio, clip_id: str, key: str) -> None:
    """What a key says of a clip: 0 … 5 rate it, f makes it a favourite or not, x puts it into the trash."""
    gallery = studio.gallery
    check_id(clip_id)
    if key == "f":
        gallery.favourite(clip_id, not gallery.require(clip_id).favourite)
    elif key == "x":
        gallery.delete(clip_id)
    elif len(key) == 1 and key in "012345":
        gallery.rate(clip_id, int(key))


def _search(studio: Studio, asked: EventContext, view: View, *values):
    """From the first page on; what is marked for comparing stays so."""
    query = asked_for(values)
    if isinstance(query, str):
        return replace(view, alert=""), cards.refused(query)
    return render(studio, View(query, chosen=view.chosen), asked.say)


def _use(studio: Studio, asked: EventContext, view: View, query: Query):
    """A search that was kept, with the fields that say the same."""
    return *render(studio, View(query, chosen=view.chosen), asked.say), *Filters.of(query).values()


def _act(studio: Studio, asked: EventContext, view: View):
    """A button or a key of the board; what cannot be done is said above the clips."""
    import gradio as gr

    told, what = asked.told, asked.told.get("act", "")
    unchanged = [gr.skip()] * len(Filters.names())
    if what == "reset":
        return _use(studio, asked, view, Query())
    if what == "refresh" and view.cursors:  # new clips come first: nothing moves on the pages behind
        return gr.skip(), gr.skip(), *unchanged
    focus = ""
    if what in ("earlier", "later"):
        view = _turned(view, what)
        focus = f"page {len(view.cursors)}"
    try:
        view = replace(_changed(studio, view, what, told.get("id", ""), told.get("key", "")), alert="")
    except LavieError as error:
        view = replace(view, alert=str(error))
    return *render(studio, view, asked.say, focus), *unchanged


def _turned(view: View, what: str) -> View:
    """A page on or back, as far as there is one."""
    cursors = view.cursors[:-1]
    if what == "later":
        cursors = (*view.cursors, view.following) if view.following else view.cursors
    return replace(view, cursors=cursors, undo=None)


def _changed(studio: Studio, view: View, what: str, clip_id: str, key: str) -> View:
    """The view behind what was done to a clip. Raises what the gallery raises."""
    gallery = studio.gallery
    match what, key:
        case "key", "c":
            return replace(view, chosen=_toggled(studio, view.chosen, clip_id))
        case "key", "x":
            mark(studio, clip_id, key)
            chosen = tuple(other for other in view.chosen if other != clip_id)
            return replace(view, undo=None if view.query.trashed else clip_id, chosen=chosen)
        case "key", _:
            mark(studio, clip_id, key)
        case (("undo" | "restore"), _):
            gallery.restore(check_id(clip_id))
            return replace(view, undo=None)
        case "purge", _:
            gallery.purge([check_id(clip_id)])
        case "empty", _:
            gallery.purge()
        case "unchoose", _:
            return replace(view, chosen=())
    return view


def _toggled(studio: Studio, chosen: tuple[str, ...], clip_id: str) -> tuple[str, ...]:
    if clip_id in chosen:
        return tuple(other for other in chosen if other != clip_id)
    studio.gallery.require(check_id(clip_id))
    if len(chosen) == cards.MAX_COMPARED:
        raise RequestError(f"{len(chosen)} clips are chosen, no more can be compared at once: leave one out first")
    return *chosen, clip_id
