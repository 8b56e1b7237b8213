"""What a training changes: low-rank factors beside a frozen network, and vectors for a trigger that the model cannot
read.

A CLIP vocabulary can spell any word, so a rare trigger works as it is. A closed vocabulary reads all unknown words
alike; there the trigger gets vectors, trained beside the factors (textual inversion, Gal et al., arXiv 2208.01618) and
stored in the same file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from extensions.lora.deltas import LayerDelta, LowRank
from extensions.lora.hooks import hooks_of
from extensions.lora.names import Shapes, flat
from extensions.lora.training.settings import Preset
from lavie.errors import TrainingError
from lavie.text import TextEncoder

VECTORS = 2  # of a trigger, for its look and its kind
FREQUENT = 40_000  # CLIP's vocabulary is sorted by frequency; words before this are in common use


class TriggerWord(nn.Module):
    """A trigger with vectors of its own."""

    def __init__(self, word: str, encoder: TextEncoder, table: nn.Embedding) -> None:
        """table: the text model's embeddings. The vectors start at the mean of all trained words."""
        super().__init__()
        self.word, self._encoder, self._table = word, encoder, (table,)  # a tuple, so that the table is no submodule
        mean = table.weight[self._trained_words()].mean(0).float()
        self.embeddings = nn.ParameterDict({"vectors": mean.repeat(VECTORS, 1)})

    @torch.no_grad()
    def choose_start(self, phrases: Sequence[str], loss: Callable[[], Tensor]) -> str | None:
        """Start from the phrase that explains the media best, and return it; None if there is none to try.

        A trigger that starts as words of its kind is read as one of them from the first step.

        Args:
            phrases: with as many tokens as there are vectors; others are skipped.
            loss: of the media with the current vectors, with the same noise each time.
        """
        numbers = {phrase: self._numbers(phrase) for phrase in phrases}
        tried = {phrase: found for phrase, found in numbers.items() if len(found) == VECTORS}
        losses = {}
        for phrase in tried:
            self._copy(tried[phrase])
            losses[phrase] = loss().item()
        if not losses:
            return None
        best = min(losses, key=losses.__getitem__)
        self._copy(tried[best])
        return best

    def _numbers(self, phrase: str) -> list[int]:
        return self._encoder.tokenizer(phrase, add_special_tokens=False)["input_ids"]

    def _copy(self, numbers: list[int]) -> None:
        self.embeddings["vectors"].copy_(self._table[0].weight[torch.tensor(numbers)])

    def _trained_words(self) -> list[int]:
        """The numbers of the words that the text model was trained on."""
        special = set(self._encoder.tokenizer.all_special_ids)
        return [number for number in range(len(self._table[0].weight)) if number not in special]

    def words(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """See `embeddings.extend_vocabulary`; with `dtype` copies in that number type."""
        vectors = self.embeddings["vectors"]
        return {self.word: vectors if dtype is None else vectors.detach().to(dtype)}


def needs_vector(encoder: TextEncoder, word: str) -> bool:
    """Whether the model cannot tell the word from other unknown ones."""
    return bool(encoder.read(word).unknown)


def ordinary_word(encoder: TextEncoder, word: str) -> str | None:
    """A warning if the trigger is a word that the model knows already; None for a rare one."""
    tokenizer = encoder.tokenizer
    numbers = tokenizer(word, add_special_tokens=False)["input_ids"]
    closed = tokenizer.unk_token_id not in (None, tokenizer.eos_token_id)
    known = len(numbers) == 1 and (numbers[0] != tokenizer.unk_token_id if closed else numbers[0] < FREQUENT)
    if not known:
        return None
    return (
        f"“{word}” is an ordinary word of this model: prompts that use it will change too, and what it knows of the "
        "word mixes with what it learns; a made-up one, such as “zkw”, keeps both apart"
    )


KEY = "trained"  # of the factors in a network's hooks


class Factors(nn.Module):
    """The two factors of every layer that a preset names. `up` starts at zero, so a new adapter changes nothing."""

    def __init__(self, shapes: Shapes, preset: Preset, seed: int) -> None:
        """Args:
            shapes: of all layers that an adapter may change.
            seed: of the lower factors, drawn layer by layer.

        Raises TrainingError if the network has none of the preset's layers.
        """
        super().__init__()
        chosen = {layer: shape for layer, shape in shapes.items() if any(piece in layer for piece in preset.layers)}
        if not chosen:
            raise TrainingError(f"the network has no layer for {preset.name}: choose another model")
        generator = torch.Generator().manual_seed(seed)
        self._layers = {}
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for layer, (out, *into) in chosen.items():
            rank = min(preset.rank, out, math.prod(into))  # a higher rank adds nothing
            self._layers[layer] = preset.alpha * rank / preset.rank
            self.down[flat(layer)] = nn.Parameter(_draw_uniform((rank, *into), generator))
            self.up[flat(layer)] = nn.Parameter(torch.zeros(out, rank))

    def deltas(self, dtype: torch.dtype | None = None) -> dict[str, LayerDelta]:
        """Layer → delta with the factors themselves, or with copies in `dtype`."""
        found: dict[str, LayerDelta] = {}
        for layer, alpha in self._layers.items():
            pair = (self.down[flat(layer)], self.up[flat(layer)])
            found[layer] = LowRank(alpha, *(pair if dtype is None else (each.detach().to(dtype) for each in pair)))
        return found

    def attach(self, network: nn.Module) -> None:
        """Add the factors to a network on their device."""
        hooks_of(network).add(KEY, self.deltas())


@contextmanager
def without_factors(network: nn.Module) -> Iterator[None]:
    """Run the network without attached factors within the block."""
    weights = hooks_of(network).weights
    before, weights[KEY] = weights[KEY], 0.0
    try:
        yield
    finally:
        weights[KEY] = before


def _draw_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The uniform start of the lower factor in kohya-ss and peft (He et al., arXiv 1502.01852, with a slope of √5)."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def count_parameters(shapes: Mapping[str, tuple[int, ...]], preset: Preset) -> int:
    """How many numbers are trained."""
    chosen = (shape for layer, shape in shapes.items() if any(piece in layer for piece in preset.layers))
    return sum(preset.rank * (shape[0] + math.prod(shape[1:])) for shape in chosen)
