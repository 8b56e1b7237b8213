"""The form's fields as a value, and their conversion to requests and presets and back. Knows no widgets."""

from __future__ import annotations

import re
import typing
from dataclasses import asdict, dataclass, fields, replace

from lavie.errors import RequestError, short
from lavie.request import SAMPLERS, Interpolation, Request, Sampling, SuperResolution
from lavie.values import MAX_SEED

SUBJECT = "{prompt}"  # placeholder of the prompt in a style
BOUND = ("prompt", "seed")  # belong to one clip, not to a preset
MAX_COUNT = 100  # videos of one submit


@dataclass(frozen=True)
class Form:
    """The fields as widgets give them: empty or None is the model's default, numbers may be texts.

    seed: digits; empty draws one. style: words around the placeholder `{prompt}`, or appended to the prompt. steps,
    sampler, guidance, rescale: of the base stage.
    """

    prompt: str = ""
    negative: str = ""
    style: str = ""
    seed: str = ""
    smooth: bool = False
    upscale: bool = False
    sampler: str = ""
    steps: float | str | None = None
    guidance: float | str | None = None
    rescale: float | str | None = None
    width: float | str | None = None
    height: float | str | None = None
    frames: float | str | None = None
    fps: float | str | None = None
    smooth_steps: float | str | None = None
    upscale_steps: float | str | None = None
    noise_level: float | str | None = None

    @classmethod
    def names(cls) -> list[str]:
        """Names of the fields, in the order of their widgets."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, request: Request) -> Form:
        """The fields of a request, without sampler and guidance of later stages, which have no field."""
        smooth, upscale = request.interpolation, request.super_resolution
        return cls(
            prompt=request.prompt,
            negative=request.negative_prompt,
            seed="" if request.seed is None else str(request.seed),
            smooth=smooth is not None,
            upscale=upscale is not None,
            sampler=request.base.sampler or "",
            steps=request.base.steps,
            guidance=request.base.guidance,
            rescale=request.base.rescale or None,
            width=request.width,
            height=request.height,
            frames=request.frames,
            fps=request.fps,
            smooth_steps=smooth.sampling.steps if smooth else None,
            upscale_steps=upscale.sampling.steps if upscale else None,
            noise_level=upscale.noise_level if upscale else None,
        )

    def request(self) -> Request:
        """The request. Raises RequestError with the field's name."""
        smooth = Interpolation(_steps("smooth_steps", self.smooth_steps))
        upscale = SuperResolution(_steps("upscale_steps", self.upscale_steps), _whole("noise_level", self.noise_level))
        base = Sampling(
            self.sampler or None,
            _whole("steps", self.steps),
            _number("guidance", self.guidance),
            _number("rescale", self.rescale) or 0.0,
        )
        return Request(
            _apply_style(_text("prompt", self.prompt), _text("style", self.style)),
            negative_prompt=_text("negative", self.negative),
            seed=parse_whole("seed", _text("seed", self.seed)),
            width=_whole("width", self.width),
            height=_whole("height", self.height),
            frames=_whole("frames", self.frames),
            fps=_number("fps", self.fps),
            base=base,
            interpolation=smooth if self.smooth else None,
            super_resolution=upscale if self.upscale else None,
        )

    def requests(self, count: float | None = 1, each_line: bool = False) -> list[Request]:
        """Several requests. Raises RequestError.

        Args:
            count: Requests for each prompt, with consecutive seeds if one is given.
            each_line: Treat each line of the prompt as a prompt.
        """
        count = _whole("count", count)
        count = 1 if count is None else count
        if not 1 <= count <= MAX_COUNT:
            raise RequestError(f"the number of videos is {short(count)}: give a whole number from 1 to {MAX_COUNT}")
        lines = _text("prompt", self.prompt).splitlines() if each_line else [self.prompt]
        prompts = [line for line in lines if line.strip()] if each_line else lines
        if len(prompts) * count > MAX_COUNT:
            raise RequestError(
                f"{len(prompts)} prompts × {count} are more than {MAX_COUNT} videos: ask for fewer at once"
            )
        firsts = [replace(self, prompt=prompt).request() for prompt in prompts or [""]]
        seeds = [first.seed for first in firsts]
        return [
            first if seed is None else replace(first, seed=seed + number)
            for first, seed in zip(firsts, seeds, strict=True)
            for number in range(count)
        ]

    def preset(self) -> dict[str, typing.Any]:
        """JSON values of all fields but `BOUND`. Raises RequestError for an invalid number."""
        numbers = {field.name for field in fields(self) if field.default is None}
        kept = {name: value for name, value in asdict(self).items() if name not in BOUND}
        return {name: _number(name, value) if name in numbers else value for name, value in kept.items()}

    def with_preset(self, values: typing.Mapping[str, typing.Any]) -> Form:
        """The form with a preset's values. Unknown fields and invalid values are skipped."""
        kinds = {field.name: type(field.default) for field in fields(self) if field.name not in BOUND}
        return replace(
            self, **{name: value for name, value in values.items() if name in kinds and _fits(name, value, kinds[name])}
        )


def _fits(name: str, value: typing.Any, kind: type) -> bool:
    """Whether a field can hold a value. kind: type of the field's default; NoneType is a number."""
    if name == "sampler":
        return value in ("", *SAMPLERS)
    if kind in (str, bool):
        return isinstance(value, kind)
    # Beyond 2^53 a browser rounds whole numbers.
    return value is None or (type(value) in (int, float) and abs(value) <= MAX_SEED)


def _text(name: str, value: str | None) -> str:
    if not isinstance(value, (str, type(None))):
        raise RequestError(f"{name} is {short(value)}: give a text")
    return value or ""


def _apply_style(prompt: str, style: str) -> str:
    if not style.strip() or not prompt.strip():
        return prompt
    return style.replace(SUBJECT, prompt) if SUBJECT in style else f"{prompt}, {style}"


def parse_whole(name: str, text: str) -> int | None:
    """A typed whole number; None if empty. Raises RequestError."""
    text = text.strip()
    if not text:
        return None
    # Python refuses to parse very long numbers.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _steps(name: str, value: float | str | None) -> Sampling:
    steps = _whole(name, value)
    try:
        return Sampling(steps=steps)
    except RequestError as error:  # names the field `steps`, which is the base stage's
        raise RequestError(str(error).replace("steps", name, 1)) from None


def _number(name: str, value: float | str | None) -> float | None:
    """A number, or text with a decimal point or comma; None if empty."""
    if isinstance(value, str):
        text = value.strip().replace(",", ".")
        if not text:
            return None
        if len(text) <= 30 and re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
            return float(text) if "." in text else int(text)
    elif value is None or type(value) in (int, float):
        return value
    raise RequestError(f"{name} is {short(value)}: give a number, or leave it empty")


def _whole(name: str, value: float | str | None) -> int | None:
    """A whole number: 25.0 is 25."""
    number = _number(name, value)
    if number is None:
        return None
    if isinstance(number, float) and not number.is_integer():  # infinity and NaN are not either
        raise RequestError(f"{name} is {short(value)}: give a whole number, or leave it empty")
    return int(number)
