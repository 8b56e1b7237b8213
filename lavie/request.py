"""Requests: checked values that convert to JSON and back. Needs neither torch nor weights.

`None` means "as the model does it": `Cascade.resolve` fills such fields from the bundle. A stage that is None is off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lavie.errors import short
from lavie.values import MAX_SEED, Stored, check, check_kind, check_number, check_prompt, check_whole

SCHEMA_VERSION = 1
STAGES = ("base", "interpolation", "super_resolution")  # in the order in which they run; fields of a request
SAMPLERS = ("ddpm", "ddim", "euler", "dpm++", "unipc")
WINDOWED_SAMPLERS = tuple(name for name in SAMPLERS if name != "ddpm")
MAX_STEPS = 1000
MAX_GUIDANCE = 50.0
MAX_NOISE_LEVEL = 350
MAX_SIZE = 2048  # of the base stage, in pixels; super-resolution is four times that
MAX_FRAMES = 64  # of one base clip; temporal attention has no positions beyond
MAX_FPS = 120.0


@dataclass(frozen=True)
class Sampling:
    """How a stage is denoised.

    Args:
        sampler: one of `SAMPLERS`.
        steps: 1 … 1000.
        guidance: classifier-free guidance scale, 1 is off (Ho & Salimans, arXiv 2207.12598).
        rescale: 0 … 1, how far the contrast of the guided prediction is reduced to that of the conditional one (Lin et
            al., arXiv 2305.08891, section 3.4).
    """

    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        known = self.sampler is None or self.sampler in SAMPLERS
        check(known, f"sampler is {short(self.sampler)}: choose one of {', '.join(SAMPLERS)}")
        check_whole("steps", self.steps, 1, MAX_STEPS)
        check_number("guidance", self.guidance, 0.0, MAX_GUIDANCE)
        check(self.rescale is not None, "rescale is None: give a number from 0 to 1, 0 is off")
        check_number("rescale", self.rescale, 0.0, 1.0)

    def filled(self, own: Sampling) -> Sampling:
        """This sampling with open values from `own`."""
        return replace(
            self,
            sampler=self.sampler or own.sampler,
            steps=self.steps or own.steps,
            guidance=own.guidance if self.guidance is None else self.guidance,
        )


def _check_windowed(stage: str, sampling: Sampling) -> None:
    check_kind(f"{stage}'s sampling", sampling, Sampling)
    check(
        sampling.sampler != "ddpm",
        f"{stage} cannot use the sampler 'ddpm': it draws new noise at every step, on which overlapping windows could "
        f"not agree; choose one of {', '.join(WINDOWED_SAMPLERS)}",
    )


@dataclass(frozen=True)
class Interpolation:
    """Four times the frame rate: N frames become 4 (N − 1) + 1."""

    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        _check_windowed("interpolation", self.sampling)


@dataclass(frozen=True)
class SuperResolution:
    """Four times the width and height. noise_level: 0 … 350, how much detail of the small frames is replaced."""

    sampling: Sampling = Sampling()
    noise_level: int | None = None

    def __post_init__(self) -> None:
        _check_windowed("super-resolution", self.sampling)
        check_whole("noise_level", self.noise_level, 0, MAX_NOISE_LEVEL)


@dataclass(frozen=True)
class Request(Stored):
    """One clip.

    Args:
        prompt: what to show.
        negative_prompt: what to avoid.
        seed: 0 … 2^53 − 1; None draws one.
        width, height: of the base stage in pixels, multiples of 8 × the network's own factor.
        frames: of the base stage.
        fps: of the base stage; interpolation multiplies it by four.
        base, interpolation, super_resolution: how each stage runs; the last two are off where None.

    Raises RequestError for a value outside its limits. `Cascade.resolve` checks the limits of a bundle.
    """

    schema_version = SCHEMA_VERSION
    stored_as = "a request"

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

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            check_prompt(name, getattr(self, name))
        check(bool(self.prompt.strip()), "prompt is empty: say what the video should show")
        check_whole("seed", self.seed, 0, MAX_SEED)
        for name in ("width", "height"):
            check_whole(name, getattr(self, name), 8, MAX_SIZE)
            check((getattr(self, name) or 8) % 8 == 0, f"{name} is {getattr(self, name)}: give a multiple of 8")
        check_whole("frames", self.frames, 1, MAX_FRAMES)
        check_number("fps", self.fps, 1.0, MAX_FPS)
        check_kind("base", self.base, Sampling)
        for name, kind in (("interpolation", Interpolation), ("super_resolution", SuperResolution)):
            if getattr(self, name) is not None:
                check_kind(name, getattr(self, name), kind)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are on, in the order in which they run."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def sampling(self, stage: str) -> Sampling:
        asked: Sampling | Interpolation | SuperResolution = getattr(self, stage)
        return asked if isinstance(asked, Sampling) else asked.sampling
