"""What a person looks for, as the widgets give it, and the query that it means, both ways. Knows no widget."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, fields
from typing import Any

from app.gallery import Query
from lavie.errors import RequestError, short

ANY, YES, NO = "", "yes", "no"
_ANSWERS = {ANY: None, YES: True, NO: False}
_SIZE = re.compile(r"\s*(\d{1,9})?\s*(?:[x×*]\s*(\d{1,9})?\s*)?", re.ASCII)


@dataclass(frozen=True)
class Filters:
    """The fields in the order of the widgets: an empty text or list, None or 0 asks for nothing.

    text: its last word is being typed, and thus the beginning of one, as long as no space follows. seed: digits. size:
    `96 × 64`, or the width alone. created_from, created_to: days. favourite, missing: `ANY`, `YES` or `NO`.
    """

    text: str = ""
    sort: str = "newest"
    stacked: bool = False
    trashed: bool = False
    model: str | None = ANY
    stages: str | None = ANY
    adapter: str | None = ANY
    tags: list[str] | None = None
    min_rating: int | None = 0
    favourite: str | None = ANY
    missing: str | None = ANY
    seed: str | None = ""
    size: str | None = ""
    created_from: str | None = ""
    created_to: str | None = ""
    parent: str | None = ""

    @classmethod
    def names(cls) -> list[str]:
        """In the order of the widgets."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, query: Query) -> Filters:
        """The fields that ask for this."""
        width, height = ("" if value is None else str(value) for value in (query.width, query.height))
        answers = {answer: word for word, answer in _ANSWERS.items()}
        return cls(
            text=_shown(query.text),
            sort=query.sort,
            stacked=query.stacked,
            trashed=query.trashed,
            model=query.model or ANY,
            stages=query.stages or ANY,
            adapter=query.adapter or ANY,
            tags=list(query.tags),
            min_rating=query.min_rating,
            favourite=answers[query.favourite],
            missing=answers[query.missing],
            seed="" if query.seed is None else str(query.seed),
            size=f"{width} × {height}" if height else width,
            created_from=query.created_from or "",
            created_to=query.created_to or "",
            parent=query.parent or "",
        )

    def query(self) -> Query:
        """What is asked for. Raises RequestError with the field's name."""
        width, height = _size(self.size or "")
        return Query(
            text=_typed(self.text or ""),
            sort=self.sort,
            stacked=self.stacked,
            trashed=self.trashed,
            model=self.model or None,
            stages=self.stages or None,
            adapter=self.adapter or None,
            tags=tuple(self.tags or ()),
            min_rating=self.min_rating or 0,
            favourite=_answer("favourite", self.favourite),
            missing=_answer("missing", self.missing),
            seed=_whole("seed", self.seed or ""),
            width=width,
            height=height,
            created_from=(self.created_from or "").strip() or None,
            created_to=(self.created_to or "").strip() or None,
            parent=(self.parent or "").strip() or None,
        )

    def values(self) -> tuple[Any, ...]:
        """What the widgets are to show."""
        return astuple(self)


def _typed(text: str) -> str:
    return f"{text}*" if text[-1:].isalnum() else text.rstrip()


def _shown(text: str) -> str:
    """The inverse of `_typed`."""
    if text[-1:].isalnum():
        return f"{text} "
    return text[:-1] if text[-1:] == "*" and text[-2:-1].isalnum() else text


def _answer(name: str, word: str | None) -> bool | None:
    word = word or ANY
    if word not in _ANSWERS:
        raise RequestError(f"{name} is {short(word)}: choose {YES}, {NO} or nothing")
    return _ANSWERS[word]


def _whole(name: str, text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _size(text: str) -> tuple[int | None, int | None]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RequestError(f"size is {short(text)}: write it as 512 × 320, or leave it empty")
    width, height = match.groups()
    return int(width) if width else None, int(height) if height else None
