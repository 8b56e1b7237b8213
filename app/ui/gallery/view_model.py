"""Values of the gallery's tab: what an open page looks at, and its search fields with the query they mean."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace

from app.gallery import Query
from app.ui.create.form import parse_whole
from lavie.errors import RequestError, short

MAX_COMPARED = 4  # clips side by side
ANY, YES, NO = "", "yes", "no"
_ANSWERS = {ANY: None, YES: True, NO: False}
_SAME = ("sort", "stacked", "trashed")  # fields that a query has in the same form
_CHOSEN, _TYPED = ("model", "stages", "adapter"), ("created_from", "created_to", "parent")  # None in a query if empty
_SIZE = re.compile(r"\s*(\d{1,9})?\s*(?:[x×*]\s*(\d{1,9})?\s*)?", re.ASCII)


@dataclass(frozen=True)
class View:
    """What one open page looks at.

    cursors: `after` of each page from the second to the one shown; following: `after` of the next page.
    chosen: ids to compare. undo: id of the clip that was moved to the trash last. alert: the last error.
    """

    query: Query = field(default_factory=Query)
    cursors: tuple[str, ...] = ()
    following: str | None = None
    chosen: tuple[str, ...] = ()
    undo: str | None = None
    alert: str = ""

    @property
    def is_unfiltered(self) -> bool:
        """Whether the query leaves nothing out, so that an empty page means an empty gallery."""
        return replace(self.query, sort="newest", stacked=False) == Query()


@dataclass(frozen=True)
class Opened:
    """Which clip is open. jobs: ids of the jobs that were started from it since."""

    id: str = ""
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filters:
    """The search fields in the order of the widgets; an empty text or list, None or 0 filters nothing.

    text: the last word counts as a prefix until a space follows. seed: digits. size: `96 × 64`, or the width alone.
    created_from, created_to: days. favourite, missing: `ANY`, `YES` or `NO`.
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
        """Field names in the order of the widgets."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, query: Query) -> Filters:
        """The fields that mean `query`."""
        width, height = ("" if value is None else str(value) for value in (query.width, query.height))
        answers = {answer: word for word, answer in _ANSWERS.items()}
        same = {name: getattr(query, name) for name in _SAME}
        same |= {name: getattr(query, name) or "" for name in (*_CHOSEN, *_TYPED)}
        return cls(
            text=_unmark_prefix(query.text),
            tags=list(query.tags),
            min_rating=query.min_rating,
            favourite=answers[query.favourite],
            missing=answers[query.missing],
            seed="" if query.seed is None else str(query.seed),
            size=f"{width} × {height}" if height else width,
            **same,
        )

    def query(self) -> Query:
        """The query that the fields mean. Raises RequestError with the field's name."""
        width, height = _parse_size(self.size or "")
        same = {name: getattr(self, name) for name in _SAME}
        same |= {name: getattr(self, name) or None for name in _CHOSEN}
        same |= {name: (getattr(self, name) or "").strip() or None for name in _TYPED}
        return Query(
            text=_mark_prefix(self.text or ""),
            tags=tuple(self.tags or ()),
            min_rating=self.min_rating or 0,
            favourite=_parse_answer("favourite", self.favourite),
            missing=_parse_answer("missing", self.missing),
            seed=parse_whole("seed", self.seed or ""),
            width=width,
            height=height,
            **same,
        )

    def values(self) -> tuple[typing.Any, ...]:
        return astuple(self)


def merge_differences(others: Sequence[Sequence[tuple[str, typing.Any, typing.Any]]]) -> list[tuple]:
    """Merge the differences of one clip from several others into rows: (name, its value, the first other's, …)."""
    tables = [{name: (mine, its) for name, mine, its in other} for other in others]
    rows = []
    for name in dict.fromkeys(name for table in tables for name in table):
        mine = next(table[name][0] for table in tables if name in table)
        rows.append((name, mine, *(table[name][1] if name in table else mine for table in tables)))
    return rows


def _mark_prefix(text: str) -> str:
    """Mark the last word as a prefix while it is being typed."""
    return f"{text}*" if text[-1:].isalnum() else text.rstrip()


def _unmark_prefix(text: str) -> str:
    if text[-1:].isalnum():
        return f"{text} "
    return text[:-1] if text[-1:] == "*" and text[-2:-1].isalnum() else text


def _parse_answer(name: str, word: str | None) -> bool | None:
    word = word or ANY
    if word not in _ANSWERS:
        raise RequestError(f"{name} is {short(word)}: choose {YES}, {NO} or nothing")
    return _ANSWERS[word]


def _parse_size(text: str) -> tuple[int | None, int | None]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RequestError(f"size is {short(text)}: write it as 512 × 320, or leave it empty")
    width, height = match.groups()
    return int(width) if width else None, int(height) if height else None
