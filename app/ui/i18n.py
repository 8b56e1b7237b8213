"""The page's words: one JSON file for each language in `assets/languages`.

The browser translates the labels of gradio's components (`Languages.gradio`); our HTML is rendered in the language that
the browser asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.config import ROOT

FOLDER = ROOT / "assets" / "languages"
FALLBACK = "en"
_COOKIES = re.compile(r"(?:^|;)\s*lavie-(language|theme|project)=([\w-]+)")  # cookies of the page's script


@dataclass(frozen=True)
class Words:
    """The words of one language; missing ones are in English."""

    language: str
    _texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key with its values. Raises KeyError for an unknown key."""
        return self._texts[key].format(**values)


class Languages:
    """All languages of a folder."""

    def __init__(self, folder: Path = FOLDER):
        texts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        self._words = {name: Words(name, texts[FALLBACK] | own) for name, own in texts.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def words(self, asked: str | None) -> Words:
        """The best match for a language name or a header such as `de-CH, de;q=0.9, en;q=0.8`."""
        wishes = []
        for place, wish in enumerate((asked or "").replace(" ", "").split(",")):
            tag, _, quality = wish.partition(";q=")
            wishes.append((-_quality(quality), place, tag.lower().split("-")[0]))
        names = (name for wish, _, name in sorted(wishes) if wish and name in self._words)
        return self._words[next(names, FALLBACK)]

    def of(self, headers: Mapping[str, str]) -> Words:
        """The words for a request: the language chosen on the page, else the browser's."""
        return self.words(f"{self.cookies(headers).get('language', '')},{headers.get('accept-language') or ''}")

    @staticmethod
    def cookies(headers: Mapping[str, str]) -> dict[str, str]:
        """The page's cookies: any of `language`, `theme` and `project`."""
        return dict(_COOKIES.findall(headers.get("cookie") or ""))

    def gradio(self) -> gr.I18n:
        """For `launch(i18n=…)`. Called with a key, it returns a label that the browser translates."""
        return gr.I18n(**{name: dict(words._texts) for name, words in self._words.items()})


def _quality(text: str) -> float:
    """A language's quality, 0 … 1; 0 if invalid."""
    return float(text) if re.fullmatch(r"0(\.\d{1,3})?", text) else float(text in ("", "1", "1.0", "1.00", "1.000"))
