"""What a training of an adapter is asked to do: values and their limits. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from extensions.lora.training.presets import NAMES
from lavie.errors import TrainingError, short

MAX_RANK, MAX_STEPS, MAX_TRIGGER = 512, 100_000, 50
_WORD = re.compile(r"[^\s<>:,()]+")  # what prompts and file names of every tool leave whole


@dataclass(frozen=True)
class Settings:
    """images: a folder, a zip, or several files. trigger: the word that shall call what is learned. preset: by name.
    model: the bundle it is for. output: the file to write. work: checkpoints, latents, samples, logs.

    steps, rank, learning_rate, prior: None for the preset's. samples_every: in steps, 0 is never; checkpoint_every: in
    steps; keep: how many finished files of checkpoints stay. prompts: of the samples, () for usual ones. resume:
    whether a checkpoint in `work` is gone on from. precision: `bf16`, `no`, or None for as launched.

    Raises TrainingError for a value that is none of these.
    """

    images: tuple[Path, ...]
    trigger: str
    preset: str
    model: Path
    output: Path
    work: Path
    steps: int | None = None
    rank: int | None = None
    learning_rate: float | None = None
    prior: float | None = None
    seed: int = 0
    samples_every: int = 100
    checkpoint_every: int = 100
    keep: int = 3
    prompts: tuple[str, ...] = ()
    resume: bool = False
    gradient_checkpointing: bool = False
    precision: str | None = None
    device: str = "auto"

    def __post_init__(self):
        _check(bool(self.images), "no image is named: give a folder, a zip or files")
        wanted = f"give one word of at most {MAX_TRIGGER} characters, without <>:,()"
        fits = len(self.trigger) <= MAX_TRIGGER and bool(_WORD.fullmatch(self.trigger))
        _check(fits, f"the trigger is {short(self.trigger)}: {wanted}")
        _check(self.preset in NAMES, f"preset is {short(self.preset)}: choose one of {', '.join(NAMES)}")
        for name, most in (("steps", MAX_STEPS), ("rank", MAX_RANK)):
            value = getattr(self, name)
            _check(value is None or 1 <= value <= most, f"{name} is {value}: give 1 to {most}")
        rate, prior = self.learning_rate, self.prior
        _check(rate is None or 0 < rate <= 1, f"the learning rate is {rate}: give one above 0 and at most 1")
        _check(prior is None or 0 <= prior <= 100, f"the prior's weight is {prior}: give 0 (off) to 100")
        for name, least in (("samples_every", 0), ("checkpoint_every", 1), ("keep", 1), ("seed", 0)):
            _check(getattr(self, name) >= least, f"{name} is {getattr(self, name)}: give {least} or more")
        named = self.output.suffix == ".safetensors"
        _check(named, f"output is {self.output}: give a name that ends in .safetensors")
        _check(not self.output.is_dir(), f"{self.output} is a folder: give the name of a file")

    @property
    def caption(self) -> str:
        """What is said of media of which nothing is said."""
        return usual_caption(self.trigger)

    def decides(self) -> dict:
        """What the bits of a run depend on, as plain values."""
        names = ("trigger", "preset", "steps", "rank", "learning_rate", "prior", "seed", "precision")
        said = {name: getattr(self, name) for name in names}
        return said | {"images": [str(path) for path in self.images], "model": str(self.model)}


def usual_caption(trigger: str) -> str:
    """What is said of a medium of which nothing else is known."""
    return f"a {trigger}"


def names_trigger(caption: str, trigger: str) -> bool:
    """Whether a caption holds the trigger, as a word of its own."""
    return bool(re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise TrainingError(message)
