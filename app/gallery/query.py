"""A search of the gallery as a checked value, with JSON both ways. Needs no database."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from app.gallery.clip import age_of, check_rating, check_tags
from lavie.errors import RequestError, short
from lavie.values import MAX_SEED, check, check_whole, parse_object

SORTS = ("newest", "oldest", "rating", "longest", "relevance")
MAX_TEXT = 100_000  # characters
_TEXTS = ("model", "adapter", "stages", "parent")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_DAY_MICROSECONDS = 24 * 60 * 60 * 1_000_000


@dataclass(frozen=True)
class Query:
    """The conditions that clips must meet, and their order.

    Attributes:
        text: see `app.gallery.words.match_expression`.
        adapter: hash of an adapter's file.
        stages: such as `base+interpolation`.
        created_from, created_to: a day or a time, both included.
        tags: the clip has all of them.
        trashed: search in the trash and nowhere else.
        missing: whether the file is gone.
        stacked: of all clips that differ in the seed alone, show the best rated one.
        sort: one of `SORTS`; relevance without a text is age.
    """

    text: str = ""
    model: str | None = None
    adapter: str | None = None
    stages: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    created_from: str | None = None
    created_to: str | None = None
    min_rating: int = 0
    favourite: bool | None = None
    tags: tuple[str, ...] = ()
    parent: str | None = None
    trashed: bool = False
    missing: bool | None = None
    stacked: bool = False
    sort: str = "newest"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > MAX_TEXT:
            raise RequestError(f"the text to look for is {short(self.text)}: give a text of at most {MAX_TEXT}")
        for name in _TEXTS:
            value = getattr(self, name)
            check(value is None or _is_storable(value), f"{name} is {short(value)}: give a text")
        for name in ("seed", "width", "height"):
            check_whole(name, getattr(self, name), 0, MAX_SEED)
        for name in ("created_from", "created_to"):
            if getattr(self, name) is not None:
                age_of(getattr(self, name))
        check_rating(self.min_rating)
        object.__setattr__(self, "tags", check_tags(self.tags))  # JSON gives a list
        for name in ("favourite", "missing", "trashed", "stacked"):
            value = getattr(self, name)
            is_open = value is None and name in ("favourite", "missing")
            check(is_open or isinstance(value, bool), f"{name} is {short(value)}: give true or false")
        check(self.sort in SORTS, f"sort is {short(self.sort)}: give one of {', '.join(SORTS)}")

    @property
    def ages(self) -> tuple[int | None, int | None]:
        """The first and the last microsecond of `created_from` … `created_to`."""
        first = None if self.created_from is None else age_of(self.created_from)
        last = None if self.created_to is None else age_of(self.created_to)
        if last is not None and _DAY.fullmatch(self.created_to or ""):
            last += _DAY_MICROSECONDS - 1
        return first, last

    def to_json(self) -> str:
        """One line of JSON without default values, in ASCII: typed text may hold what no file can store."""
        known = {f.name: f.default for f in fields(self)}
        data = {name: value for name, value in asdict(self).items() if value != known[name]}
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Query:
        """The inverse of `to_json`. Raises RequestError for anything else."""
        try:
            data = parse_object(text)
        except ValueError as error:
            raise RequestError(f"this is not the JSON of a search ({short(str(error))})") from None
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise RequestError(f"a search has no field {short(unknown[0])}: remove it")
        return cls(**data)


def _is_storable(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
