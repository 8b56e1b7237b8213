"""The settings of a training on own media, and their limits. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavie.errors import TrainingError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import RATE
from lavie.manifest import EXTENSION

KINDS = (BASE, INTERPOLATION, SUPER_RESOLUTION, EXTENSION)
JOINT, CONCAT, VIDEO_ONLY, STILLS = MODES = ("joint", "concat", "video-only", "stills")
FROM_BUNDLE, FROM_SCRATCH, FROM_LAYOUT = ORIGINS = ("bundle", "scratch", "published-layout")
TUNING_RATE, SCRATCH_RATE = 1e-5, 1e-4  # peaks where none is asked for


@dataclass(frozen=True)
class Settings:
    """kind: which network. data: a folder of media and captions. model: the bundle to start from, which also gives the
    autoencoders and the text encoder. work: checkpoints, latents, logs. output: the bundle to write.

    steps, batch: of the optimiser, and clips in each (of each process). learning_rate: peak, None for a usual one.
    frames, size (width, height), stride: of a clip; None is as the bundle plays. Super-resolution's size is that of its
    small frames. mode: of the base network. origin: where the weights come from. crop (width, height): of super-
    resolution's small frames. precision: `bf16`, `no`, or None for as launched. Every field `…_every` is in steps,
    0 is never. resume: whether a checkpoint in `work` is gone on from; without it one that is there is refused.

    Raises TrainingError for a value that is none of these.
    """

    kind: str
    data: Path
    model: Path
    work: Path
    output: Path
    steps: int = 1000
    batch: int = 1
    learning_rate: float | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None
    stride: int = 1
    mode: str | None = None
    origin: str = FROM_BUNDLE
    ema: float = 0.9999
    precision: str | None = None
    gradient_checkpointing: bool = False
    freeze_spatial: bool = False
    crop: tuple[int, int] | None = None
    samples_every: int = 0
    validate_every: int = 0
    checkpoint_every: int = 250
    resume: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _expect("kind", self.kind, KINDS)
        _expect("origin", self.origin, ORIGINS)
        for name in ("steps", "batch", "stride", "checkpoint_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("samples_every", "validate_every"):
            _at_least(name, getattr(self, name), 0)
        if self.mode is not None and self.kind != BASE:
            raise TrainingError(f"mode {self.mode} is for the base network: leave it out for {self.kind}")
        if self.mode is not None:
            _expect("mode", self.mode, MODES)
        if self.crop is not None and self.kind != SUPER_RESOLUTION:
            raise TrainingError(f"a crop is for super-resolution: leave it out for {self.kind}")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 1:
            raise TrainingError(f"the learning rate is {self.learning_rate}: give one above 0 and at most 1")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"ema is {self.ema}: give 0 up to, not including, 1")
        if self.frames is not None:
            self._check_frames(self.frames)

    def _check_frames(self, frames: int) -> None:
        _at_least("frames", frames, 1)
        if self.kind == INTERPOLATION and (frames < RATE + 1 or frames % RATE != 1):
            near = max(RATE + 1, frames // RATE * RATE + 1)
            raise TrainingError(f"frames is {frames}: interpolation takes {RATE} n + 1, such as {near}")
        if self.kind == EXTENSION and frames < 2:
            raise TrainingError(f"frames is {frames}: extension needs one that is given and one that is not")

    @property
    def peak_rate(self) -> float:
        """Muon's updates are scaled to be as large as AdamW's (see `optimizer`), so that one rate serves both."""
        return self.learning_rate or (TUNING_RATE if self.origin == FROM_BUNDLE else SCRATCH_RATE)

    @property
    def base_mode(self) -> str:
        return self.mode or JOINT

    def decides(self) -> dict[str, Any]:
        """The values that the bits of a run depend on, as plain values."""
        names = ("kind", "steps", "batch", "frames", "size", "stride", "mode", "origin", "ema", "precision", "crop")
        said = {name: getattr(self, name) for name in (*names, "freeze_spatial", "seed")}
        said |= {"data": str(self.data), "model": str(self.model), "learning_rate": self.peak_rate}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def _expect(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TrainingError(f"{name} is {value!r}: choose one of {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise TrainingError(f"{name} is {value}: give {least} or more")
