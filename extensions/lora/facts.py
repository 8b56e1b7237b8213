"""What the metadata of a file, and the files beside it, say of an adapter. Needs no torch.

All of it is a stranger's text: cut to a length, kept as text, never run. What cannot be read is left out and told in a
note; it never keeps an adapter from being used.

Sources: kohya-ss/sd-scripts (`ss_…`), Stability-AI/ModelSpec 1.0.1 (`modelspec.…`), AUTOMATIC1111's web UI (side-cars).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

from extensions.lora.adapter import MAX_WEIGHT
from extensions.lora.card import LISTED
from extensions.lora.header import Header

MAX_TEXT, MAX_WORD = 4000, 200  # characters of a description, of a title or a trigger
MAX_JSON = 2**20  # characters of the JSON inside a text, bytes of a side-car
_PREVIEWS = tuple(f"{preview}.{kind}" for preview in ("", ".preview") for kind in ("png", "jpg", "jpeg", "webp"))
_UNREADABLE = "{} is not the JSON it should be, or too long: it was left out"


def facts_of(header: Header) -> dict:
    """Fields of an `AdapterCard`, as far as anything tells them: what its owner noted, then what its maker wrote."""
    notes: list[str] = []
    beside, said = _sidecar(header.path, notes), header.metadata
    titles = (said.get("modelspec.title"), said.get("ss_output_name"), header.path.stem)
    described = (beside.get("description"), beside.get("notes"), said.get("modelspec.description"))
    described = (*described, said.get("ss_training_comment"))
    triggers = [*_words(beside.get("activation text")), *_words(said.get("modelspec.trigger_phrase"))]
    return {
        "title": next((text for value in titles if (text := cut(value, MAX_WORD))), ""),
        "trigger_words": tuple(dict.fromkeys(triggers))[:LISTED],
        "tags": _frequent(said.get("ss_tag_frequency"), notes),
        "preferred_weight": _weight(beside.get("preferred weight")),
        "description": next((text for value in described if (text := cut(value, MAX_TEXT))), ""),
        "author": cut(said.get("modelspec.author"), MAX_WORD),
        "licence": cut(said.get("modelspec.license"), MAX_WORD),
        "preview": _preview(header.path),
        "notes": tuple(notes),
    }


def _sidecar(path: Path, notes: list[str]) -> dict:
    """`NAME.json`, in which the web UI keeps what its user noted of a file."""
    file = path.with_suffix(".json")
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_JSON + 1).decode("utf-8", "replace")
    except OSError:  # none there, or none that may be read
        return {}
    return _object(text, file.name, notes)


def _object(text: str, name: str, notes: list[str]) -> dict:
    try:
        found = json.loads(text) if len(text) <= MAX_JSON else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        notes.append(_UNREADABLE.format(name))
        return {}
    return found


def _frequent(text: str | None, notes: list[str]) -> tuple[str, ...]:
    """The most frequent tags over all of a file's data sets: `{"data set": {"tag": count}}`."""
    counts: Counter[str] = Counter()
    for tags in (_object(text, "ss_tag_frequency", notes) if text else {}).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < 10**9:
                counts[cut(tag, MAX_WORD)] += count
    return tuple(tag for tag, _ in counts.most_common(LISTED) if tag)


def _words(value) -> list[str]:
    """A text with commas between its trigger words."""
    pieces = cut(value, MAX_TEXT).split(",")
    return [word for piece in pieces if (word := cut(piece, MAX_WORD))]


def cut(value, length: int) -> str:
    """A text of at most so many characters, without what no file can store or no page should show."""
    text = value if isinstance(value, str) else ""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "", text[: 2 * length]).strip()
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _weight(value) -> float | None:
    """What the side-car recommends, in the limits of an adapter's weight. The web UI writes 0 where nothing is said."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return max(-MAX_WEIGHT, min(float(value), MAX_WEIGHT)) if number and value else None


def _preview(path: Path) -> str | None:
    stem = path.with_suffix("")
    files = (stem.with_name(stem.name + ending) for ending in _PREVIEWS)
    return next((str(file) for file in files if file.is_file()), None)
