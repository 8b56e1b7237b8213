"""What the gallery takes and gives: a finished clip, a stored one, and the checks on what people write about them.

Knows neither database nor files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from app.recipes.recipe import Recipe
from extensions.long_video.metrics import Report
from lavie.errors import RequestError, short

MAX_TAG = 100  # characters
MAX_TAGS = 100  # of one clip
MAX_NOTES = 100_000  # characters
MAX_RATING = 5
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of controls, halves of characters and line breaks


@dataclass(frozen=True)
class NewClip:
    """A finished clip whose file is in its place.

    parent: id of the clip it was made from. width, height, frames, fps: of the file. seconds: the making took.
    frame_hash: of the frames before encoding. adapters: hash of each adapter's file → its weight. report: what the
    meters said of a long video.
    """

    id: str
    path: Path
    recipe: Recipe
    parent: str | None
    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    frame_hash: str
    adapters: Mapping[str, float] = field(default_factory=dict)
    report: Report | None = None

    def __post_init__(self):
        check_id(self.id)
        if self.parent is not None:
            check_id(self.parent)
        if self.recipe.request.seed is None:
            raise RequestError(f"the recipe of the clip {self.id} has no seed: give the one it was made with")


@dataclass(frozen=True)
class StoredClip:
    """A clip as the gallery has it.

    path: absolute; the file may be gone, then `missing` says since when. bytes: of the file. duration: seconds it
    plays. rating: 1 … 5, 0 is none. created, trashed, missing: UTC, ISO 8601. count: clips in its stack that the
    search found, 1 where the page is not stacked.
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
        """Raises RequestError for one of a newer version."""
        return Recipe.from_json(self.recipe_json)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, without the recipe."""
        given = {**vars(self), "path": str(self.path), "tags": list(self.tags), "adapters": dict(self.adapters)}
        del given["recipe_json"]
        return given


@dataclass(frozen=True)
class Page:
    """A part of what a search found. next: pass it as `after` for the part that follows; None at the end.

    total: clips that the search finds in all, or stacks where it is stacked; where it is not exact, there are more.
    """

    clips: tuple[StoredClip, ...]
    next: str | None
    total: int
    total_is_exact: bool


def is_id(value: Any) -> bool:
    """Whether it is safe as a file's name on every system, and means one clip to `glob`."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_id(value: Any) -> str:
    """Raises RequestError for what is none."""
    if not is_id(value):
        raise RequestError(f"the id {short(value)} is none of ours: letters, digits, - and _, 100 at most")
    return value


def check_tag(value: Any) -> str:
    """A tag in the form it is stored: one line, without spaces around it."""
    if not isinstance(value, str):
        raise RequestError(f"the tag {short(value)} is no text: give a word or a few")
    tag = " ".join(unicodedata.normalize("NFC", value).split())
    if not tag or any(unicodedata.category(character) in _UNSEEN for character in tag):
        raise RequestError(f"the tag {short(value)} is empty or holds what cannot be shown: give a word or a few")
    if len(tag) > MAX_TAG:
        raise RequestError(f"the tag {short(tag)} has {len(tag)} characters: shorten it to {MAX_TAG}")
    return tag


def check_tags(values: Any) -> tuple[str, ...]:
    """Each once, in order."""
    if not isinstance(values, (list, tuple)):
        raise RequestError(f"tags are {short(values)}: give a list of texts")
    tags = tuple(dict.fromkeys(map(check_tag, values)))
    if len(tags) > MAX_TAGS:
        raise RequestError(f"there are {len(tags)} tags: keep {MAX_TAGS} at most")
    return tags


def check_notes(value: Any) -> str:
    """Any text that a file can store."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError(f"the note {short(value)} is no text that a file can store: write it anew")
    if len(value) > MAX_NOTES:
        raise RequestError(f"the note has {len(value)} characters: shorten it to {MAX_NOTES}")
    return value


def check_rating(value: Any) -> int:
    """A whole number from 0 (none) to 5."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RATING:
        raise RequestError(f"the rating is {short(value)}: give a whole number from 0 (none) to {MAX_RATING}")
    return value


def age_of(created: Any) -> int:
    """A time, ISO 8601, as microseconds from 1970. A time without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(created)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        age = (moment - _EPOCH) // _MICROSECOND
    except (TypeError, ValueError, OverflowError):
        age = -1
    if age < 0:
        raise RequestError(f"{short(created)} is no time since 1970: write it as 2026-01-31 or 2026-01-31T12:00:00")
    return age


def created_at(age: int) -> str:
    """The inverse of `age_of`, with microseconds."""
    return (_EPOCH + timedelta(microseconds=age)).isoformat(timespec="microseconds")
