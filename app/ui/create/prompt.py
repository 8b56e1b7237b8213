"""What a model makes of a prompt while it is being written: unknown words, tokens left, words to choose from."""

from __future__ import annotations

import html
import re
import typing

from app.ui.i18n import Words
from extensions.lora.tags import TAG, find_adapters, take_tags
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.models.card import ModelCard
    from app.studio import Studio


def prompt_help(studio: Studio, prompt: str, say: Words) -> str:
    """The reading of a prompt (none while the model is loading) and the words that the model offers, as HTML."""
    reading = _reading(studio, prompt or "", say)
    groups = studio.card.words if studio.card else {}
    rows = "".join(_group(words, prompt or "") for words in groups.values())
    if rows:
        rows = f"<details open><summary>{html.escape(say('words_known'))}</summary>{rows}</details>"
    return f'<div class="lv-reading" role="status">{reading}</div>{rows}'


def insert(card: ModelCard | None, prompt: str, word: str) -> str:
    """The prompt with a word of the model's: in place of one of its kind, else at the end; a sentence where empty."""
    groups = card.words if card else {}
    group = next((words for words in groups.values() if word in words), None)
    if group is None:
        return prompt
    if not prompt.strip():
        prompt = next(iter(card.examples), "")
    others = sorted((re.escape(other) for other in group), key=len, reverse=True)
    found = re.search(rf"\b({'|'.join(others)})\b", prompt, re.IGNORECASE)
    if found:
        return prompt[: found.start()] + word + prompt[found.end() :]
    return f"{prompt.rstrip()} {word}".lstrip()


def _reading(studio: Studio, prompt: str, say: Words) -> str:
    whole = prompt.encode(errors="replace").decode()  # half a character, which no tokenizer takes, is read as `?`
    text = TAG.sub(" ", whole)
    report = studio.read_prompt(text) if text.strip() else None
    if report is None:
        return "&nbsp;"  # as high as what will stand here: the page does not jump
    if report.cut:
        return f'<span class="lv-warn">{html.escape(say("words_cut", cut=report.cut))}</span>'
    brought = _brought(studio, whole)
    if unknown := [word for word in report.unknown if word.casefold() not in brought]:
        words = ", ".join(unknown)
        return f'<span class="lv-warn">{html.escape(say("words_unknown", words=words))}</span>'
    return html.escape(say("words_fit", tokens=report.tokens, limit=report.limit))


def _brought(studio: Studio, prompt: str) -> set[str]:
    """Words that the adapters of a prompt bring along, in small letters."""
    try:
        asked = take_tags(prompt)[1]
        worn = find_adapters(asked, studio.adapters.names()) if asked else ()
    except RequestError:  # which is said beside the prompt
        return set()
    rows = [studio.adapters.get(adapter.sha256) for adapter in worn]
    words = (word for row in rows if row for phrase in row.card.trigger_words for word in phrase.split())
    return {word.casefold() for word in words}


def _group(words: typing.Sequence[str], prompt: str) -> str:
    chips = []
    for word in words:
        on = re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE) is not None
        name = html.escape(word)
        chips.append(
            f'<button type="button" class="lv-word" data-act="word" data-word="{name}" '
            f'aria-pressed="{str(on).lower()}">{name}</button>'
        )
    return f'<div class="lv-words">{"".join(chips)}</div>'
