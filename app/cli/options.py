"""Options that several commands share, and how their values are checked: by the values themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.recipes.initial_frames import FITS, check_fit
from lavie.errors import LavieError, RequestError, short
from lavie.request import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, SAMPLERS, Interpolation, Request, Sampling, SuperResolution

RANDOM = "random"

DataOption = Annotated[Path | None, typer.Option(help="Folder of clips and models [default: ./data, or LAVIE_DATA].")]
ModelOption = Annotated[str | None, typer.Option(help="nano, official, or a folder of weights [default: nano].")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps [default: auto].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def checked(values: Callable[[Any], object]) -> Callable[[Any], Any]:
    """An option's callback: what `values` refuses is wrong usage, in the words of the values."""

    def check(value: Any) -> Any:
        try:
            values(value)
        except LavieError as error:
            raise typer.BadParameter(str(error)) from None
        return value

    return check


def request_option(name: str, help: str):
    """An option that is a field of a request, checked as the request checks it."""
    return typer.Option(callback=checked(lambda value: Request("any", **{name: value})), help=help)


def sampling_option(name: str, help: str):
    """An option that is a field of a stage's sampling, checked as that checks it."""
    return typer.Option(callback=checked(lambda value: Sampling(**{name: value})), help=help)


StepsOption = Annotated[int | None, sampling_option("steps", f"1 … {MAX_STEPS}, of every stage.")]
SamplerOption = Annotated[
    str | None, sampling_option("sampler", f"{', '.join(SAMPLERS)}: how the base stage denoises.")
]
FitOption = Annotated[
    str, typer.Option(callback=checked(check_fit), help=f"{' or '.join(FITS)}: how what has another shape is fitted.")
]
GuidanceOption = Annotated[
    float | None, sampling_option("guidance", f"0 … {MAX_GUIDANCE:g}, how close the base stage keeps to it.")
]

Interpolate = Annotated[bool, typer.Option("--interpolate", help="Four times the frame rate.")]
Upscale = Annotated[bool, typer.Option("--upscale", help="Four times the width and height.")]
OutputOption = Annotated[Path | None, typer.Option(help="The mp4 to write [default: a new one among the clips].")]


def with_options(
    request: Request,
    *,
    prompt: str | None = None,
    negative: str | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    interpolate: bool | None = None,
    upscale: bool | None = None,
) -> Request:
    """The request with what the options give; what they do not give, None, stays. Raises RequestError.

    steps: of every stage that is then on. sampler, guidance: of the base stage.
    """
    return replace(
        _given(request, prompt=prompt, negative_prompt=negative),
        base=_given(request.base, sampler=sampler, steps=steps, guidance=guidance),
        interpolation=_stage(Interpolation, request.interpolation, interpolate, steps),
        super_resolution=_stage(SuperResolution, request.super_resolution, upscale, steps),
    )


def chosen_seed(text: str) -> int | None:
    """A seed as a person writes it; None, to have one drawn, for `random`. Raises RequestError."""
    if text == RANDOM:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_SEED):
        raise RequestError(f"seed is {short(text)}: give a whole number from 0 to {MAX_SEED}, or {RANDOM}")
    return int(text)


def _stage(kind: type, asked: Any, on: bool | None, steps: int | None) -> Any:
    """A stage that may be off, as it is or switched by `on`; one that is new runs as the model does it."""
    if not (asked is not None if on is None else on):
        return None
    asked = asked or kind()
    return replace(asked, sampling=_given(asked.sampling, steps=steps))


def _given(value: Any, **changes: Any) -> Any:
    return replace(value, **{name: change for name, change in changes.items() if change is not None})
