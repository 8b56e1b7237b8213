"""Clips as values, and the checks on what people write about them. Needs neither database nor files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from app.recipes.recipe import Recipe
from lavie.errors import RequestError, short

MAX_TAG = 100  # characters
MAX_TAGS = 100  # of one clip
MAX_NOTES = 100_000  # characters
MAX_RATING = 5
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: controls, surrogates and line breaks
_RESULT = ("frames", "width", "height", "fps", "seed", "frame_hash", "seconds")


@dataclass(frozen=True)
class Clip:
    """A clip of the gallery.

    Attributes:
        path: absolute. The file may be gone: `missing` then tells since when.
        duration, seconds: of playing, and of making it.
        frame_hash: of the frames before encoding.
        rating: 1 … 5; 0 is no rating.
        created, trashed, missing: UTC, ISO 8601.
        adapters: hash of each adapter's file → its weight.
        count: clips of its stack that a search found; 1 unless the search stacks.
    """

    id: str
    parent: str | None
    path: Path
    prompt: str
    negative_prompt: str
    notes: str
    tags: tuple[str, ...]
    seed: int
    model: str
    stages: str
    width: int
    height: int
    frames: int
    fps: float
    duration: float
    bytes: int
    seconds: float
    frame_hash: str
    file_hash: str
    stack: int
    rating: int
    favourite: bool
    created: str
    trashed: str | None
    missing: str | None
    adapters: Mapping[str, float]
    recipe_json: str
    count: int = 1

    @property
    def recipe(self) -> Recipe:
        """Raises RequestError if a newer version wrote the recipe."""
        return Recipe.from_json(self.recipe_json)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, without the recipe."""
        given = {**vars(self), "path": str(self.path), "tags": list(self.tags), "adapters": dict(self.adapters)}
        del given["recipe_json"]
        return given

    def result(self, stages: Mapping[str, float]) -> dict[str, Any]:
        """What commands and endpoints report of a clip when its job is done. stages: stage → seconds it took."""
        facts = {name: getattr(self, name) for name in _RESULT}
        return {"id": self.id, "path": str(self.path.absolute()), **facts, "stages": dict(stages)}


@dataclass(frozen=True)
class Page:
    """A part of the clips that a search finds.

    Attributes:
        next: passed as `after`, gives the next part; None at the end.
        total: clips that the search finds in all, or stacks if it stacks; at least so many where it is not exact.
    """

    clips: tuple[Clip, ...]
    next: str | None
    total: int
    total_is_exact: bool


def is_id(value: Any) -> bool:
    """Whether the value is a clip's id: safe in file names on every system, and without meaning to `glob`."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_id(value: Any) -> str:
    """Raises RequestError if the value is no id."""
    if not is_id(value):
        raise RequestError(f"the id {short(value)} is none of ours: letters, digits, - and _, 100 at most")
    return str(value)


def check_tag(value: Any) -> str:
    """The tag as it is stored: on one line, without spaces around it."""
    if not isinstance(value, str):
        raise RequestError(f"the tag {short(value)} is no text: give a word or a few")
    tag = " ".join(unicodedata.normalize("NFC", value).split())
    if not tag or any(unicodedata.category(character) in _UNPRINTABLE for character in tag):
        raise RequestError(f"the tag {short(value)} is empty or holds what cannot be shown: give a word or a few")
    if len(tag) > MAX_TAG:
        raise RequestError(f"the tag {short(tag)} has {len(tag)} characters: shorten it to {MAX_TAG}")
    return tag


def check_tags(values: Any) -> tuple[str, ...]:
    """The tags in order, without duplicates."""
    if not isinstance(values, (list, tuple)):
        raise RequestError(f"tags are {short(values)}: give a list of texts")
    tags = tuple(dict.fromkeys(map(check_tag, values)))
    if len(tags) > MAX_TAGS:
        raise RequestError(f"there are {len(tags)} tags: keep {MAX_TAGS} at most")
    return tags


def check_notes(value: Any) -> str:
    """Raises RequestError if the text is too long or cannot be stored in a file."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError(f"the note {short(value)} is no text that a file can store: write it anew")
    if len(value) > MAX_NOTES:
        raise RequestError(f"the note has {len(value)} characters: shorten it to {MAX_NOTES}")
    return value


def check_rating(value: Any) -> int:
    """Raises RequestError unless the value is a whole number from 0 (no rating) to 5."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RATING:
        raise RequestError(f"the rating is {short(value)}: give a whole number from 0 (none) to {MAX_RATING}")
    return value


def age_of(created: Any) -> int:
    """A time in ISO 8601 as microseconds since 1970. A time without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(created)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        age = (moment - _EPOCH) // _MICROSECOND
    except (TypeError, ValueError, OverflowError):
        age = -1
    if age < 0:
        raise RequestError(f"{short(created)} is no time since 1970: write it as 2026-01-31 or 2026-01-31T12:00:00")
    return age


def time_of(age: int) -> str:
    """The inverse of `age_of`, with microseconds."""
    return (_EPOCH + timedelta(microseconds=age)).isoformat(timespec="microseconds")
