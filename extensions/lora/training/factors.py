"""Low-rank factors that are trained, beside a network whose own weights never move."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from extensions.lora.deltas import LowRank
from extensions.lora.hooks import hooks_of
from extensions.lora.names import Shapes, flat
from extensions.lora.training.presets import Preset
from lavie.errors import TrainingError

KEY = "trained"  # under which a network's rack holds them


class Factors(nn.Module):
    """The two factors of every layer that a preset names. A fresh adapter changes nothing: `up` begins at zero."""

    def __init__(self, shapes: Shapes, preset: Preset, seed: int):
        """shapes: of all layers that an adapter may change. seed: of the lower factors, each layer's drawn in turn.

        Raises TrainingError where the network has none of the preset's layers.
        """
        super().__init__()
        chosen = {layer: shape for layer, shape in shapes.items() if any(piece in layer for piece in preset.layers)}
        if not chosen:
            raise TrainingError(f"the network has no layer for {preset.name}: choose another model")
        generator = torch.Generator().manual_seed(seed)
        self._layers = {}
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for layer, (out, *into) in chosen.items():
            rank = min(preset.rank, out, math.prod(into))  # more would say nothing that these cannot
            self._layers[layer] = preset.alpha * rank / preset.rank
            self.down[flat(layer)] = nn.Parameter(_spread((rank, *into), generator))
            self.up[flat(layer)] = nn.Parameter(torch.zeros(out, rank))

    def changes(self, dtype: torch.dtype | None = None) -> dict[str, LowRank]:
        """Layer → its change, of the factors themselves; with `dtype`, of copies in that number type."""
        found = {}
        for layer, alpha in self._layers.items():
            pair = (self.down[flat(layer)], self.up[flat(layer)])
            found[layer] = LowRank(alpha, *(pair if dtype is None else (each.detach().to(dtype) for each in pair)))
        return found

    def hang(self, network: nn.Module) -> None:
        """Let the network, on the device where these factors are, compute with them from now on."""
        hooks_of(network).hold(KEY, self.changes())


@contextmanager
def without_factors(network: nn.Module) -> Iterator[None]:
    """The network as it is by itself: factors that hang there are not computed."""
    weights = hooks_of(network).weights
    before, weights[KEY] = weights[KEY], 0.0
    try:
        yield
    finally:
        weights[KEY] = before


def _spread(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform, as kohya-ss and peft begin the lower factor (He et al., arXiv 1502.01852, with a slope of √5)."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def parameters_of(shapes: Mapping[str, tuple[int, ...]], preset: Preset) -> int:
    """How many numbers are trained."""
    chosen = (shape for layer, shape in shapes.items() if any(piece in layer for piece in preset.layers))
    return sum(preset.rank * (shape[0] + math.prod(shape[1:])) for shape in chosen)
