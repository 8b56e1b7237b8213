"""A clip's JSON sidecar, `clips/<id>.json`: everything known about the clip, enough to rebuild the gallery from files.

It lies in the folder of clips even if the clip does not: nothing is written to foreign folders. Its content is
untrusted.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.gallery.clip import age_of, check_id, check_notes, check_rating, check_tags
from app.gallery.files import storage_errors, write_text
from app.recipes.recipe import MAX_RECIPE, Recipe
from extensions.long_video.metrics import Report
from lavie.errors import RequestError, short
from lavie.values import parse_object

SCHEMA_VERSION = 1
MAX_BYTES = 8 * MAX_RECIPE  # enough for the longest recipe, report, notes and tags
_SCHEMA_KEY = "lavie_clip"
_HASH = re.compile(r"[0-9a-f]{64}")
_WHOLE = ("width", "height", "frames", "bytes")
_NUMBERS = ("fps", "seconds")
_MOST = 2**53
_LONGEST_PATH = 5000


@dataclass(frozen=True)
class Sidecar:
    """The content of the file, with the fields of `Clip`.

    file: as `Gallery.relative_path` gives it, never with `..`. report: only of a long video.
    """

    id: str
    file: str
    file_hash: str
    recipe: Recipe
    width: int
    height: int
    frames: int
    fps: float
    bytes: int
    seconds: float
    frame_hash: str
    created: str
    parent: str | None = None
    tags: tuple[str, ...] = ()
    rating: int = 0
    favourite: bool = False
    notes: str = ""
    trashed: str | None = None
    adapters: dict[str, float] = field(default_factory=dict)
    report: Report | None = None

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.parent is not None:
            check_id(self.parent)
        for name in (*_WHOLE, *_NUMBERS):
            value = getattr(self, name)
            _check(name, _is_number(value) and 0 <= value < _MOST, value)
            _check(name, name in _NUMBERS or isinstance(value, int), value)
        _check("fps", self.fps > 0, self.fps)
        _check("file", _is_path(self.file), self.file)
        _check("file_hash", isinstance(self.file_hash, str) and bool(_HASH.fullmatch(self.file_hash)), self.file_hash)
        _check("frame_hash", isinstance(self.frame_hash, str) and len(self.frame_hash) < 200, self.frame_hash)
        for name in ("created", "trashed"):
            if name == "created" or self.trashed is not None:
                age_of(getattr(self, name))
        _check("favourite", isinstance(self.favourite, bool), self.favourite)
        _check("seed", self.recipe.request.seed is not None, None)
        weighted = isinstance(self.adapters, dict) and all(
            isinstance(name, str) and _HASH.fullmatch(name) and _is_number(weight)
            for name, weight in self.adapters.items()
        )
        _check("adapters", weighted, self.adapters)
        object.__setattr__(self, "tags", check_tags(self.tags))
        check_rating(self.rating)
        check_notes(self.notes)

    def to_json(self) -> str:
        """The file's text, for people to read too."""
        data = {**vars(self), "tags": list(self.tags), "recipe": json.loads(self.recipe.to_json())}
        del data["report"]
        data |= {} if self.report is None else {"report": json.loads(self.report.to_json())}
        return json.dumps({_SCHEMA_KEY: SCHEMA_VERSION, **data}, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """The inverse of `to_json`. Raises RequestError for anything else."""
        try:
            data = parse_object(text, MAX_BYTES, storable=True)
            version, recipe = data.pop(_SCHEMA_KEY), json.dumps(data.pop("recipe"), ensure_ascii=False)
            report = json.dumps(data.pop("report")) if "report" in data else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RequestError(f"this is no sidecar of a clip ({short(str(error))})") from None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise RequestError(f"the sidecar has schema {short(version)}, this version reads {SCHEMA_VERSION}")
        wanted = set(cls.__dataclass_fields__) - {"recipe", "report"}
        if wrong := sorted(set(data) ^ wanted):
            raise RequestError(f"this is no sidecar of a clip (look at {short(wrong[0])})")
        return cls(recipe=Recipe.from_json(recipe), report=None if report is None else read_report(report), **data)


def read_report(content: str) -> Report:
    """A long video's report from untrusted text. Raises RequestError."""
    report = Report.from_json(content)
    joins, drift, findings = report.joins, report.drift, report.findings
    for several in (joins, drift, findings, *(one.segments for one in drift if isinstance(drift, tuple))):
        _check("a list of its report", isinstance(several, tuple), several)
    signals = [signal for join in joins for signal in (join.d, join.a, join.m, join.s)]
    numbers = [report.frames, *(number for signal in signals for number in vars(signal).values())]
    numbers += [number for join in joins for number in (join.segment, join.frame)]
    numbers += [number for one in drift for number in (one.first, one.last, one.slope, *one.segments)]
    numbers += [found.where for found in findings if found.where is not None]
    texts = [one.measure for one in drift] + [text for found in findings for text in (found.what, found.cure)]
    for number in numbers:
        _check("a number of its report", _is_number(number), number)
    for text in texts:
        _check("a text of its report", isinstance(text, str), text)
    return report


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar; None if there is no file. Raises RequestError for other content, StorageError if reading fails."""
    with storage_errors(path):
        if path.is_symlink() or not path.is_file():
            return None
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path.name} has {path.stat().st_size} bytes, more than {MAX_BYTES}: it is not ours")
        content = path.read_bytes()
    return parse_sidecar(content)


def parse_sidecar(content: bytes) -> Sidecar:
    """Raises RequestError if the content is no sidecar."""
    try:
        return Sidecar.from_json(content.decode())
    except UnicodeDecodeError as error:
        raise RequestError(f"this is no sidecar of a clip ({error.reason})") from None


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write the file whole or not at all, unless its content is the same. Raises MediaError, StorageError."""
    text = sidecar.to_json()
    with storage_errors(path):
        same = path.is_file() and not path.is_symlink() and path.read_bytes() == text.encode()
    if not same:
        write_text(path, text)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_path(value: Any) -> bool:
    named = isinstance(value, str) and 0 < len(value) < _LONGEST_PATH and "\0" not in value
    return named and ".." not in re.split(r"[/\\]", value)


def _check(name: str, condition: bool, value: Any) -> None:
    if not condition:
        raise RequestError(f"this is no sidecar of a clip ({name} is {short(value)})")
