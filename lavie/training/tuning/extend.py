"""The frame-conditioned network run once over a clip, to show while it is trained what it has learned."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor, nn

from lavie.events import Step
from lavie.latents import Latents
from lavie.manifest import EXTENSION, StageDefaults
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import denoise_windows


def extend(
    network: nn.Module, text: Tensor, beside: Tensor, sampling: Sampling, defaults: StageDefaults, seed: int
) -> Generator[Step, None, Latents]:
    """Latents of a clip of which `beside` (1 1+C F h w, see `masks`) gives some frames.

    text: 2 L C, the negative prompt's embeddings first; 1 L C where guidance is 1.
    """
    shape = (network.config.out_channels, *beside.shape[2:])

    def predictor_at(start: int, shown) -> Guided:
        return Guided(network, text, sampling.guidance, sampling.rescale, concatenate=beside)

    return (yield from denoise_windows(EXTENSION, predictor_at, shape, sampling, defaults, seed, text.device))
