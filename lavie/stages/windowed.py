"""Denoises a long video window by window and joins the windows, for interpolation and super-resolution."""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lavie.events import Step
from lavie.latents import Blended, preview
from lavie.manifest import StageDefaults
from lavie.memory_mode import PLAIN, MemoryMode
from lavie.noise import INITIAL, frame_noise
from lavie.request import Sampling
from lavie.sampling import Guided, Predictor, denoise, make_scheduler, set_steps
from lavie.values import require

# A window's start and the absolute frames that it shows → its predictor.
PredictorAt = Callable[[int, Sequence[int]], Predictor]
# The absolute frames that a window shows → embeddings of both halves of guidance (one where it is 1), 2 L C or
# 2 F L C; or a tensor for all windows.
Text = Tensor | Callable[[Sequence[int]], Tensor]
# Number of a window → its latents 1 C size h w before they are joined.
KeptWindows = MutableMapping[int, Tensor]


@dataclass(frozen=True)
class Run:
    """How a windowed stage runs, beside its network and the frames that it is shown.

    Args:
        text: embeddings 2 L C, the negative prompt's first; 1 L C where guidance is 1. Or one for each window.
        kept: stores each window before its last `Step` event; windows that are in it are not made again.
        mode: tiles matter to super-resolution alone.
    """

    text: Text
    sampling: Sampling
    defaults: StageDefaults
    seed: int
    kept: KeptWindows | None = None
    mode: MemoryMode = PLAIN

    def text_at(self, shown: Sequence[int]) -> Tensor:
        return self.text(shown) if callable(self.text) else self.text

    def guided(self, network: Callable[..., Tensor], shown: Sequence[int], **inputs: Any) -> Guided:
        """The predictor of a window. inputs: of `Guided`."""
        guidance, rescale, split = require(self.sampling.guidance), self.sampling.rescale, self.mode.split_guidance
        return Guided(network, self.text_at(shown), guidance, rescale, split_guidance=split, **inputs)


def denoise_windows(
    stage: str,
    predictor_at: PredictorAt,
    shape: tuple[int, int, int, int],
    run: Run,
    device: torch.device,
    *,
    respaced: bool = False,
) -> Generator[Step, None, Blended]:
    """Make latents of any length. The noise of a frame depends on its absolute number, so overlapping windows agree.

    Args:
        stage: for events and noise keys.
        shape: C F h w of the whole result.
        respaced: see `make_scheduler`.

    Returns:
        the windows in `run.kept`, which are joined when they are read.
    """
    channels, frames, height, width = shape
    sampling, defaults, windows = run.sampling, run.defaults, run.defaults.windows
    starts, steps = windows.starts(frames), require(sampling.steps)
    kept = {} if run.kept is None else run.kept
    for number, start in enumerate(starts):
        if number in kept:
            continue
        shown = range(start, start + windows.size)
        noise = frame_noise(run.seed, (stage, INITIAL), shown, (channels, height, width)).to(device)
        scheduler = make_scheduler(require(sampling.sampler), defaults.prediction_type, respaced=respaced)
        set_steps(scheduler, steps, device)
        predict = predictor_at(start, windows.frames(start, frames))
        for done in denoise(predict, noise, scheduler, defaults.prediction_type):
            if done.number + 1 == len(scheduler.timesteps):
                kept[number] = done.latents
            count = number * steps + done.number + 1
            yield Step(stage, count, len(starts) * steps, preview(done.clean, defaults.preview))
    return Blended(windows, kept, frames)


def total_steps(frames: int, sampling: Sampling, defaults: StageDefaults) -> int:
    return len(defaults.windows.starts(frames)) * require(sampling.steps)
