"""Inspects a file before it is imported: its kind, whether it fits, and what it says about itself."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from extensions.lora.adapter import LISTED, MAX_WEIGHT, AdapterCard, safe_name
from extensions.lora.files.formats import UNKNOWN, embedding_of, guess_base, plan, refuse_foreign, words_of
from extensions.lora.files.header import Header, read_header
from extensions.lora.files.read import IN_HEADER, config_beside, deltas_of, read_embedding
from extensions.lora.names import Targets
from lavie.errors import AdapterError
from lavie.files import file_hash
from lavie.values import parse_object

MAX_TEXT, MAX_WORD = 4000, 200  # characters of a description, of a title or a trigger
MAX_JSON = 2**20  # characters of the JSON inside a text, bytes of a side-car
_PREVIEWS = tuple(f"{preview}.{kind}" for preview in ("", ".preview") for kind in ("png", "jpg", "jpeg", "webp"))
_UNREADABLE = "{} is not the JSON it should be, or too long: it was left out"


def facts_of(header: Header) -> dict[str, Any]:
    """The descriptive fields of an `AdapterCard`: the owner's notes first, then the maker's metadata."""
    notes: list[str] = []
    beside, said = _sidecar(header.path, notes), header.metadata
    titles = (said.get("modelspec.title"), said.get("ss_output_name"), header.path.stem)
    theirs = (said.get("modelspec.description"), said.get("ss_training_comment"))
    described = (beside.get("description"), beside.get("notes"), *theirs)
    triggers = [*_words(beside.get("activation text")), *_words(said.get("modelspec.trigger_phrase"))]
    return {
        "title": next((text for value in titles if (text := cut(value, MAX_WORD))), ""),
        "trigger_words": tuple(dict.fromkeys(triggers))[:LISTED],
        "tags": _frequent_tags(said.get("ss_tag_frequency"), notes),
        "preferred_weight": _weight(beside.get("preferred weight")),
        "description": next((text for value in described if (text := cut(value, MAX_TEXT))), ""),
        "author": cut(said.get("modelspec.author"), MAX_WORD),
        "licence": cut(said.get("modelspec.license"), MAX_WORD),
        "preview": _preview(header.path),
        "notes": tuple(notes),
    }


def _sidecar(path: Path, notes: list[str]) -> dict[str, Any]:
    """`NAME.json`, the web UI's notes on a file."""
    file = path.with_suffix(".json")
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_JSON + 1).decode("utf-8", "replace")
    except OSError:  # missing or unreadable
        return {}
    return _object(text, file.name, notes)


def _object(text: str, name: str, notes: list[str]) -> dict[str, Any]:
    try:
        return parse_object(text, MAX_JSON)
    except ValueError:
        notes.append(_UNREADABLE.format(name))
        return {}


def _frequent_tags(text: str | None, notes: list[str]) -> tuple[str, ...]:
    """The most frequent tags over all data sets of a file: `{"data set": {"tag": count}}`."""
    counts: Counter[str] = Counter()
    for tags in (_object(text, "ss_tag_frequency", notes) if text else {}).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < 10**9:
                counts[cut(tag, MAX_WORD)] += count
    return tuple(tag for tag, _ in counts.most_common(LISTED) if tag)


def _words(value: Any) -> list[str]:
    """Trigger words separated by commas."""
    pieces = cut(value, MAX_TEXT).split(",")
    return [word for piece in pieces if (word := cut(piece, MAX_WORD))]


def cut(value: Any, length: int) -> str:
    """A text of at most `length` characters, without characters that cannot be stored or shown."""
    text = value if isinstance(value, str) else ""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "", text[: 2 * length]).strip()
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _weight(value: Any) -> float | None:
    """The weight that the side-car recommends, clamped to the limits. The web UI writes 0 for none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return max(-MAX_WEIGHT, min(float(value), MAX_WEIGHT)) if number and value else None


def _preview(path: Path) -> str | None:
    stem = path.with_suffix("")
    files = (stem.with_name(stem.name + ending) for ending in _PREVIEWS)
    return next((str(file) for file in files if file.is_file()), None)


def keep(path: Path | str, folder: Path | str, targets: Targets) -> tuple[AdapterCard, Path]:
    """Inspect a file and copy it to `folder` under its sha256. The copy appears complete or not at all.

    peft keeps alphas in another file. They are written into the copy's header, so that one hash covers all that decides
    the adapter's effect; other files are copied byte for byte.

    Returns the card, with hash and size of the copy, and the copy's path. Raises AdapterError as `inspect`, and if the
    copy cannot be written.
    """
    card, header, folder = inspect(path, targets), read_header(path), Path(folder)
    config, partial = config_beside(header), folder / f".{card.sha256}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config is None:
            shutil.copyfile(header.path, partial)
        else:
            save_file(load_file(header.path), partial, header.metadata | {IN_HEADER: config})
        found = file_hash(partial)
        if config is None and found != card.sha256:
            raise OSError("it changed meanwhile")
        kept = folder / f"{found}.safetensors"
        os.replace(partial, kept)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise AdapterError(
            f"{header.path.name} was not kept in {folder} ({error}): make room there, try again"
        ) from None
    return replace(card, sha256=found, size=kept.stat().st_size), kept


TEXTUAL_INVERSION = "textual inversion"


def inspect(path: Path | str, targets: Targets) -> AdapterCard:
    """The card of an adapter's file for the networks of `targets`. Reads and checks every number.

    Raises AdapterError for damage, exceeded limits, unsupported kinds and files for other networks.
    """
    header = read_header(path)
    facts = facts_of(header) | {"name": safe_name(header.path.stem) or "adapter", "size": header.size}
    if described := embedding_of(header):
        read_embedding(path, targets.text_width)
        word, (vectors, _) = described
        facts["trigger_words"] = facts["trigger_words"] or (cut(word, MAX_WORD) or header.path.stem,)
        return AdapterCard(
            file_hash(header.path), family=TEXTUAL_INVERSION, base_model=UNKNOWN, vectors=vectors, **facts
        )
    base = guess_base(header)
    refuse_foreign(header, base)
    planned = plan(header, targets, base)
    deltas = deltas_of(header, planned, targets)
    brought = (cut(word, MAX_WORD) for word in words_of(header))
    facts["trigger_words"] = tuple(dict.fromkeys((*facts["trigger_words"], *brought)))[:LISTED]
    every = [*deltas.unet.values(), *deltas.text.values()]
    return AdapterCard(
        file_hash(header.path),
        family=planned.family,
        base_model=base,
        unet_layers=len(deltas.unet),
        text_layers=len(deltas.text),
        unmatched=len(planned.unmatched),
        unmatched_names=tuple(name[:200] for name in planned.unmatched[:LISTED]),
        ranks=tuple(sorted({delta.rank for delta in every if delta.rank})),
        alphas=tuple(sorted({delta.alpha for delta in every if delta.rank})),
        **facts,
    )
