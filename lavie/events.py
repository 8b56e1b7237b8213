"""What happens while a video is made, in the order of `Cascade.generate`. Failure is an exception. Needs no torch."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lavie.request import STAGES, Request
from lavie.video import Video

if typing.TYPE_CHECKING:
    from lavie.plans import MemoryMode

BASE, INTERPOLATION, SUPER_RESOLUTION = STAGES


@dataclass(frozen=True)
class Notice:
    """Something a person should know and that stops nothing: words the text encoder cut off or does not know."""

    message: str


@dataclass(frozen=True)
class MemoryModeChanged:
    """From now on a stage (or `lavie.plans.DECODING`) runs on a rung that is not told by the cascade's provenance:
    whoever wants the same result again gives it to `Cascade.generate`."""

    stage: str
    rung: MemoryMode


@dataclass(frozen=True)
class StageStarted:
    """A stage is about to take its first of `steps` steps (over all of its windows)."""

    stage: str
    steps: int


@dataclass(frozen=True)
class Step:
    """A denoising step is done. `index` counts from 1 to `steps`.

    preview: uint8 F h w 3, the clean frames as the network guesses them now, at the size of the latents; or None.
    """

    stage: str
    index: int
    steps: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class StageDone:
    """A stage is done. latents: its result as a float32 tensor B C F H W on the CPU, scaled as the network sees it."""

    stage: str
    seconds: float
    latents: Any = field(repr=False)


@dataclass(frozen=True)
class Finished:
    """The last event. `request` has every value decided; made again, it gives the same video."""

    video: Video
    request: Request
    seconds: float


Event = Notice | MemoryModeChanged | StageStarted | Step | StageDone | Finished
