"""Stage 2: the latents of N key frames → the latents of 4 (N − 1) + 1 frames. Every frame is made anew."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from lavie.events import INTERPOLATION, Step
from lavie.key_frames import interpolated_frames, show
from lavie.latents import Latents
from lavie.sampling import Guided
from lavie.stages.windowed import Run, denoise_windows


def interpolate(network: Any, keys: Latents, run: Run) -> Generator[Step, None, Latents]:
    """Make the latents of 4 (N − 1) + 1 frames from those of N key frames.

    network: an `InterpolationUNet` on its device.
    """
    example, like = keys.read([0]), run.text_at([0])

    def predictor_at(start: int, shown: Sequence[int]) -> Guided:
        seen = show(keys, shown, run.defaults.conditioning)
        base = None if seen.residual_base is None else seen.residual_base.to(like.device)
        return run.guided(network, shown, concatenate=seen.beside.to(like), residual_base=base)

    _, channels, _, height, width = example.shape
    shape = (channels, interpolated_frames(keys.frames), height, width)
    return (yield from denoise_windows(INTERPOLATION, predictor_at, shape, run, like.device, respaced=True))
