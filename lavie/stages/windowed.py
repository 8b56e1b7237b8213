"""What interpolation and super-resolution share: denoising a long video window by window and joining the results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from lavie.bundle import StageDefaults
from lavie.events import Step
from lavie.noise import INITIAL, frame_noise
from lavie.request import Sampling
from lavie.sampling import Predictor, denoise, make_scheduler, set_steps
from lavie.stages.preview import preview

# The window's start and the absolute frames that it shows → the predictor of that window.
PredictorAt = Callable[[int, Sequence[int]], Predictor]


def denoise_windows(
    stage: str,
    predictor_at: PredictorAt,
    shape: tuple[int, int, int, int],
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    device: torch.device,
    *,
    respaced: bool = False,
) -> Generator[Step, None, Tensor]:
    """Latents 1 C F h w of any length. Noise is keyed by the absolute frame, so that windows agree where they overlap.

    Args:
        stage: its name, for events and noise keys.
        predictor_at: makes the network's predictor for a window.
        shape: C F h w of the whole result.
        device: where to work.
    """
    channels, frames, height, width = shape
    windows = defaults.windows
    starts = windows.starts(frames)
    made = []
    for number, start in enumerate(starts):
        shown = range(start, start + windows.size)
        noise = frame_noise(seed, (stage, INITIAL), shown, (channels, height, width)).to(device)
        scheduler = make_scheduler(sampling.sampler, defaults.prediction_type, respaced=respaced)
        set_steps(scheduler, sampling.steps, device)
        predict = predictor_at(start, windows.frames(start, frames))
        for done in denoise(predict, noise, scheduler, defaults.prediction_type):
            count = number * sampling.steps + done.index + 1
            yield Step(stage, count, len(starts) * sampling.steps, preview(done.clean, defaults.preview))
        made.append(done.latents)
    return torch.cat(list(windows.blend(made, frames)), dim=2)


def total_steps(frames: int, sampling: Sampling, defaults: StageDefaults) -> int:
    return len(defaults.windows.starts(frames)) * sampling.steps
