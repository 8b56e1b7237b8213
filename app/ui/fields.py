"""Fields of our boards as HTML: what is typed or chosen comes back as an event (see `app.ui.boards`). Pure functions.

attributes: what the event brings along, of `editing`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from app.ui.language import Words


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
