"""Stage 2: the latents of N key frames → the latents of 4 (N − 1) + 1 frames. Every frame is made anew."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from lavie.bundle import StageDefaults
from lavie.events import INTERPOLATION, Step
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import denoise_windows

RATE = 4  # output frames for each step from one key frame to the next


def interpolated_frames(keys: int) -> int:
    return RATE * (keys - 1) + 1


def nearest_keys(frames: int) -> list[int]:
    """The key frame that each of `frames` output frames is conditioned on: i → (i + 1) // 4, as published."""
    return [(frame + 1) // RATE for frame in range(frames)]


def interpolate(
    network: nn.Module, text: Tensor, keys: Tensor, sampling: Sampling, defaults: StageDefaults, seed: int
) -> Generator[Step, None, Tensor]:
    """Fill in frames.

    Args:
        network: an `InterpolationUNet` on its device.
        text: 2 L C, the negative prompt's embeddings first; 1 L C where guidance is 1.
        keys: 1 C N h w, latents of the key frames; the base stage's own, never decoded and encoded again.

    Returns:
        latents 1 C 4(N−1)+1 h w.
    """
    keys = keys.to(text)
    channels, count, height, width = keys.shape[1:]
    near = torch.tensor(nearest_keys(interpolated_frames(count)), device=keys.device)

    def predictor_at(start: int, shown) -> Guided:
        beside = keys.index_select(2, near[shown])
        return Guided(network, text, sampling.guidance, sampling.rescale, concatenate=beside)

    shape = (channels, interpolated_frames(count), height, width)
    return (
        yield from denoise_windows(
            INTERPOLATION, predictor_at, shape, sampling, defaults, seed, text.device, respaced=True
        )
    )
