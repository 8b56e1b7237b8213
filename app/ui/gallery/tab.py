"""The gallery's tab: a grid of clips, one clip with its details, or some clips side by side.

Actions of other tabs on a clip get their button in `html._actions` and their case in `details`.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from functools import partial

import gradio as gr

from app.ui.context import EventContext, PageContext
from app.ui.gallery import handlers
from app.ui.gallery.details import Details, create_details
from app.ui.gallery.search import create_search
from app.ui.gallery.view_model import Opened, View
from app.ui.panels import QUICK, panel

_HIDDEN = ["lv-away"]  # CSS class of a column that is not shown


def create_tab(context: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    # Columns are hidden, not removed, so that the grid stays where it was.
    with gr.Column(elem_id="lv-browse") as browse:
        grid = _create_grid(context)
        _create_upload(context)
    with gr.Column(elem_classes=_HIDDEN, elem_id="lv-details") as one:
        details = create_details(context)
    with gr.Column(elem_classes=_HIDDEN, elem_id="lv-several") as several:
        compared = panel(name="compare", extra="in_step")
    handle_comparison = context.handler(partial(handlers.handle_comparison, context.studio))
    compared.act(handle_comparison, grid.view, [grid.view, compared], **QUICK)

    columns = {"grid": browse, "one": one, "several": several}
    show_column = context.handler(partial(_show_column, context, columns, grid, details, compared))
    outputs = [*columns.values(), context.tabs, *grid.outputs, *details.outputs, compared]
    for source in (grid.clips, details.player, details.about, details.family, compared, *context.openers):
        source.open(show_column, grid.view, outputs, **QUICK)


@dataclass(frozen=True)
class Grid:
    """The grid's widgets. outputs: what `handlers.show_page` returns."""

    clips: gr.HTML
    view: gr.State
    outputs: list


def _create_grid(context: PageContext) -> Grid:
    """Lay out the search and the grid, and wire them."""
    studio = context.studio
    view, search = gr.State(View()), create_search(context)
    clips = panel(name="clips", extra="cards")
    outputs = [view, clips]
    search.wire(context, partial(handlers.search, studio), partial(handlers.apply_query, studio), view, outputs)
    handle_grid = context.handler(partial(handlers.handle_grid, studio))
    clips.act(handle_grid, view, [*outputs, *search.fields.values()], **QUICK)
    if context.train:
        context.train(clips)
    refresh = context.handler(lambda event, view: handlers.show_page(studio, view, event.say))
    # A tab that was never open is not in the page yet, so that the studio's news do not reach it.
    gr.on([context.page.load, context.tab.select], refresh, view, outputs, **QUICK)
    return Grid(clips, view, outputs)


def _create_upload(context: PageContext) -> None:
    """Lay out the place for a file that was made here, and wire it: its recipe is shown and fills in the form."""
    say = context.say
    with gr.Accordion(say("gallery_upload"), open=False, elem_id="lv-upload"):
        file = gr.File(label=say("gallery_upload_hint"), file_types=[".mp4"], type="filepath", height=120)
        found, recipe = panel(name="upload"), gr.State(None)
    file.upload(context.handler(handlers.read_upload), file, [file, found, recipe], **QUICK)
    use_upload = context.handler(partial(handlers.use_upload, context))
    found.act(use_upload, recipe, [*context.form, context.tabs], **QUICK)


def _show_column(
    context: PageContext,
    columns: dict[str, gr.Column],
    grid: Grid,
    details: Details,
    compared: gr.HTML,
    event: EventContext,
    view: View,
) -> dict:
    """Show one clip, the chosen clips, or the grid."""
    act, studio, say = event.data.get("act", ""), context.studio, event.say
    # A hidden player must not play on, and a clip that is opened again begins anew.
    empty = {details.player: "", details.about: "", compared: "", details.opened: Opened()}
    if act == "close":
        page = dict(zip(grid.outputs, handlers.show_page(studio, view, say), strict=True))
        return {**_select("grid", columns), **empty, **page}
    if act == "compare":
        players = handlers.show_comparison(studio, view.chosen, say)
        return {**_select("several", columns), **empty, compared: players}
    tab = {context.tabs: gr.Tabs(selected="gallery")}
    return {**_select("one", columns), **empty, **tab, **details.show(studio, event.data.get("id", ""), say)}


def _select(name: str, columns: dict[str, gr.Column]) -> dict[gr.Column, typing.Any]:
    return {column: gr.Column(elem_classes=[] if other == name else _HIDDEN) for other, column in columns.items()}
