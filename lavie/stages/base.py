"""Stage 1: a prompt and noise → the latents of a short clip."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from lavie.events import BASE, Step
from lavie.latents import preview
from lavie.manifest import StageDefaults
from lavie.memory_mode import PLAIN, MemoryMode
from lavie.noise import INITIAL, STEP, derive_seed, frame_noise
from lavie.request import Sampling
from lavie.sampling import Guided, denoise, make_scheduler, set_steps
from lavie.values import require


def sample_base(
    network: Any,
    text: Tensor,
    shape: tuple[int, int, int, int],
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    mode: MemoryMode = PLAIN,
) -> Generator[Step, None, Tensor]:
    """Denoise one clip and return its latents, 1 C F h w.

    Args:
        network: a `BaseUNet` on its device.
        text: embeddings 2 L C, the negative prompt's first, or 2 F L C; one half where guidance is 1.
        shape: C F h w of the latents.
        mode: only split guidance matters here.
    """
    channels, frames, height, width = shape
    noise = frame_noise(seed, (BASE, INITIAL), range(frames), (channels, height, width))
    steps = require(sampling.steps)
    scheduler = make_scheduler(require(sampling.sampler), defaults.prediction_type)
    set_steps(scheduler, steps, text.device)
    guidance = require(sampling.guidance)
    predict = Guided(network, text, guidance, sampling.rescale, split_guidance=mode.split_guidance)

    def generator_at(step: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, BASE, STEP, step))

    for done in denoise(predict, noise.to(text.device), scheduler, defaults.prediction_type, generator_at):
        yield Step(BASE, done.number + 1, steps, preview(done.clean, defaults.preview))
    return done.latents
