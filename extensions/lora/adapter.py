"""An adapter as a value: which file, and how strongly. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from extensions.lora.names import UNET
from lavie.values import check, check_kind, check_number, from_json, to_json

SCHEMA_VERSION = 1
MAX_WEIGHT = 2.0
MAX_NAME = 200  # characters
_HASH = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"[^\w.\- ]")  # in prompts, in paths and on pages


@dataclass(frozen=True)
class Adapter:
    """sha256: of the file, which names it whatever it is called. name: as prompts call it, see `safe_name`.

    weight: −2 … 2, of what it changes in the UNet; negative is the opposite, 0 is off. text_weight: the same for the
    text encoder, None for `weight`.

    Raises RequestError on any value outside its limits.
    """

    sha256: str
    name: str
    weight: float = 1.0
    text_weight: float | None = None

    def __post_init__(self):
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

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return to_json(self, SCHEMA_VERSION)

    @classmethod
    def from_json(cls, text: str) -> Adapter:
        """The inverse of `to_json`. Raises RequestError for what is no adapter or comes from a newer version."""
        return from_json(cls, text, SCHEMA_VERSION, "an adapter")


def safe_name(text: str) -> str:
    """A name for prompts, paths and pages, made from a file's or a title."""
    return _UNSAFE.sub("_", text).strip(" .")[:MAX_NAME].rstrip(" .")


def check_different(adapters: Sequence[Adapter]) -> None:
    """Raises RequestError where one file is asked for twice: which of the weights is meant?"""
    seen = set()
    for adapter in adapters:
        twice = f"the adapter {adapter.name!r} is asked for twice: keep one, with the weight you want"
        check(adapter.sha256 not in seen, twice)
        seen.add(adapter.sha256)
