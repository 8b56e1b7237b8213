"""What a person fills in, as a value, and what it means: one table of fields ↔ request, both ways.

Knows no widget: `app.ui.create.tab` makes one for each field, in this order.
"""

from __future__ import annotations

import re
import typing
from dataclasses import asdict, dataclass, fields, replace

from lavie.errors import RequestError, short
from lavie.request import MAX_SEED, SAMPLERS, Interpolation, Request, Sampling, SuperResolution

SUBJECT = "{prompt}"  # stands for the prompt in a style
BOUND = ("prompt", "seed")  # to one clip: no part of a preset


@dataclass(frozen=True)
class Form:
    """The fields as widgets give them: an empty text or None says nothing, and a number may be a text.

    seed: digits, or empty to have one drawn. style: words around the prompt, `{prompt}` in their midst, or added to it.
    steps, sampler, guidance, rescale: of the base stage.
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
        """In the order of the widgets."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, request: Request) -> Form:
        """The fields that give this request. Sampler and guidance of the later stages, which have no field, are left to
        the model."""
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
            smooth_steps=smooth and smooth.sampling.steps,
            upscale_steps=upscale and upscale.sampling.steps,
            noise_level=upscale and upscale.noise_level,
        )

    def request(self) -> Request:
        """What is asked for. Raises RequestError with the field's name."""
        smooth = Interpolation(_steps("smooth_steps", self.smooth_steps))
        upscale = SuperResolution(_steps("upscale_steps", self.upscale_steps), _whole("noise_level", self.noise_level))
        base = Sampling(
            self.sampler or None,
            _whole("steps", self.steps),
            _number("guidance", self.guidance),
            _number("rescale", self.rescale) or 0.0,
        )
        return Request(
            _styled(_text("prompt", self.prompt), _text("style", self.style)),
            negative_prompt=_text("negative", self.negative),
            seed=_seed(_text("seed", self.seed)),
            width=_whole("width", self.width),
            height=_whole("height", self.height),
            frames=_whole("frames", self.frames),
            fps=_number("fps", self.fps),
            base=base,
            interpolation=smooth if self.smooth else None,
            super_resolution=upscale if self.upscale else None,
        )

    def requests(self, count: float | None = 1, each_line: bool = False) -> list[Request]:
        """Several: `count` seeds, and a prompt a line. Seeds follow each other where one is given.

        Raises RequestError before anything is asked for: all or none.
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
        """All but what belongs to one clip, as JSON values. Raises RequestError for what is no number."""
        numbers = {field.name for field in fields(self) if field.default is None}
        kept = {name: value for name, value in asdict(self).items() if name not in BOUND}
        return {name: _number(name, value) if name in numbers else value for name, value in kept.items()}

    def with_preset(self, values: typing.Mapping[str, typing.Any]) -> Form:
        """The same prompt and seed with a preset's values. It is data from outside: what this version does not know, or
        what its field cannot hold, is passed over."""
        kinds = {field.name: type(field.default) for field in fields(self) if field.name not in BOUND}
        return replace(
            self, **{name: value for name, value in values.items() if name in kinds and _fits(name, value, kinds[name])}
        )


MAX_COUNT = 100  # videos from one click


def _fits(name: str, value: typing.Any, kind: type) -> bool:
    """Whether the widget of a field can show a value. kind: of the field's default; None stands for a number."""
    if name == "sampler":
        return value in ("", *SAMPLERS)
    if kind in (str, bool):
        return isinstance(value, kind)
    # Beyond 2^53 a browser's numbers are others than ours.
    return value is None or (type(value) in (int, float) and abs(value) <= MAX_SEED)


def _text(name: str, value: str | None) -> str:
    if not isinstance(value, (str, type(None))):
        raise RequestError(f"{name} is {short(value)}: give a text")
    return value or ""


def _styled(prompt: str, style: str) -> str:
    if not style.strip() or not prompt.strip():
        return prompt
    return style.replace(SUBJECT, prompt) if SUBJECT in style else f"{prompt}, {style}"


def _seed(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    # Longer ones are no seeds, and Python refuses to read digits without end.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"seed is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _steps(name: str, value: float | None) -> Sampling:
    steps = _whole(name, value)
    try:
        return Sampling(steps=steps)
    except RequestError as error:  # it speaks of `steps`, which is the base's field
        raise RequestError(str(error).replace("steps", name, 1)) from None


def _number(name: str, value: float | str | None) -> float | None:
    """As a person writes it, with a point or a comma, or as a preset or a program gives it; None where it is empty."""
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
    """A field's number without a fraction: 25.0 is 25."""
    number = _number(name, value)
    if number is None:
        return None
    if isinstance(number, float) and not number.is_integer():  # neither are those without end, and what is none
        raise RequestError(f"{name} is {short(value)}: give a whole number, or leave it empty")
    return int(number)
