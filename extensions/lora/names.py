"""The layers that an adapter may change, and all names that files give them. Needs no torch.

The table of names is built from the network's own names, so no flattened name has to be guessed back: no two paths of
SD 1 and LaVie are alike with underscores in place of dots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

UNET, TEXT = PARTS = ("unet", "text")
Shapes = Mapping[str, tuple[int, ...]]  # a layer's name → the shape of its weight: out in, or out in k k

_UNET_PREFIXES = ("", "unet.", "base_model.model.", "base_model.model.unet.")
_TEXT_PREFIXES = ("", "text_encoder.", "base_model.model.", "base_model.model.text_encoder.")
_FLAT_UNET, _FLAT_TEXT = ("lora_unet_", "lycoris_"), ("lora_te_",)
_TEXT_ROOT = "text_model."  # above all layers in files, and in transformers before version 5
# What diffusers called the text encoder's projections when its attention was replaced by a processor.
_OLD_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


@dataclass(frozen=True)
class Targets:
    """The layers of a UNet and a text encoder that adapters may change: linear ones and 2-D convolutions."""

    unet: Shapes = field(default_factory=dict)
    text: Shapes = field(default_factory=dict)

    def shapes(self, part: str) -> Shapes:
        return self.unet if part == UNET else self.text

    def find(self, name: str) -> tuple[str, str] | None:
        """The part and layer that a file calls `name`; None if the networks have no such layer."""
        return self._table.get(name)

    @property
    def text_width(self) -> int:
        """Channels of the text encoder; 0 without one."""
        return next((shape[1] for name, shape in self.text.items() if name.endswith("q_proj")), 0)

    @cached_property
    def _table(self) -> dict[str, tuple[str, str]]:
        table: dict[str, tuple[str, str]] = {}
        for layer in self.text:
            table |= dict.fromkeys(_text_names(layer), (TEXT, layer))
        for layer in self.unet:
            table |= dict.fromkeys(_unet_names(layer), (UNET, layer))
        return table


def kohya_name(part: str, layer: str) -> str:
    """kohya-ss' name of a layer, which most tools read."""
    if part == UNET:
        return _FLAT_UNET[0] + flat(layer)
    return _FLAT_TEXT[0] + flat(_TEXT_ROOT + layer.removeprefix(_TEXT_ROOT))


def flat(name: str) -> str:
    """A path with underscores, as kohya-ss writes it."""
    return name.replace(".", "_")


def _unet_names(layer: str) -> list[str]:
    spellings = [layer, layer.removesuffix(".0")] if layer.endswith("to_out.0") else [layer]
    above, _, last = spellings[-1].rpartition(".")
    processed = [f"{above}.processor.{last}"] if last in _OLD_TEXT.values() else []
    dotted = [prefix + spelling for prefix in _UNET_PREFIXES for spelling in (*spellings, *processed)]
    return dotted + [prefix + flat(layer) for prefix in _FLAT_UNET]


def _text_names(layer: str) -> list[str]:
    short = layer.removeprefix(_TEXT_ROOT)
    spellings = [_TEXT_ROOT + short, short]
    above, _, last = short.rpartition(".")
    old = [f"{root}{above}.{_OLD_TEXT[last]}" for root in (_TEXT_ROOT, "")] if last in _OLD_TEXT else []
    dotted = [prefix + spelling for prefix in _TEXT_PREFIXES for spelling in (*spellings, *old)]
    return dotted + [prefix + flat(spelling) for prefix in _FLAT_TEXT for spelling in spellings]
