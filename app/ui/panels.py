"""Our own HTML inside gradio's page: a board shows fragments, and its buttons come back as events.

A fragment is a slot that `assets/studio.js` fills (`data-live`), or what a handler returns. A click on an element with
`data-act` triggers the board's `act`, which brings the element's `data-…` along (see `Shell.handler`); what leads to
another view of the page triggers its `open`, what continues a clip its `extend`, what trains on clips its `train`. A
field with `data-edit` triggers `act` when it has changed: `act` is what it says there, `value` what it holds.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Iterable

from app.ui.i18n import Words
from lavie.errors import RequestError, short

if typing.TYPE_CHECKING:
    import gradio as gr


def editing(act: str, **data: str) -> str:
    """The attributes of a field whose change does something."""
    known = "".join(f' data-{name}="{html.escape(value)}"' for name, value in data.items())
    return f'data-edit="{act}"{known}'


def switch(attributes: str, on: bool, label: str, hint: str) -> str:
    """On or off."""
    return (
        f'<label class="lv-check"><input type="checkbox" {attributes}{" checked" if on else ""}>'
        f"<span>{html.escape(label)}<small>{html.escape(hint)}</small></span></label>"
    )


def text(attributes: str, value: str, label: str, hint: str = "", more: str = "") -> str:
    """One line. more: attributes of the input alone."""
    return _labelled(label, hint, f'<input class="lv-field" value="{html.escape(value)}" {more} {attributes}>')


def lines(attributes: str, value: str, label: str, hint: str = "", more: str = "") -> str:
    """Several lines."""
    # A line break behind the tag is not part of the text: one that is must stand behind another.
    inside = f'<textarea class="lv-field" rows="3" {more} {attributes}>\n{html.escape(value)}</textarea>'
    return _labelled(label, hint, inside)


def choice(attributes: str, choices: Iterable[tuple[str, str]], value: str, label: str, hint: str = "") -> str:
    """One of some. choices: value and words."""
    return _labelled(label, hint, f'<select class="lv-field" {attributes}>{options(choices, value)}</select>')


def options(choices: Iterable[tuple[str, str]], value: str) -> str:
    """What there is to choose from, one of it chosen."""
    return "".join(
        f'<option value="{html.escape(one)}"{" selected" if one == value else ""}>{html.escape(words)}</option>'
        for one, words in choices
    )


def turns(act: str, page: int, pages: int, say: Words) -> str:
    """To the pages before and behind, of something on boards; nothing where there is one only. page: from 0."""
    if pages < 2:
        return ""
    words = html.escape(say("long_page", number=page + 1, count=pages))
    back, on = (
        f'<button type="button" class="lv-button" data-act="{act}" data-page="{to}"'
        f"{'' if 0 <= to < pages else ' disabled'}>{html.escape(name)}</button>"
        for to, name in ((page - 1, say("act_earlier")), (page + 1, say("act_later")))
    )
    return f'<span class="lv-turn"><span class="lv-quiet">{words}</span>{back}{on}</span>'


def _labelled(label: str, hint: str, field: str) -> str:
    said = f"<small>{html.escape(hint)}</small>" if hint else ""
    return f'<label class="lv-labelled"><span>{html.escape(label)}{said}</span>{field}</label>'


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
