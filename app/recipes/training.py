"""The settings of a training in the queue, as JSON both ways. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extensions.lora.adapter import safe_name
from extensions.lora.training.settings import MAX_RANK, MAX_STEPS, MOTION, SUBJECT, Settings
from lavie.errors import RequestError, TrainingError
from lavie.values import MAX_SEED, check, check_kind, check_number, check_prompt, check_whole, from_json, to_json

SCHEMA_VERSION = 1
TRAINING = "training"  # the only stage of such a job
MAX_MEDIA = 2000
MAX_JSON = 1 << 20  # characters, including the captions of all media
MAX_NAME = 60  # characters
MAX_EVERY, MAX_KEEP, MAX_PROMPTS, MAX_THREADS = 100_000, 20, 8, 256
_WHOLE = {
    "steps": (1, MAX_STEPS),
    "rank": (1, MAX_RANK),
    "seed": (0, MAX_SEED),
    "samples_every": (0, MAX_EVERY),
    "checkpoint_every": (1, MAX_EVERY),
    "keep": (1, MAX_KEEP),
    "threads": (1, MAX_THREADS),
}
_OWN = {"name", "media", "folder", "model", "threads"}  # the trainer's settings have them in another form


@dataclass(frozen=True)
class Medium:
    """A picture or video to learn from: its name in the folder of media, the name that a person knows, and its caption,
    empty for the default."""

    file: str
    name: str
    caption: str = ""

    def __post_init__(self) -> None:
        for name in ("file", "name", "caption"):
            check_prompt(f"the {name} of a medium", getattr(self, name))
        plain = bool(self.file) and Path(self.file).name == self.file and not self.file.startswith(".")
        check(plain, f"the file of a medium is {self.file[:100]!r}: give the name of one in the folder of media")


@dataclass(frozen=True)
class Training:
    """A training. Fields without a word here: see `extensions.lora.training.settings.Settings`.

    Raises RequestError for values outside their limits.

    Attributes:
        name: of the adapter to be [made from the trigger].
        model: `nano`, `official` or a folder [the one for new jobs].
        media, folder: filled in when it is queued; folder is the id of the job whose folder holds the media.
        threads: on a CPU; the result depends on it.
    """

    trigger: str
    preset: str = SUBJECT
    name: str = ""
    model: str = ""
    media: tuple[Medium, ...] = ()
    folder: str = ""
    steps: int | None = None
    rank: int | None = None
    learning_rate: float | None = None
    prior: float | None = None
    seed: int = 0
    samples_every: int = 100
    checkpoint_every: int = 100
    keep: int = 3
    prompts: tuple[str, ...] = ()
    gradient_checkpointing: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("trigger", "preset", "name", "model", "folder"):
            check_prompt(name, getattr(self, name))
        for name, limits in _WHOLE.items():
            check_whole(name, getattr(self, name), *limits)
            check(name in ("steps", "rank") or getattr(self, name) is not None, f"{name} is None: give a whole number")
        check_number("the learning rate", self.learning_rate, 0, 1)
        check_number("the prior's weight", self.prior, 0, 100)
        check_kind("gradient_checkpointing", self.gradient_checkpointing, bool)
        fits = len(self.name) <= MAX_NAME and self.name == safe_name(self.name)
        wanted = f"give at most {MAX_NAME} letters, digits, spaces, dots, dashes or underscores"
        check(fits, f"the adapter's name is {self.name[:100]!r}: {wanted}")
        check(safe_name(self.folder) == self.folder, f"folder is {self.folder[:100]!r}: give the id of a job")
        _check_lists(self)
        self.settings(Path("work"), Path("model"), Path("media"), "auto")

    @property
    def adapter_name(self) -> str:
        """The name of the adapter to be."""
        return self.name or safe_name(self.trigger)[:MAX_NAME].rstrip(" .") or "adapter"

    @property
    def from_clips(self) -> bool:
        """Whether it learns from videos, else from pictures."""
        return self.preset == MOTION

    def output(self, work: Path) -> Path:
        """The path of the finished adapter in the job's folder."""
        return work / "adapter" / f"{self.adapter_name}.safetensors"

    def settings(self, work: Path, bundle: Path, media: Path, device: str) -> Settings:
        """The trainer's settings. work: the job's folder. bundle: the model's folder. Raises RequestError."""
        said: dict[str, Any] = {name: value for name, value in vars(self).items() if name not in _OWN}
        try:
            return Settings(**said, images=(media,), model=bundle, work=work, output=self.output(work), device=device)
        except TrainingError as error:  # here a value of a request is wrong
            raise RequestError(str(error)) from None

    def to_json(self) -> str:
        """One line of JSON with the schema's version. Raises RequestError if it is too long to be stored."""
        text = to_json(self, SCHEMA_VERSION)
        check(len(text) <= MAX_JSON, f"the captions have together more than {MAX_JSON:,} characters: shorten them")
        return text

    @classmethod
    def from_json(cls, text: str) -> Training:
        """The inverse of `to_json`. Raises RequestError for other text and trainings of a newer version."""
        return from_json(cls, text, SCHEMA_VERSION, "a training")


def _check_lists(training: Training) -> None:
    media: Any = training.media
    listed = isinstance(media, tuple) and all(isinstance(one, Medium) for one in media)
    check(listed and len(media) <= MAX_MEDIA, f"media are no list of at most {MAX_MEDIA}: give a `Medium` for each")
    prompts: Any = training.prompts
    check(isinstance(prompts, tuple) and len(prompts) <= MAX_PROMPTS, f"prompts: give at most {MAX_PROMPTS} texts")
    for prompt in prompts:
        check_prompt("a prompt", prompt)
