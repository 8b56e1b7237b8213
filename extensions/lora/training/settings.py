"""The settings and presets of a training: how a subject, a style or a motion is trained by default. Needs no torch.

Sources: LaVie (arXiv 2309.15103, section 5.6: spatial layers alone), MotionDirector (arXiv 2310.08465, section 4),
min-SNR (arXiv 2303.09556, section 3.4), the defaults of diffusers' and kohya-ss' trainers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lavie.errors import TrainingError, short

SUBJECT, STYLE, MOTION = NAMES = ("subject", "style", "motion")
FULL_WIDTH = 320  # channels of the published base network's first level
SMALL = 0.5  # of that width; narrower networks use the small variant
_TEXT, _TIME = (".attn2.",), (".attn_temp.",)
_ATTENTION = (".attn1.", *_TEXT)
_MORE = (".ff.", ".proj_in", ".proj_out")
_CONVOLUTIONS = (".conv1", ".conv2", ".conv_shortcut")


@dataclass(frozen=True)
class Preset:
    """The defaults of a training.

    Args:
        layers: pieces of the names of the base network's layers that get factors.
        steps_a_medium: steps that each picture or clip adds, between `fewest` and `most`.
        batch: media per step.
        caption_dropout: share of emptied captions.
        ema: decay of the factors' average, which is the result.
        prior: weight of keeping ordinary captions unchanged (self-distillation); 0 is off.
        ordinary: clips for the prior.
        snr: γ of min-SNR weighting; None is off.
        tilt: towards strong noise (`diffusion.noised`), which decides outlines.
        debiased: add a loss on differences of frames (MotionDirector, eq. 7).
        views: views of each picture, moved and scaled (`pictures.MaskedCut`).
        moved: clips of moving pictures per step, if the model has words for motion (`pictures.MovedCut`).
    """

    name: str
    layers: tuple[str, ...]
    rank: int
    alpha: float
    learning_rate: float
    steps_a_medium: int
    fewest: int
    most: int
    batch: int
    caption_dropout: float = 0.05
    weight_decay: float = 0.0
    ema: float = 0.99
    prior: float = 0.0
    ordinary: int = 12
    snr: float | None = None
    tilt: float = 0.0
    debiased: bool = False
    views: int = 1
    moved: int = 0

    @property
    def from_clips(self) -> bool:
        return self.name == MOTION

    def steps(self, media: int) -> int:
        """The number of steps for `media` pictures or clips."""
        return min(self.most, max(self.fewest, self.steps_a_medium * media))


_FULL = {
    SUBJECT: Preset(SUBJECT, _ATTENTION, 16, 16, 1e-4, 100, 400, 1500, batch=1, prior=0.2),
    STYLE: Preset(STYLE, _ATTENTION + _MORE, 32, 16, 1e-4, 60, 1500, 3000, batch=1, caption_dropout=0.1, snr=5.0),
    MOTION: Preset(MOTION, _TIME, 16, 16, 3e-4, 60, 150, 500, batch=1, debiased=True),
}
# Small networks have few channels, so convolutions are trained too, with the rates of a tenth of the width. They
# memorise few pictures with their places, so they see each in many views and in motion. Where each frame reads its own
# text (`text.embeddings`), motion is learned from text as much as over time.
_FASTEST = {SUBJECT: 1e-2, STYLE: 3e-3, MOTION: 3e-3}
_SMALL: dict[str, dict[str, Any]] = {
    SUBJECT: {
        "layers": _ATTENTION + _MORE + _CONVOLUTIONS,
        "rank": 8,
        "learning_rate": 4e-4,
        "fewest": 690,
        "most": 690,
        "batch": 4,
        "weight_decay": 0.3,
        "tilt": 0.5,
        "prior": 1.1,
        "ordinary": 32,
        "views": 24,
        "moved": 3,
    },
    STYLE: {"layers": _ATTENTION + _MORE + _CONVOLUTIONS, "fewest": 400, "most": 800, "batch": 8},
    MOTION: {
        "layers": _TIME + _TEXT,
        "fewest": 650,
        "most": 650,
        "batch": 4,
        "weight_decay": 0.3,
        "prior": 1.0,
        "ordinary": 32,
    },
}


def preset_for(name: str, width: int) -> Preset:
    """The preset for a base network whose first level has `width` channels.

    Narrow networks get the small variant: the rank is at most a quarter of the width, and the rate grows with the
    square of the missing width, up to `_FASTEST`. Raises TrainingError for an unknown name.
    """
    if name not in NAMES:
        raise TrainingError(f"preset is {short(name)}: choose one of {', '.join(NAMES)}")
    full = _FULL[name]
    if width >= SMALL * FULL_WIDTH:
        return full
    small = replace(full, **_SMALL[name])
    rank = min(small.rank, max(1, width // 4))
    rate = min(_FASTEST[name], small.learning_rate * (FULL_WIDTH / width) ** 2)
    return replace(small, rank=rank, alpha=rank, learning_rate=rate)


MAX_RANK, MAX_STEPS, MAX_TRIGGER = 512, 100_000, 50
_WORD = re.compile(r"[^\s<>:,()]+")  # safe in prompts and file names of all tools


@dataclass(frozen=True)
class Settings:
    """What a training shall do. None takes the preset's value.

    Args:
        images: a folder, a zip, or several files.
        trigger: the word for what is learned.
        model: the bundle to train for.
        work: folder of checkpoints, latents, samples and logs.
        samples_every, checkpoint_every: in steps; 0 makes no samples.
        keep: number of checkpoint files to keep.
        prompts: of the samples; () for default ones.
        resume: continue from a checkpoint in `work`.
        precision: `bf16`, `no`, or None for as launched.

    Raises TrainingError for other values.
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

    def __post_init__(self) -> None:
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
        """The caption of media without one."""
        return usual_caption(self.trigger)

    def decides(self) -> dict[str, Any]:
        """The values that decide the bits of a run."""
        names = ("trigger", "preset", "steps", "rank", "learning_rate", "prior", "seed", "precision")
        said = {name: getattr(self, name) for name in names}
        return said | {"images": [str(path) for path in self.images], "model": str(self.model)}


def usual_caption(trigger: str) -> str:
    """The caption of a medium about which nothing else is known."""
    return f"a {trigger}"


def names_trigger(caption: str, trigger: str) -> bool:
    """Whether a caption holds the trigger as a word."""
    return bool(re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise TrainingError(message)
