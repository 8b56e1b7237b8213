"""Help with a prompt: the model's known words and limits, and chips of the adapters that its tags name."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from app.models.card import ModelCard
from app.studio import Studio
from app.ui.html import action_button, fold, named
from app.ui.i18n import Words
from extensions.lora.adapter import Adapter
from extensions.lora.tags import TAG, TagWeights, find_adapters, take_tags, with_tags
from extensions.lora.training.settings import usual_caption
from lavie.errors import RequestError

_SPACES = re.compile(r"[ \t]{2,}")


def prompt_help(studio: Studio, prompt: str, say: Words) -> str:
    """Unknown words and token count of a prompt, and the words that the model offers."""
    reading = _reading(studio, prompt or "", say)
    groups = studio.card.words if studio.card else {}
    rows = "".join(_word_group(words, prompt or "") for words in groups.values())
    rows = rows and fold(say("words_known"), rows, " open")
    return f'<div class="lv-reading" role="status">{reading}</div>{rows}'


def insert_word(card: ModelCard | None, prompt: str, word: str) -> str:
    """Replace a word of the same group in the prompt, else append; an empty prompt becomes an example of the model."""
    groups = card.words if card else {}
    group = next((words for words in groups.values() if word in words), None)
    if card is None or group is None:
        return prompt
    if not prompt.strip():
        prompt = next(iter(card.examples), "")
    others = sorted((re.escape(other) for other in group), key=len, reverse=True)
    found = re.search(rf"\b({'|'.join(others)})\b", prompt, re.IGNORECASE)
    if found:
        return prompt[: found.start()] + word + prompt[found.end() :]
    return f"{prompt.rstrip()} {word}".lstrip()


def adapter_chips(prompt: str, names: Mapping[str, str], say: Words) -> str:
    """A chip with a remove button for each adapter tag, with its error if it is invalid. names: name → SHA-256."""
    chips = [_chip(number, match[0], names, say) for number, match in enumerate(TAG.finditer(prompt))]
    if not chips:
        return ""
    return f'<div class="lv-worn" role="group" aria-label="{html.escape(say("worn"))}">{"".join(chips)}</div>'


def remove_tag(prompt: str, number: str) -> str:
    """The prompt without one of its tags; unchanged for an invalid number. number: from 0, as text from the page."""
    found = [match for place, match in enumerate(TAG.finditer(prompt)) if str(place) == number]
    for match in found:
        prompt = f"{prompt[: match.start()]} {prompt[match.end() :]}"
    return _SPACES.sub(" ", prompt).strip() if found else prompt


def add_tag(prompt: str, adapter: Adapter, words: Iterable[str] = ()) -> str:
    """The prompt with trigger words and a tag with the adapter's weight, in place of its former tags."""
    former = [place for place, match in enumerate(TAG.finditer(prompt)) if _is_tag_of(match[0], adapter.name)]
    for place in reversed(former):
        prompt = remove_tag(prompt, str(place))
    for word in words:
        prompt = add_word(prompt, word)
    return with_tags(prompt, [adapter]).strip()


def add_word(prompt: str, word: str) -> str:
    """The prompt with a trigger word, unless it has it already."""
    text = TAG.sub(" ", prompt).strip()
    if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE):
        return prompt
    return f"{prompt.rstrip()}, {word}" if text else f"{prompt} {usual_caption(word)}".strip()


def tag_prompt(prompt: str, adapters: Iterable[Adapter], names: Mapping[str, str]) -> str:
    """The prompt with a tag for each adapter of a clip, under the adapter's current name."""
    current = {sha256: name for name, sha256 in names.items()}
    return with_tags(prompt, [replace(one, name=current.get(one.sha256, one.name)) for one in adapters])


def _reading(studio: Studio, prompt: str, say: Words) -> str:
    whole = prompt.encode(errors="replace").decode()  # tokenizers do not take lone surrogates
    text = TAG.sub(" ", whole)
    report = studio.read_prompt(text) if text.strip() else None
    if report is None:
        return "&nbsp;"  # keeps the height, so that the page does not jump
    if report.cut:
        return f'<span class="lv-warn">{html.escape(say("words_cut", cut=report.cut))}</span>'
    triggers = _trigger_words(studio, whole)
    if unknown := [word for word in report.unknown if word.casefold() not in triggers]:
        words = ", ".join(unknown)
        return f'<span class="lv-warn">{html.escape(say("words_unknown", words=words))}</span>'
    return html.escape(say("words_fit", tokens=report.tokens, limit=report.limit))


def _trigger_words(studio: Studio, prompt: str) -> set[str]:
    """Trigger words of the prompt's adapters, casefolded; empty if a tag is invalid, which its chip reports."""
    try:
        tags = take_tags(prompt)[1]
        adapters = find_adapters(tags, studio.adapters.names()) if tags else ()
    except RequestError:
        return set()
    rows = [studio.adapters.get(adapter.sha256) for adapter in adapters]
    words = (word for row in rows if row for phrase in row.card.trigger_words for word in phrase.split())
    return {word.casefold() for word in words}


def _word_group(words: Sequence[str], prompt: str) -> str:
    buttons = []
    for word in words:
        on = re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE) is not None
        more = f'aria-pressed="{str(on).lower()}"'
        buttons.append(action_button("word", html.escape(word), "lv-word", more, word=word))
    return f'<div class="lv-words">{"".join(buttons)}</div>'


def _is_tag_of(tag: str, name: str) -> bool:
    try:
        return take_tags(tag)[1][0].name.casefold() == name.casefold()
    except RequestError:
        return False


def _chip(number: int, tag: str, names: Mapping[str, str], say: Words) -> str:
    problem, words = "", tag[:80]
    try:
        (weights,) = take_tags(tag)[1]
        words = _tag_words(weights, say)
        find_adapters([weights], names)
    except RequestError as error:
        problem = f'<span class="lv-warn">{html.escape(str(error))}</span>'
    cross = action_button("take_off", "✕", "lv-mark", named(say("worn_off", name=words)), n=number)
    return f'<span class="lv-wear">{html.escape(words)}{problem}{cross}</span>'


def _tag_words(tag: TagWeights, say: Words) -> str:
    text = "" if tag.text_weight is None else f" · {say('worn_text', weight=f'{tag.text_weight:g}')}"
    return f"{tag.name} × {tag.weight:g}{text}"
