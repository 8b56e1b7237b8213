"""A file looked at before it is let in: what it is, whether it fits, what is told of it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from extensions.lora.adapter import MAX_WEIGHT, safe_name
from extensions.lora.card import LISTED, AdapterCard
from extensions.lora.files.alphas import IN_HEADER, config_beside
from extensions.lora.files.bases import UNKNOWN, guess_base, refuse_foreign
from extensions.lora.files.formats import embedding_of, plan, words_of
from extensions.lora.files.header import Header, read_header
from extensions.lora.files.read import deltas_of, read_embedding
from extensions.lora.names import Targets
from lavie.errors import AdapterError
from lavie.files import file_hash

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


def keep(path: Path | str, folder: Path | str, targets: Targets) -> tuple[AdapterCard, Path]:
    """Look at a file and copy it to `folder`, under its sha256; the copy appears whole or not at all.

    peft keeps the alphas in another file. They are written into the copy's header, so that one hash stands for all
    that decides what the adapter does; every other file is copied byte for byte.

    Returns the card, whose hash and size are the copy's, and the copy's path. Raises AdapterError as
    `inspection.inspect`, and where the copy cannot be written.
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
    """The card of an adapter's file. Every number in it is looked at once; nothing is put on a network.

    Args:
        targets: the networks it is for, see `read.targets_in` and `read.targets_of`.

    Raises AdapterError with what keeps the file from being used: damage, a limit, a kind that is not supported, a
    model of other layers.
    """
    header = read_header(path)
    facts = facts_of(header)
    named = {"name": safe_name(header.path.stem) or "adapter", "size": header.size}
    if described := embedding_of(header):
        read_embedding(path, targets.text_width)
        word, (vectors, _) = described
        facts["trigger_words"] = facts["trigger_words"] or (cut(word, MAX_WORD) or header.path.stem,)
        said = {"family": TEXTUAL_INVERSION, "base_model": UNKNOWN, "vectors": vectors}
        return AdapterCard(file_hash(header.path), **named, **said, **facts)
    base = guess_base(header)
    refuse_foreign(header, base)
    planned = plan(header, targets, base)
    changes = deltas_of(header, planned, targets)
    brought = (cut(word, MAX_WORD) for word in words_of(header))
    facts["trigger_words"] = tuple(dict.fromkeys((*facts["trigger_words"], *brought)))[:LISTED]
    every = [*changes.unet.values(), *changes.text.values()]
    return AdapterCard(
        file_hash(header.path),
        **named,
        family=planned.family,
        base_model=base,
        unet_layers=len(changes.unet),
        text_layers=len(changes.text),
        unmatched=len(planned.unmatched),
        unmatched_names=tuple(name[:200] for name in planned.unmatched[:LISTED]),
        ranks=tuple(sorted({change.rank for change in every if change.rank})),
        alphas=tuple(sorted({change.alpha for change in every if change.rank})),
        **facts,
    )
