"""What the strategies share: a network that makes one window of frames, and such a window."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from extensions.long_video.plan import CODENOISE, REPAINT
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import preview
from lavie.manifest import StageDefaults
from lavie.noise import INITIAL, frame_noise
from lavie.request import WINDOWED_SAMPLERS, Sampling
from lavie.sampling import Denoised, Guided, Predictor, denoise, make_scheduler, set_steps
from lavie.values import require

T = TypeVar("T")


def no_preparation(prompt: str) -> None:
    """Leave the network as it is."""


@dataclass(frozen=True)
class Model:
    """A network and how to run it.

    Args:
        network: a `BaseUNet` on its device with 4 input channels, or 9 for `conditioned`.
        embed: a prompt → 1 L C on the network's device; with a number of frames as second argument the prompt as a clip
            of that length reads it (`Cascade.embed`).
        sampling: with every value decided.
        shape: C h w of a frame's latents.
        grey: 1 C 1 h w, latents of a mid-grey picture for `conditioned`; None if the network was trained with zeros.
        prepare: called with the prompt of what is made next, to adapt the network to it.
        show: latents 1 C F h w → frames F H W 3 uint8; None if frames cannot be decoded.
    """

    network: nn.Module
    embed: Callable[..., Tensor]
    sampling: Sampling
    defaults: StageDefaults
    shape: tuple[int, int, int]
    grey: Tensor | None = None
    prepare: Callable[[str], None] = no_preparation
    show: Callable[[Tensor], np.ndarray] | None = None

    @property
    def steps(self) -> int:
        return require(self.sampling.steps)

    @property
    def guidance(self) -> float:
        return require(self.sampling.guidance)

    def check_sampler(self, strategy: str) -> None:
        """Raises RequestError if `strategy` cannot use the sampler."""
        samplers = ("ddim",) if strategy in (REPAINT, CODENOISE) else WINDOWED_SAMPLERS
        if self.sampling.sampler not in samplers:
            raise RequestError(
                f"the strategy {strategy!r} cannot use the sampler {self.sampling.sampler!r}: choose "
                f"{' or '.join(samplers)}"
            )

    def check_frames(self, which: str, latents: Tensor) -> None:
        """Raises RequestError for latents other than 1 C n h w of this network. which: as in “to continue”."""
        batch, channels, frames, *size = latents.shape
        if (batch, channels, *size) != (1, *self.shape) or not frames:
            expected = f"1 × {self.shape[0]} × frames × {self.shape[1]} × {self.shape[2]}"
            raise RequestError(f"the frames {which} are latents of shape {tuple(latents.shape)}: give {expected}")

    def guided(self, text: Tensor, concatenate: Tensor | None = None) -> Guided:
        return Guided(self.network, text, self.guidance, self.sampling.rescale, concatenate=concatenate)

    def scheduler(self, device: torch.device) -> Any:
        scheduler = make_scheduler(require(self.sampling.sampler), self.defaults.prediction_type)
        set_steps(scheduler, self.steps, device)
        return scheduler


@dataclass(frozen=True)
class Window:
    """Frames that the network sees at once.

    Args:
        frames: their absolute numbers.
        text: 2 L C with the negative prompt's embeddings first, or 2 F L C with a prompt a frame; one half at
            guidance 1.
        seed: of the segment.
        attempt: from 0; each has noise of its own.
    """

    frames: range
    text: Tensor = field(repr=False)
    seed: int
    attempt: int = 0

    def noise(self, shape: tuple[int, int, int], *key: str | int, frames: Sequence[int] | None = None) -> Tensor:
        """Standard normal 1 C F h w on the window's device; it depends on the key and the absolute frames alone."""
        attempt = (self.attempt,) if self.attempt else ()
        drawn = frame_noise(self.seed, (BASE, *key, *attempt), self.frames if frames is None else frames, shape)
        return drawn.to(self.text.device)


def denoise_window(model: Model, window: Window, predict: Predictor) -> Iterator[Denoised]:
    """Denoise one window from the noise that a clip of the base stage starts from at these frames."""
    noise = window.noise(model.shape, INITIAL)
    return denoise(predict, noise, model.scheduler(noise.device), model.defaults.prediction_type)


def run_steps(steps: Iterator[Denoised]) -> Generator[Denoised, None, Denoised]:
    """Yield all steps and return the last one."""
    for step in steps:
        yield step
    return step


def report_steps(
    model: Model, making: Generator[Denoised, None, T], done: int, most: int, total: int
) -> Generator[Step, None, T]:
    """Run `making` and report its steps as those after `done` of `total`, none above `most`; returns its result."""
    while True:
        try:
            step = next(making)
        except StopIteration as end:
            return end.value
        done = min(done + 1, most)
        yield Step(BASE, done, total, preview(step.clean, model.defaults.preview))
