"""What a person is told of an adapter's file, as a value. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from lavie.values import from_json, to_json

SCHEMA_VERSION = 1
LISTED = 20  # of unmatched names, of tags: as many as a card shows


@dataclass(frozen=True)
class AdapterCard:
    """All texts are as strangers wrote them: whoever shows them escapes them.

    sha256, size: of the file, in bytes. family: whose format it is. base_model: what it was made for, in words.
    unet_layers, text_layers: how many layers of each part it changes. unmatched: how many it names that are not here,
    and `unmatched_names` the first of them. ranks, alphas: all that occur. vectors: of a textual inversion, else 0.
    trigger_words: what its maker says to write in the prompt; tags: the most frequent words of its training captions.
    preferred_weight: what its maker or owner recommends. preview: path of a picture beside the file. notes: what of
    the metadata could not be read.
    """

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

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return to_json(self, SCHEMA_VERSION)

    @classmethod
    def from_json(cls, text: str) -> AdapterCard:
        """The inverse of `to_json`. Raises RequestError for what is no card or comes from a newer version."""
        return from_json(cls, text, SCHEMA_VERSION, "an adapter's card")
