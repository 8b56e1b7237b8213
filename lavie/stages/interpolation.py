"""Stage 2: the latents of N key frames → the latents of 4 (N − 1) + 1 frames. Every frame is made anew."""

from __future__ import annotations

from collections.abc import Generator

from torch import nn

from lavie.bundle import StageDefaults
from lavie.events import INTERPOLATION, Step
from lavie.key_frames import interpolated_frames, show
from lavie.latents import Latents
from lavie.plans import PLAIN, MemoryMode
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import KeptWindows, Text, denoise_windows, text_at


def interpolate(
    network: nn.Module,
    text: Text,
    keys: Latents,
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    kept: KeptWindows | None = None,
    rung: MemoryMode = PLAIN,
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
        seen = show(keys, shown, defaults.conditioning)
        onto = None if seen.onto is None else seen.onto.to(like.device)
        options = {"concatenate": seen.beside.to(like), "onto": onto, "in_turn": rung.halves}
        return Guided(network, read(shown), sampling.guidance, sampling.rescale, **options)

    shape = (example.shape[1], interpolated_frames(keys.frames), *example.shape[3:])
    arguments = (shape, sampling, defaults, seed, like.device, kept)
    return (yield from denoise_windows(INTERPOLATION, predictor_at, *arguments, respaced=True))
