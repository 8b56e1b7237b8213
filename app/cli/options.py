"""Options that several commands share. The values themselves check what they are given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.config import read_config
from app.recipes.initial_frames import FITS, check_fit
from lavie.errors import LavieError, RequestError, StorageError, short
from lavie.request import MAX_GUIDANCE, MAX_STEPS, SAMPLERS, Request, Sampling
from lavie.values import MAX_SEED

RANDOM = "random"

DataOption = Annotated[Path | None, typer.Option(help="Folder of clips and models [default: ./data, or LAVIE_DATA].")]
ModelOption = Annotated[str | None, typer.Option(help="nano, official, or a folder of weights [default: nano].")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps [default: auto].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def check_by(make: Callable[[Any], object]) -> Callable[[Any], Any]:
    """An option's callback. A value that `make` refuses is wrong usage; the message is that of `make`."""

    def check(value: Any) -> Any:
        try:
            make(value)
        except LavieError as error:
            raise typer.BadParameter(str(error)) from None
        return value

    return check


def request_option(name: str, help: str) -> Any:
    """An option for a field of a request, which checks it."""
    return typer.Option(callback=check_by(lambda value: Request("any", **{name: value})), help=help)


def sampling_option(name: str, help: str) -> Any:
    """An option for a field of a stage's sampling, which checks it."""
    return typer.Option(callback=check_by(lambda value: Sampling(**{name: value})), help=help)


StepsOption = Annotated[int | None, sampling_option("steps", f"1 … {MAX_STEPS}, of every stage.")]
SamplerOption = Annotated[
    str | None, sampling_option("sampler", f"{', '.join(SAMPLERS)}: how the base stage denoises.")
]
FitOption = Annotated[
    str, typer.Option(callback=check_by(check_fit), help=f"{' or '.join(FITS)}: how what has another shape is fitted.")
]
GuidanceOption = Annotated[
    float | None, sampling_option("guidance", f"0 … {MAX_GUIDANCE:g}, how close the base stage keeps to it.")
]

Interpolate = Annotated[bool, typer.Option("--interpolate", help="Four times the frame rate.")]
Upscale = Annotated[bool, typer.Option("--upscale", help="Four times the width and height.")]
OutputOption = Annotated[Path | None, typer.Option(help="The mp4 to write [default: a new one among the clips].")]


def parse_seed(text: str) -> int | None:
    """A seed as a person writes it; None for `random`. Raises RequestError."""
    if text == RANDOM:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_SEED):
        raise RequestError(f"seed is {short(text)}: give a whole number from 0 to {MAX_SEED}, or {RANDOM}")
    return int(text)


def data_folder(data: Path | None, *, make: bool = False) -> Path:
    """The data folder. Raises StorageError if it does not exist, unless the command may make it: a mistyped name must
    not become an empty folder."""
    folder = read_config(os.environ, data=data).data
    if not make and not folder.is_dir():
        raise StorageError(f"there is no data folder {folder}: name one with --data, or render a first clip")
    return folder
