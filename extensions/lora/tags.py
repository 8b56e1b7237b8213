"""Adapter tags in prompts, in the syntax of AUTOMATIC1111's web UI. Needs no torch.

    <lora:name>  <lora:name:0.8>  <lora:name:TEXT:UNET>  <lora:name:te=0.5:unet=0.8>

Other tags, such as `<hypernet:…>`, stay in the text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extensions.lora.adapter import MAX_WEIGHT, Adapter, check_different
from lavie.errors import RequestError, short
from lavie.values import check

TAG = re.compile(r"<(?:lora|lyco):([^<>]+)>")  # `take_tags` reads it
_GAP = re.compile(r"[ \t]{2,}")
_TEXT, _UNET, _RANK = "te", "unet", "dyn"


@dataclass(frozen=True)
class TagWeights:
    """The name and weights in a tag. text_weight: None for `weight`, as in `Adapter`."""

    name: str
    weight: float = 1.0
    text_weight: float | None = None


def take_tags(prompt: str) -> tuple[str, tuple[TagWeights, ...]]:
    """The prompt without its tags, and the tags in order. A prompt without tags is returned unchanged.

    Raises RequestError for a tag whose weights cannot be read.
    """
    asked = tuple(_read(match[0], match[1]) for match in TAG.finditer(prompt))
    return (_GAP.sub(" ", TAG.sub(" ", prompt)).strip(), asked) if asked else (prompt, ())


def with_tags(prompt: str, adapters: Sequence[Adapter]) -> str:
    """The prompt after a tag for each adapter that it does not name yet; the inverse of `take_tags`."""
    there = {asked.name for asked in take_tags(prompt)[1]}
    return " ".join([*(_write(adapter) for adapter in adapters if adapter.name not in there), prompt])


def _write(adapter: Adapter) -> str:
    text = adapter.weight if adapter.text_weight is None else adapter.text_weight
    weights = f"{adapter.weight:g}" if text == adapter.weight else f"{text:g}:{adapter.weight:g}"
    return f"<lora:{adapter.name}:{weights}>"


def find_adapters(asked: Sequence[TagWeights], known: Mapping[str, str]) -> tuple[Adapter, ...]:
    """The adapters that tags name. known: name → sha256; case is ignored where only one name fits.

    Raises RequestError for an unknown name, listing the nearest, and for one that occurs twice.
    """
    adapters = tuple(Adapter(*_known(one.name, known), one.weight, one.text_weight) for one in asked)
    check_different(adapters)
    return adapters


def _read(tag: str, inside: str) -> TagWeights:
    name, *values = (piece.strip() for piece in inside.split(":"))
    check(bool(name), f"{tag[:80]} names no adapter: write <lora:name:0.8>")
    named = dict(value.split("=", 1) for value in values if "=" in value)
    positional = [value for value in values if "=" not in value]
    check(len(positional) <= 2 and _RANK not in named, f"{tag[:80]} asks for a part of the ranks: leave it out")
    unknown = sorted(named.keys() - {_TEXT, _UNET})
    check(not unknown, f"{tag[:80]} holds {short(''.join(unknown[:1]))}: te= and unet= are understood")
    te, unet, *_ = *positional, "", ""
    text = _weight(tag, named.get(_TEXT, te or "1"))
    weight = _weight(tag, named.get(_UNET, unet)) if _UNET in named or unet else text
    return TagWeights(name, weight, None if text == weight else text)


def _weight(tag: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    within = -MAX_WEIGHT <= weight <= MAX_WEIGHT  # false for what is no number
    check(within, f"{tag[:80]} has the weight {short(text)}: give a number from -2 to 2")
    return weight


def _known(name: str, known: Mapping[str, str]) -> tuple[str, str]:
    if name in known:
        return known[name], name
    alike = [other for other in known if other.casefold() == name.casefold()]
    if len(alike) == 1:
        return known[alike[0]], alike[0]
    near = ", ".join(difflib.get_close_matches(name, known, n=3)) or ", ".join(sorted(known)[:5])
    there = f"there is {near}" if near else "there are none yet, import its file first"
    raise RequestError(f"no adapter is called {short(name)}: {there}")
