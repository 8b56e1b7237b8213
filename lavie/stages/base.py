"""Stage 1: a prompt and noise → the latents of a short clip. Knows one network; no prompt, file or other stage."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from lavie.bundle import StageDefaults
from lavie.events import BASE, Step
from lavie.noise import INITIAL, STEP, derive_seed, frame_noise
from lavie.plans import PLAIN, MemoryMode
from lavie.request import Sampling
from lavie.sampling import Guided, denoise, make_scheduler, set_steps
from lavie.stages.preview import preview


def sample_base(
    network: nn.Module,
    text: Tensor,
    shape: tuple[int, int, int, int],
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    rung: MemoryMode = PLAIN,
) -> Generator[Step, None, Tensor]:
    """Denoise one clip.

    Args:
        network: a `BaseUNet` on its device.
        text: 2 L C, the negative prompt's embeddings first, or 2 F L C; one half where guidance is 1.
        shape: C F h w of the latents.
        sampling: every value decided.
        seed: of the request.
        rung: halves in turn or not; nothing else of it counts here.

    Returns:
        latents 1 C F h w.
    """
    channels, frames, height, width = shape
    noise = frame_noise(seed, (BASE, INITIAL), range(frames), (channels, height, width))
    scheduler = make_scheduler(sampling.sampler, defaults.prediction_type)
    set_steps(scheduler, sampling.steps, text.device)
    predict = Guided(network, text, sampling.guidance, sampling.rescale, in_turn=rung.halves)

    def generator_at(step: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, BASE, STEP, step))

    for done in denoise(predict, noise.to(text.device), scheduler, defaults.prediction_type, generator_at):
        yield Step(BASE, done.index + 1, sampling.steps, preview(done.clean, defaults.preview))
    return done.latents
