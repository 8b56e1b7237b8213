"""What interpolation and super-resolution share: denoising a long video window by window and joining the results."""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping, Sequence

import torch
from torch import Tensor

from lavie.bundle import StageDefaults
from lavie.events import Step
from lavie.latents import Blended
from lavie.noise import INITIAL, frame_noise
from lavie.request import Sampling
from lavie.sampling import Predictor, denoise, make_scheduler, set_steps
from lavie.stages.preview import preview

# The window's start and the absolute frames that it shows → the predictor of that window.
PredictorAt = Callable[[int, Sequence[int]], Predictor]
# Both halves of guidance (one where it is 1) for the absolute frames that a window shows: 2 L C, or 2 F L C with a
# prompt a frame; a tensor where all windows read the same.
Text = Tensor | Callable[[Sequence[int]], Tensor]
# Number of a window → its latents 1 C size h w, as they are before they are joined.
KeptWindows = MutableMapping[int, Tensor]


def text_at(text: Text) -> Callable[[Sequence[int]], Tensor]:
    """The text of a window by the absolute frames that it shows."""
    return text if callable(text) else lambda shown: text


def denoise_windows(
    stage: str,
    predictor_at: PredictorAt,
    shape: tuple[int, int, int, int],
    sampling: Sampling,
    defaults: StageDefaults,
    seed: int,
    device: torch.device,
    kept: KeptWindows | None = None,
    *,
    respaced: bool = False,
) -> Generator[Step, None, Blended]:
    """Latents of any length. Noise is keyed by the absolute frame, so that windows agree where they overlap.

    Args:
        stage: its name, for events and noise keys.
        predictor_at: makes the network's predictor for a window.
        shape: C F h w of the whole result.
        device: where to work.
        kept: where windows are put as soon as they are made, before the last step of them is told; those that are
            there already are not made again.

    Returns:
        the windows in `kept`, joined as they are read.
    """
    channels, frames, height, width = shape
    windows = defaults.windows
    starts = windows.starts(frames)
    kept = {} if kept is None else kept
    for number, start in enumerate(starts):
        if number in kept:
            continue
        shown = range(start, start + windows.size)
        noise = frame_noise(seed, (stage, INITIAL), shown, (channels, height, width)).to(device)
        scheduler = make_scheduler(sampling.sampler, defaults.prediction_type, respaced=respaced)
        set_steps(scheduler, sampling.steps, device)
        predict = predictor_at(start, windows.frames(start, frames))
        for done in denoise(predict, noise, scheduler, defaults.prediction_type):
            if done.index + 1 == len(scheduler.timesteps):
                kept[number] = done.latents
            count = number * sampling.steps + done.index + 1
            yield Step(stage, count, len(starts) * sampling.steps, preview(done.clean, defaults.preview))
    return Blended(windows, kept, frames)


def total_steps(frames: int, sampling: Sampling, defaults: StageDefaults) -> int:
    return len(defaults.windows.starts(frames)) * sampling.steps
