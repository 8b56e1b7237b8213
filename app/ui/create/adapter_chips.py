"""What a prompt wears: the adapters that its tags ask for, shown below it, put into it, taken out of it."""

from __future__ import annotations

import html
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace

from app.ui.i18n import Words
from extensions.lora.tags import TAG, TagWeights, find_adapters, take_tags, with_tags
from extensions.lora.training.settings import usual_caption
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from extensions.lora.adapter import Adapter

_GAP = re.compile(r"[ \t]{2,}")


def chips(prompt: str, names: Mapping[str, str], say: Words) -> str:
    """What is worn, each with the way to take it off; what cannot be is told. names: of the library → sha256."""
    found = [_chip(number, match[0], names, say) for number, match in enumerate(TAG.finditer(prompt))]
    if not found:
        return ""
    return f'<div class="lv-worn" role="group" aria-label="{html.escape(say("worn"))}">{"".join(found)}</div>'


def remove_tag(prompt: str, number: str) -> str:
    """The prompt without one of its tags. number: from 0, as text from the page; another one changes nothing."""
    found = [match for place, match in enumerate(TAG.finditer(prompt)) if str(place) == number]
    for match in found:
        prompt = f"{prompt[: match.start()]} {prompt[match.end() :]}"
    return _GAP.sub(" ", prompt).strip() if found else prompt


def add_tag(prompt: str, adapter: Adapter, words: Iterable[str] = ()) -> str:
    """The prompt with an adapter at its weight, whatever it had of it before, and with words that call it."""
    mine = [place for place, match in enumerate(TAG.finditer(prompt)) if _names(match[0], adapter.name)]
    for place in reversed(mine):
        prompt = remove_tag(prompt, str(place))
    for word in words:
        prompt = with_word(prompt, word)
    return with_tags(prompt, [adapter]).strip()


def with_word(prompt: str, word: str) -> str:
    """The prompt with a word that calls what an adapter knows, where it does not have it yet."""
    text = TAG.sub(" ", prompt).strip()
    if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE):
        return prompt
    return f"{prompt.rstrip()}, {word}" if text else f"{prompt} {usual_caption(word)}".strip()


def tagged(prompt: str, adapters: Iterable[Adapter], names: Mapping[str, str]) -> str:
    """The prompt with a tag for each adapter that something was made with, under the name that it has here now."""
    known = {sha256: name for name, sha256 in names.items()}
    return with_tags(prompt, [replace(one, name=known.get(one.sha256, one.name)) for one in adapters])


def _names(tag: str, name: str) -> bool:
    """Whether a tag is of this adapter; one that cannot be read is of none."""
    try:
        return take_tags(tag)[1][0].name.casefold() == name.casefold()
    except RequestError:
        return False


def _chip(number: int, tag: str, names: Mapping[str, str], say: Words) -> str:
    wrong, words = "", tag[:80]
    try:
        (asked,) = take_tags(tag)[1]
        words = _weighed(asked, say)
        find_adapters([asked], names)
    except RequestError as error:
        wrong = f'<span class="lv-warn">{html.escape(str(error))}</span>'
    name = html.escape(say("worn_off", name=words))
    cross = (
        f'<button type="button" class="lv-mark" data-act="take_off" data-n="{number}" aria-label="{name}" '
        f'title="{name}">✕</button>'
    )
    return f'<span class="lv-wear">{html.escape(words)}{wrong}{cross}</span>'


def _weighed(asked: TagWeights, say: Words) -> str:
    text = "" if asked.text_weight is None else f" · {say('worn_text', weight=f'{asked.text_weight:g}')}"
    return f"{asked.name} × {asked.weight:g}{text}"
