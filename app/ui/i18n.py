"""The page's words, one JSON file a language in `assets/languages`: a language is added by adding its file.

What gradio lays out is translated by the browser (`Languages.gradio`), what changes while the page is open is written
here in the language that the browser asks for. Knows no widget and no word.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.config import ROOT

if typing.TYPE_CHECKING:
    import gradio as gr

FOLDER = ROOT / "assets" / "languages"
FALLBACK = "en"
_CHOSEN = re.compile(r"(?:^|;)\s*lavie-(language|theme|project)=([\w-]+)")  # cookies that the page's script sets


@dataclass(frozen=True)
class Words:
    """The page's words in one language; what it lacks is said in English."""

    language: str
    _texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """A sentence with its values filled in. Raises KeyError for a key that no language has."""
        return self._texts[key].format(**values)


class Languages:
    """All languages of a folder, read once."""

    def __init__(self, folder: Path = FOLDER):
        texts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        self._words = {name: Words(name, texts[FALLBACK] | own) for name, own in texts.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def words(self, asked: str | None) -> Words:
        """The best for what a browser asks for: a name, or a header such as `de-CH, de;q=0.9, en;q=0.8`."""
        wishes = []
        for place, wish in enumerate((asked or "").replace(" ", "").split(",")):
            tag, _, quality = wish.partition(";q=")
            wishes.append((-_number(quality), place, tag.lower().split("-")[0]))
        names = (name for wish, _, name in sorted(wishes) if wish and name in self._words)
        return self._words[next(names, FALLBACK)]

    def of(self, headers: Mapping[str, str]) -> Words:
        """For who sent a request: the language that was chosen on the page, else the one that the browser asks for."""
        return self.words(f"{self.chosen(headers).get('language', '')},{headers.get('accept-language') or ''}")

    @staticmethod
    def chosen(headers: Mapping[str, str]) -> dict[str, str]:
        """What was chosen on the page for this browser: any of `language`, `theme` and `project`."""
        return dict(_CHOSEN.findall(headers.get("cookie") or ""))

    def gradio(self) -> gr.I18n:
        """For `launch(i18n=…)`; called with a key it gives a label that the browser translates."""
        import gradio as gr

        return gr.I18n(**{name: dict(words._texts) for name, words in self._words.items()})


def _number(text: str) -> float:
    """How much a language is wished for, 0 … 1; 0 is not at all."""
    return float(text) if re.fullmatch(r"0(\.\d{1,3})?", text) else float(text in ("", "1", "1.0", "1.00", "1.000"))
