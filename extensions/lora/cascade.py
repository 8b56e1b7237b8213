"""A cascade that wears adapters: the networks carry them while they are on the device for it, and nothing afterwards.

What is worn depends on the prompt: a tag in it (`tags`) says another weight than the adapter's own. So the segments of
a long video, each with its own prompt, may each wear something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache

from torch import Tensor, nn

from extensions.lora.adapter import Adapter
from extensions.lora.embeddings import known_words, spell
from extensions.lora.files.read import AdapterDeltas
from extensions.lora.hooks import remove_adapters, set_adapters
from extensions.lora.names import TEXT, UNET
from extensions.lora.tags import TagWeights, take_tags
from lavie.bundle import EXTENSION, TEXT_ENCODER
from lavie.cascade import Cascade
from lavie.events import BASE, Notice
from lavie.residency import Residency
from lavie.text import PromptReport

_WEARERS = (BASE, EXTENSION)  # the later stages' networks have layers of other meaning


class AdaptedCascade(Cascade):
    """A cascade over the same loaded networks as another, with adapters on those of its base stage."""

    def __init__(self, cascade: Cascade, adapters: Sequence[Adapter], read: Callable[[Adapter], AdapterDeltas]):
        """read: an adapter's file → what it changes; called once for each that is needed."""
        self.adapters, self._read = tuple(adapters), cache(read)
        super().__init__(cascade.bundle, _Dressing(cascade.residency, self._dressed))
        self._worn: nn.Module | None = None

    def adapters_for(self, prompt: str) -> tuple[Adapter, ...]:
        """What is worn for a prompt: all, at the weights that its tags say, else at their own."""
        said = {one.name.casefold(): one for one in take_tags(prompt)[1]}
        return tuple(_weighed(adapter, said.get(adapter.name.casefold())) for adapter in self.adapters)

    def wear_for(self, prompt: str) -> None:
        """Weigh what the network on the device carries as a prompt asks for."""
        if self._worn is not None:
            set_adapters(self._worn, UNET, self.adapters_for(prompt), self._read)

    def embed(self, stage: str, prompt: str, frames: int | None = None) -> Tensor:
        """As `Cascade.embed`: without its tags, the text encoder and its words as the adapters have them."""
        component = self.bundle.text_components(stage)[0]
        if component != TEXT_ENCODER:  # a stage with a text encoder of its own, which no adapter was made for
            return super().embed(stage, take_tags(prompt)[0], frames)
        words = self._words
        with self.residency.on_device(component) as model, ExitStack() as inside:
            set_adapters(model, TEXT, self.adapters_for(prompt), self._read)
            inside.callback(remove_adapters, model)
            inside.enter_context(known_words(self.bundle.text_encoder(stage), model, words))
            return super().embed(stage, spell(take_tags(prompt)[0], words), frames)

    def read(self, prompt: str) -> PromptReport:
        """As `Cascade.read`, of a prompt without its tags; words that adapters bring are not unknown."""
        report = super().read(take_tags(prompt)[0])
        return replace(report, unknown=tuple(word for word in report.unknown if word not in self._words))

    def notices(self, stage: str, prompt: str, what: str = "prompt") -> list[Notice]:
        return list(map(Notice, self.read(prompt).notices(what)))

    @property
    def _words(self) -> dict[str, Tensor]:
        return {word: rows for adapter in self.adapters for word, rows in self._read(adapter).words.items()}

    @contextmanager
    def _dressed(self, component: str, network: nn.Module) -> Iterator[None]:
        """A component as it is handed out: those of the base stage carry the adapters."""
        if component not in _WEARERS:
            yield
            return
        try:
            set_adapters(network, UNET, self.adapters, self._read)
            self._worn = network
            yield
        finally:
            self._worn = None
            remove_adapters(network)


class _Dressing:
    """A residency that dresses what it hands out."""

    def __init__(self, residency: Residency, dressed: Callable):
        self._residency, self._dressed = residency, dressed

    def __getattr__(self, name: str):
        return getattr(self._residency, name)

    @contextmanager
    def on_device(self, component: str) -> Iterator[nn.Module]:
        with self._residency.on_device(component) as module, self._dressed(component, module):
            yield module


def _weighed(adapter: Adapter, asked: TagWeights | None) -> Adapter:
    return adapter if asked is None else replace(adapter, weight=asked.weight, text_weight=asked.text_weight)
