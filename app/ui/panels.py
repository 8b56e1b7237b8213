"""Panels: our own HTML inside gradio's page, whose buttons and fields trigger gradio events through `assets/studio.js`.

An element with `data-act` triggers the event `open`, `extend` or `train` if its action leads to another view, else
`act`. A field with `data-edit` triggers `act` when it changes, its content as `value`. The event carries the element's
`data-…` attributes. Elements with `data-live` are slots that the script fills with pushed fragments.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Iterable

import gradio as gr

from app.ui.html import action_button, data_attributes
from app.ui.i18n import Words
from lavie.errors import RequestError, short

_TRIGGER = (
    "(data) => trigger(/^(open|show|compare|close)$/.test(data.act) ? 'open' : "
    "data.act === 'extend' ? 'extend' : data.act === 'train' ? 'train' : 'act', data)"
)
_PANEL = f"window.lavie.panel(element, {_TRIGGER});"
_EXTRAS = {
    "cards": f" window.lavie.cards(element, {_TRIGGER});",
    "in_step": " window.lavie.inStep(element);",
}
# For handlers that answer at once: not in gradio's queue, no endpoint of the HTTP interface.
QUICK: dict[str, typing.Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Edits come as fast as a person moves from field to field: none may be dropped, or overtaken on its way back.
EVERY: dict[str, typing.Any] = {**QUICK, "trigger_mode": "multiple"}


def slow(name: str) -> dict[str, typing.Any]:
    """For handlers that take long: one at a time, in gradio's queue, so that no proxy closes the connection."""
    return {"concurrency_limit": 1, "concurrency_id": name, "show_progress": "minimal", "api_visibility": "private"}


def panel(value: str = "", *, name: str, extra: typing.Literal["cards", "in_step"] | None = None) -> gr.HTML:
    """A panel with the id `lv-<name>`. extra: keys for cards, or players that run in step."""
    script = _PANEL + (_EXTRAS[extra] if extra else "")
    return gr.HTML(value, js_on_load=script, elem_id=f"lv-{name}", apply_default_css=False)


def panel_content(refused: str, content: str) -> str:
    """A panel's HTML. refused: changes with each refused edit, so that fields show the stored values again."""
    return f'<div data-answer="{refused}">{content}</div>'


def slot(name: str, kind: str = "div") -> str:
    """The element that shows the pushed fragment `name`."""
    return f'<{kind} data-live="{name}"></{kind}>'


def sequence_panel(name: str) -> gr.HTML:
    """The hidden panel that holds a tab's `sequence`, where each answer renders all panels of the tab."""
    return gr.HTML(js_on_load=_PANEL, elem_id=f"lv-{name}", elem_classes="lv-answers", apply_default_css=False)


def sequence(number: int) -> str:
    """An answer's rising number. The script asks again when an older answer arrives last, or a part has changed."""
    return f'<i data-refresh="part" data-order="{number}"></i>'


def edit_attributes(act: str, **data: str) -> str:
    """Attributes of a field whose change triggers the action `act`."""
    return f'data-edit="{act}"{data_attributes(**data)}'


def switch(attributes: str, on: bool, label: str, hint: str) -> str:
    return (
        f'<label class="lv-check"><input type="checkbox" {attributes}{" checked" if on else ""}>'
        f"<span>{html.escape(label)}<small>{html.escape(hint)}</small></span></label>"
    )


def text(attributes: str, value: str, label: str, hint: str = "", more: str = "") -> str:
    """A field of one line. more: further attributes of the input."""
    return _labelled(label, hint, f'<input class="lv-field" value="{html.escape(value)}" {more} {attributes}>')


def lines(attributes: str, value: str, label: str, hint: str = "", more: str = "") -> str:
    """A field of several lines. more: further attributes of the input."""
    # Browsers drop the first line break behind the tag.
    inside = f'<textarea class="lv-field" rows="3" {more} {attributes}>\n{html.escape(value)}</textarea>'
    return _labelled(label, hint, inside)


def choice(attributes: str, choices: Iterable[tuple[str, str]], value: str, label: str, hint: str = "") -> str:
    """A field of choices. choices: value and words of each."""
    return _labelled(label, hint, f'<select class="lv-field" {attributes}>{options(choices, value)}</select>')


def options(choices: Iterable[tuple[str, str]], value: str) -> str:
    """Options of a choice, `value` selected."""
    return "".join(
        f'<option value="{html.escape(one)}"{" selected" if one == value else ""}>{html.escape(words)}</option>'
        for one, words in choices
    )


def pager(act: str, page: int, pages: int, say: Words) -> str:
    """Buttons to the previous and next page; empty if there is only one. page: from 0."""
    if pages < 2:
        return ""
    words = html.escape(say("long_page", number=page + 1, count=pages))
    back, on = (
        action_button(act, html.escape(name), more="" if 0 <= to < pages else "disabled", page=to)
        for to, name in ((page - 1, say("act_earlier")), (page + 1, say("act_later")))
    )
    return f'<span class="lv-turn"><span class="lv-quiet">{words}</span>{back}{on}</span>'


def parse_number(text: str | None, what: str = "number") -> int:
    """A whole number of an event's data. what: its name in the error message. Raises RequestError."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{short(text)} is no {what}: load the page again")
    return int(text)


def _labelled(label: str, hint: str, field: str) -> str:
    said = f"<small>{html.escape(hint)}</small>" if hint else ""
    return f'<label class="lv-labelled"><span>{html.escape(label)}{said}</span>{field}</label>'
