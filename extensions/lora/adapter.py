"""An adapter as a value, and the card of its file. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from extensions.lora.names import UNET
from lavie.values import Stored, check, check_kind, check_number

LISTED = 20  # of unmatched names, of tags: as many as a card shows


@dataclass(frozen=True)
class AdapterCard(Stored):
    """What an adapter's file says about itself. All texts are untrusted: escape them before showing them.

    Args:
        family: the file format.
        base_model: the model it was made for, in words.
        unet_layers, text_layers: number of layers that it changes.
        unmatched: number of layers in the file that the networks lack; `unmatched_names` has the first of them.
        vectors: of a textual inversion, else 0.
        trigger_words: what its maker says to write in the prompt.
        tags: the most frequent words of its training captions.
        preview: path of a picture beside the file.
        notes: parts of the metadata that could not be read.
    """

    stored_as = "an adapter's card"

    sha256: str
    size: int
    name: str
    family: str
    base_model: str
    unet_layers: int = 0
    text_layers: int = 0
    unmatched: int = 0
    unmatched_names: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    vectors: int = 0
    title: str = ""
    trigger_words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    preferred_weight: float | None = None
    description: str = ""
    author: str = ""
    licence: str = ""
    preview: str | None = None
    notes: tuple[str, ...] = ()


MAX_WEIGHT = 2.0
MAX_NAME = 200  # characters
_HASH = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"[^\w.\- ]")  # in prompts, in paths and on pages


@dataclass(frozen=True)
class Adapter(Stored):
    """An adapter and its strength.

    Args:
        sha256: of the file, which identifies it.
        name: as prompts call it, see `safe_name`.
        weight: in the UNet, −2 … 2; negative is the opposite, 0 is off.
        text_weight: in the text encoder, −2 … 2; None for `weight`.

    Raises RequestError for values outside these limits.
    """

    stored_as = "an adapter"

    sha256: str
    name: str
    weight: float = 1.0
    text_weight: float | None = None

    def __post_init__(self) -> None:
        check_kind("an adapter's sha256", self.sha256, str)
        check(bool(_HASH.fullmatch(self.sha256)), f"sha256 is {self.sha256[:80]!r}: give 64 digits, 0 to f")
        check_kind("an adapter's name", self.name, str)
        usable = bool(self.name) and self.name == safe_name(self.name)
        wanted = f"give 1 to {MAX_NAME} letters, digits, spaces, dots, dashes or underscores"
        check(usable, f"the adapter's name is {self.name[:80]!r}: {wanted}")
        check(self.weight is not None, f"{self.name}'s weight is None: give a number from -2 to 2")
        check_number(f"{self.name}'s weight", self.weight, -MAX_WEIGHT, MAX_WEIGHT)
        check_number(f"{self.name}'s text_weight", self.text_weight, -MAX_WEIGHT, MAX_WEIGHT)

    def weight_of(self, part: str) -> float:
        """The weight in one of `names.PARTS`."""
        return self.weight if part == UNET or self.text_weight is None else self.text_weight


def safe_name(text: str) -> str:
    """A name for prompts, paths and pages, made from a file name or a title."""
    return _UNSAFE.sub("_", text).strip(" .")[:MAX_NAME].rstrip(" .")


def check_different(adapters: Sequence[Adapter]) -> None:
    """Raises RequestError if the same file occurs twice."""
    seen = set()
    for adapter in adapters:
        twice = f"the adapter {adapter.name!r} is asked for twice: keep one, with the weight you want"
        check(adapter.sha256 not in seen, twice)
        seen.add(adapter.sha256)
