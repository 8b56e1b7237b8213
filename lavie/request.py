"""What to make, as values: checked in one place, JSON both ways, equal by content. Needs neither torch nor weights.

`None` means "as the model does it": `Cascade.resolve` fills such fields from the bundle, so that a resolved request
says everything. A stage that is absent is off.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass

from lavie.errors import RequestError

SCHEMA_VERSION = 1
SAMPLERS = ("ddpm", "ddim", "euler", "dpm++", "unipc")
WINDOWED_SAMPLERS = tuple(name for name in SAMPLERS if name != "ddpm")
MAX_SEED = 2**53 - 1  # the largest range that JSON and JavaScript keep exactly
MAX_STEPS = 1000
MAX_GUIDANCE = 50.0
MAX_NOISE_LEVEL = 350
MAX_SIZE = 2048  # of the base stage, in pixels; super-resolution is four times that
MAX_FRAMES = 64  # of one base clip: temporal attention knows no distances beyond it
MAX_FPS = 120.0
MAX_PROMPT = 4000  # characters


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)


def _check_whole(name: str, value: int | None, low: int, high: int) -> None:
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    _check(whole and low <= value <= high, f"{name} is {value!r}: give a whole number from {low} to {high}")


def _check_number(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _check(number and low <= value <= high, f"{name} is {value!r}: give a number from {low:g} to {high:g}")


def _check_kind(name: str, value, kind: type) -> None:
    _check(isinstance(value, kind), f"{name} is {value!r}: give a {kind.__name__}")


@dataclass(frozen=True)
class Sampling:
    """How a stage is denoised.

    sampler: one of `SAMPLERS`. steps: 1 … 1000. guidance: classifier-free guidance scale, 1 is off (Ho & Salimans,
    arXiv 2207.12598). rescale: 0 … 1, how much of the contrast that guidance adds is taken back (Lin et al.,
    arXiv 2305.08891, section 3.4).
    """

    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    rescale: float = 0.0

    def __post_init__(self):
        known = self.sampler is None or self.sampler in SAMPLERS
        _check(known, f"sampler is {self.sampler!r}: choose one of {', '.join(SAMPLERS)}")
        _check_whole("steps", self.steps, 1, MAX_STEPS)
        _check_number("guidance", self.guidance, 0.0, MAX_GUIDANCE)
        _check(self.rescale is not None, "rescale is None: give a number from 0 to 1, 0 is off")
        _check_number("rescale", self.rescale, 0.0, 1.0)


def _check_windowed(stage: str, sampling: Sampling) -> None:
    _check_kind(f"{stage}'s sampling", sampling, Sampling)
    _check(
        sampling.sampler != "ddpm",
        f"{stage} cannot use the sampler 'ddpm': it draws new noise at every step, on which overlapping windows could "
        f"not agree; choose one of {', '.join(WINDOWED_SAMPLERS)}",
    )


@dataclass(frozen=True)
class Interpolation:
    """Four times the frame rate: N frames become 4 (N − 1) + 1."""

    sampling: Sampling = Sampling()

    def __post_init__(self):
        _check_windowed("interpolation", self.sampling)


@dataclass(frozen=True)
class SuperResolution:
    """Four times the width and height. noise_level: 0 … 350, how much of the small frames' detail is made anew."""

    sampling: Sampling = Sampling()
    noise_level: int | None = None

    def __post_init__(self):
        _check_windowed("super-resolution", self.sampling)
        _check_whole("noise_level", self.noise_level, 0, MAX_NOISE_LEVEL)


@dataclass(frozen=True)
class Request:
    """One clip.

    prompt: what to show. negative_prompt: what to stay away from. seed: 0 … 2^53 − 1, or None to have one drawn.
    width, height: of the base stage in pixels, multiples of 8 × the network's own factor. frames: of the base stage.
    fps: of the base stage; interpolation makes it four times as many. base, interpolation, super_resolution: how each
    stage runs; interpolation and super-resolution are off where absent.

    Raises RequestError on any value outside its limits. What only a bundle knows is checked by `Cascade.resolve`.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    base: Sampling = Sampling()
    interpolation: Interpolation | None = None
    super_resolution: SuperResolution | None = None

    def __post_init__(self):
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            _check(isinstance(text, str), f"{name} is {text!r}: give a text")
            _check(len(text) <= MAX_PROMPT, f"{name} has {len(text)} characters: shorten it to {MAX_PROMPT}")
            broken = [character for character in text if "\ud800" <= character <= "\udfff"]
            _check(not broken, f"{name} holds {broken[:1]!r}, half a character that no file can store: remove it")
        _check(bool(self.prompt.strip()), "prompt is empty: say what the video should show")
        _check_whole("seed", self.seed, 0, MAX_SEED)
        for name in ("width", "height"):
            _check_whole(name, getattr(self, name), 8, MAX_SIZE)
            _check((getattr(self, name) or 8) % 8 == 0, f"{name} is {getattr(self, name)}: give a multiple of 8")
        _check_whole("frames", self.frames, 1, MAX_FRAMES)
        _check_number("fps", self.fps, 1.0, MAX_FPS)
        _check_kind("base", self.base, Sampling)
        for name, kind in (("interpolation", Interpolation), ("super_resolution", SuperResolution)):
            if getattr(self, name) is not None:
                _check_kind(name, getattr(self, name), kind)

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The inverse of `to_json`. Raises RequestError for what is no request or comes from a newer version."""
        try:
            data = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:  # no JSON, no text, or nested without end
            raise RequestError(f"this is not the JSON of a request ({error}): pass what `to_json` gave") from None
        _check(isinstance(data, dict), f"a request is a JSON object, not {_short(data)}: pass what `to_json` gave")
        version = data.pop("schema", None)
        _check(
            version == SCHEMA_VERSION and isinstance(version, int) and not isinstance(version, bool),
            f"the request has schema {_short(version)}, this one reads {SCHEMA_VERSION}: use the version that wrote it",
        )
        return _from_dict(cls, data)


def _from_dict(kind: type, data: dict):
    """A dataclass from plain JSON values, nested ones included."""
    _check(isinstance(data, dict), f"{kind.__name__} is a JSON object, not {_short(data)}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    _check(not unknown, f"{kind.__name__} has no field {', '.join(map(repr, unknown))}: remove it")
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in data]
    _check(not missing, f"{kind.__name__} lacks {', '.join(missing)}: add it")
    values = {}
    for name, value in data.items():
        nested = [t for t in _alternatives(hints[name]) if is_dataclass(t)]
        values[name] = _from_dict(nested[0], value) if nested and value is not None else value
    return kind(**values)


def _alternatives(hint) -> tuple:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
