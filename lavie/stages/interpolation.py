"""Stage 2: the latents of N key frames → the latents of 4 (N − 1) + 1 frames. Every frame is made anew."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from lavie.events import INTERPOLATION, Step
from lavie.key_frames import interpolated_frames, show
from lavie.latents import Latents
from lavie.manifest import StageDefaults
from lavie.memory_mode import PLAIN, MemoryMode
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import KeptWindows, Text, denoise_windows, text_at
from lavie.values import require


def interpolate(
    network: Any,
    text: Text,
    keys: Latents,
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    kept: KeptWindows | None = None,
    mode: MemoryMode = PLAIN,
) -> Generator[Step, None, Latents]:
    """Make the latents of 4 (N − 1) + 1 frames from those of N key frames.

    Args:
        network: an `InterpolationUNet` on its device.
        text: embeddings 2 L C, the negative prompt's first; 1 L C where guidance is 1. Or one for each window.
        kept: see `denoise_windows`.
        mode: only split guidance matters here.
    """
    read = text_at(text)
    example, like = keys.read([0]), read([0])

    def predictor_at(start: int, shown: Sequence[int]) -> Guided:
        seen = show(keys, shown, defaults.conditioning)
        return Guided(
            network,
            read(shown),
            require(sampling.guidance),
            sampling.rescale,
            concatenate=seen.beside.to(like),
            residual_base=None if seen.residual_base is None else seen.residual_base.to(like.device),
            split_guidance=mode.split_guidance,
        )

    _, channels, _, height, width = example.shape
    shape = (channels, interpolated_frames(keys.frames), height, width)
    windows = (INTERPOLATION, predictor_at, shape, sampling, defaults, seed, like.device, kept)
    return (yield from denoise_windows(*windows, respaced=True))
