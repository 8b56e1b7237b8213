"""Our own HTML inside gradio's page: a board shows fragments, and its buttons come back as events.

A fragment is a slot that `assets/studio.js` fills (`data-live`), or what a handler returns. A click on an element with
`data-act` triggers the board's `act`, which brings the element's `data-…` along (see `Shell.handler`); what leads to
another view of the page triggers its `open`, what continues a clip its `extend`, what trains on clips its `train`. A
field with `data-edit` triggers `act` when it has changed: `act` is what it says there, `value` what it holds.
"""

from __future__ import annotations

import typing

from lavie.errors import RequestError, short

if typing.TYPE_CHECKING:
    import gradio as gr

_TELL = (
    "(data) => trigger(/^(open|show|compare|close)$/.test(data.act) ? 'open' : "
    "data.act === 'extend' ? 'extend' : data.act === 'train' ? 'train' : 'act', data)"
)
_BOARD = f"window.lavie.board(element, {_TELL});"
_EXTRAS = {
    "cards": f" window.lavie.cards(element, {_TELL});",
    "in_step": " window.lavie.inStep(element);",
}
# Only asks or tells the worker: needs no place in gradio's queue, and no name in the HTTP interface.
QUICK: dict[str, typing.Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def board(value: str = "", *, name: str, extra: typing.Literal["cards", "in_step"] | None = None) -> gr.HTML:
    """A board with the id `lv-<name>`. extra: what the script adds to it: keys for cards, or players in step."""
    import gradio as gr

    script = _BOARD + (_EXTRAS[extra] if extra else "")
    return gr.HTML(value, js_on_load=script, elem_id=f"lv-{name}", apply_default_css=False)


def slot(name: str, kind: str = "div") -> str:
    """Where the script shows what the studio pushes under `name`."""
    return f'<{kind} data-live="{name}"></{kind}>'


def answered(refused: str, content: str) -> str:
    """A board's content. refused: another text whenever what was asked for could not be done: fields then show again
    what is kept."""
    return f'<div data-answer="{refused}">{content}</div>'


def turn_board(name: str) -> gr.HTML:
    """The board of a tab whose answers change all of its boards: what it shows comes from `turn`. Nobody sees it."""
    import gradio as gr

    return gr.HTML(js_on_load=_BOARD, elem_id=f"lv-{name}", elem_classes="lv-answers", apply_default_css=False)


def turn(order: int) -> str:
    """Of an answer, the later the higher. The tab is asked anew when a part of something has been made or changed, and
    when an answer has overtaken a later one on its way back and stands in its place."""
    return f'<i data-refresh="part" data-order="{order}"></i>'


def number_in(text: str | None, what: str = "number") -> int:
    """A number that the page itself has written into an event. what: for the message. Raises RequestError."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{short(text)} is no {what}: load the page again")
    return int(text)
