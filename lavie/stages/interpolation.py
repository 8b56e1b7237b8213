"""Stage 2: the latents of N key frames → the latents of 4 (N − 1) + 1 frames. Every frame is made anew."""

from __future__ import annotations

from collections.abc import Generator

from torch import nn

from lavie.bundle import StageDefaults
from lavie.events import INTERPOLATION, Step
from lavie.latents import Latents
from lavie.plans import PLAIN, Rung
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import KeptWindows, Text, denoise_windows, text_at

RATE = 4  # output frames for each step from one key frame to the next


def interpolated_frames(keys: int) -> int:
    return RATE * (keys - 1) + 1


def nearest_key(frame: int) -> int:
    """The key frame that an output frame is conditioned on: i → (i + 1) // 4, as published."""
    return (frame + 1) // RATE


def nearest_keys(frames: int) -> list[int]:
    """Those of the first `frames` output frames."""
    return list(map(nearest_key, range(frames)))


def interpolate(
    network: nn.Module,
    text: Text,
    keys: Latents,
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    kept: KeptWindows | None = None,
    rung: Rung = PLAIN,
) -> Generator[Step, None, Latents]:
    """Fill in frames.

    Args:
        network: an `InterpolationUNet` on its device.
        text: 2 L C, the negative prompt's embeddings first; 1 L C where guidance is 1. Or one for each window.
        keys: of the N key frames; the base stage's own, never decoded and encoded again.
        kept: see `denoise_windows`.
        rung: halves in turn or not; nothing else of it counts here.

    Returns:
        latents of 4 (N − 1) + 1 frames.
    """
    read = text_at(text)
    example, like = keys.read([0]), read([0])

    def predictor_at(start: int, shown) -> Guided:
        beside = keys.read(list(map(nearest_key, shown))).to(like)
        options = {"concatenate": beside, "in_turn": rung.halves}
        return Guided(network, read(shown), sampling.guidance, sampling.rescale, **options)

    shape = (example.shape[1], interpolated_frames(keys.frames), *example.shape[3:])
    arguments = (shape, sampling, defaults, seed, like.device, kept)
    return (yield from denoise_windows(INTERPOLATION, predictor_at, *arguments, respaced=True))
