"""The gallery's tab: a grid of clips, one of them with all that is known of it, or some side by side.

    browse.py     the grid: pages, keys, marks          cards.py          its HTML
    search.py     what is looked for                    filters.py        fields ↔ query
    details.py    one clip                              details_html.py facts.py   its HTML
    exports.py    it in other formats                   use.py            into the form
    compare.py    some clips in step                    upload.py         a file that was made here

Talks to `app.studio`; what other tabs can do with a clip gets its button in `details_html.py`.
"""

from __future__ import annotations

import typing
from functools import partial

from app.ui.context import EventContext, PageContext

if typing.TYPE_CHECKING:
    import gradio as gr

    from app.ui.gallery.browse import Browse, View
    from app.ui.gallery.details import Details


AWAY = ["lv-away"]  # the class of a column that is not seen


def create_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    import gradio as gr

    from app.ui.gallery.browse import create_browse
    from app.ui.gallery.compare import create_compare
    from app.ui.gallery.details import create_details
    from app.ui.gallery.upload import create_upload
    from app.ui.panels import QUICK

    with gr.Column(elem_id="lv-browse") as grid:
        browse = create_browse(shell)
        create_upload(shell)
    # Out of sight and not absent: whoever comes back to the grid is where they were.
    with gr.Column(elem_classes=AWAY, elem_id="lv-details") as one:
        details = create_details(shell)
    with gr.Column(elem_classes=AWAY, elem_id="lv-several") as several:
        compared = create_compare(shell, browse.view)

    columns = {"grid": grid, "one": one, "several": several}
    go = shell.handler(partial(_go, shell, columns, browse, details, compared))
    outputs = [*columns.values(), shell.tabs, *browse.outputs, *details.outputs, compared]
    for source in (browse.clips, details.player, details.about, details.family, compared, *shell.openers):
        source.open(go, browse.view, outputs, **QUICK)


def _go(
    shell: PageContext,
    columns: dict[str, gr.Column],
    browse: Browse,
    details: Details,
    compared: gr.HTML,
    asked: EventContext,
    view: View,
) -> dict:
    """To one clip, to those chosen, or back to the grid."""
    import gradio as gr

    from app.ui.gallery.browse import render
    from app.ui.gallery.compare import show
    from app.ui.gallery.details import Opened

    what, studio, say = asked.told.get("act", ""), shell.studio, asked.say
    # A player that is not seen must not go on, and a clip that is opened again begins anew.
    empty = {details.player: "", details.about: "", compared: "", details.opened: Opened()}
    tab = {shell.tabs: gr.Tabs(selected="gallery")}
    if what == "close":
        grid = dict(zip(browse.outputs, render(studio, view, say), strict=True))
        return {**_only("grid", columns), **empty, **grid}
    if what == "compare":
        return {**_only("several", columns), **empty, compared: show(studio, view.chosen, say)}
    return {**_only("one", columns), **empty, **tab, **details.show(studio, asked.told.get("id", ""), say)}


def _only(name: str, columns: dict[str, gr.Column]) -> dict:
    import gradio as gr

    return {column: gr.Column(elem_classes=[] if other == name else AWAY) for other, column in columns.items()}
