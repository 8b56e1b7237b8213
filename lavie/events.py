"""The events of `Cascade.generate`. A failure is an exception, no event. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lavie.memory_mode import MemoryMode
from lavie.request import STAGES, Request
from lavie.video import Video

if TYPE_CHECKING:
    import numpy as np

BASE, INTERPOLATION, SUPER_RESOLUTION = STAGES


@dataclass(frozen=True)
class Notice:
    """Something that a person should know, such as words that the text encoder cut off or does not know."""

    message: str


@dataclass(frozen=True)
class MemoryModeChanged:
    """A stage (or `lavie.memory_mode.DECODING`) now runs in this memory mode. `Cascade.provenance` does not tell it.

    To get the same result again, pass it to `Cascade.generate`.
    """

    stage: str
    mode: MemoryMode


@dataclass(frozen=True)
class StageStarted:
    """A stage begins. steps: denoising steps over all of its windows."""

    stage: str
    steps: int


@dataclass(frozen=True)
class Step:
    """A denoising step is done. `index` counts from 1 to `steps`.

    preview: the clean frames as the network predicts them now, uint8 F h w 3 at the size of the latents; or None.
    """

    stage: str
    index: int
    steps: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class StageDone:
    """A stage is done. latents: float32 tensor B C F H W on the CPU, scaled as the networks see it."""

    stage: str
    seconds: float
    latents: Any = field(repr=False)


@dataclass(frozen=True)
class Finished:
    """The last event. request: with every value decided, so that it gives the same video again."""

    video: Video
    request: Request
    seconds: float


Event = Notice | MemoryModeChanged | StageStarted | Step | StageDone | Finished
