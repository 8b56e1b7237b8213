"""A cascade with LoRA adapters attached while its networks are on the device.

Tags in a prompt (`tags`) replace the adapters' own weights, so each segment of a long video may use other weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor, nn

from extensions.lora.adapter import Adapter
from extensions.lora.embeddings import extend_vocabulary, spell
from extensions.lora.files.read import AdapterDeltas
from extensions.lora.hooks import remove_adapters, set_adapters
from extensions.lora.names import TEXT, UNET
from extensions.lora.tags import take_tags
from lavie.cascade import Cascade
from lavie.events import BASE, Notice
from lavie.manifest import EXTENSION, TEXT_ENCODER
from lavie.text import PromptReport

_ADAPTED = (BASE, EXTENSION)  # the later stages' networks have layers of other meaning


class AdaptedCascade(Cascade):
    """A cascade over the loaded networks of another, with adapters on those of the base stage."""

    def __init__(self, cascade: Cascade, adapters: Sequence[Adapter], read: Callable[[Adapter], AdapterDeltas]) -> None:
        """read: an adapter's file → its deltas; called once for each adapter that is needed."""
        self.adapters, self._read = tuple(adapters), cache(read)
        super().__init__(cascade.bundle, cascade.residency)
        self._active: nn.Module | None = None

    def adapters_for(self, prompt: str) -> tuple[Adapter, ...]:
        """All adapters, with the weights of the prompt's tags or else their own."""
        tags = {tag.name.casefold(): tag for tag in take_tags(prompt)[1]}
        named = [(adapter, tags.get(adapter.name.casefold())) for adapter in self.adapters]
        return tuple(
            adapter if tag is None else replace(adapter, weight=tag.weight, text_weight=tag.text_weight)
            for adapter, tag in named
        )

    def set_weights_for(self, prompt: str) -> None:
        """Set the weights of the network on the device to those of a prompt."""
        if self._active is not None:
            set_adapters(self._active, UNET, self.adapters_for(prompt), self._read)

    def embed(self, stage: str, prompt: str, frames: int | None = None) -> Tensor:
        """See `Cascade.embed`. The prompt is read without its tags, by the adapted text encoder and with the adapters'
        words.
        """
        component = self.bundle.text_components(stage)[0]
        if component != TEXT_ENCODER:  # a stage with a text encoder of its own, which no adapter was made for
            return super().embed(stage, take_tags(prompt)[0], frames)
        words = self._words
        with self.on_device(component) as model, ExitStack() as inside:
            set_adapters(model, TEXT, self.adapters_for(prompt), self._read)
            inside.callback(remove_adapters, model)
            inside.enter_context(extend_vocabulary(self.bundle.text_encoder(stage), model, words))
            return super().embed(stage, spell(take_tags(prompt)[0], words), frames)

    def read(self, prompt: str) -> PromptReport:
        """See `Cascade.read`. Tags are removed, and words that adapters bring count as known."""
        report = super().read(take_tags(prompt)[0])
        return replace(report, unknown=tuple(word for word in report.unknown if word not in self._words))

    def notices(self, stage: str, prompt: str, what: str = "prompt") -> list[Notice]:
        return list(map(Notice, self.read(prompt).notices(what)))

    @property
    def _words(self) -> dict[str, Tensor]:
        return {word: rows for adapter in self.adapters for word, rows in self._read(adapter).words.items()}

    @contextmanager
    def on_device(self, component: str) -> Iterator[Any]:
        """See `Cascade.on_device`. Networks of the base stage carry the adapters."""
        with self.residency.on_device(component) as network:
            if component not in _ADAPTED:
                yield network
                return
            try:
                set_adapters(network, UNET, self.adapters, self._read)
                self._active = network
                yield network
            finally:
                self._active = None
                remove_adapters(network)
