"""Options that several commands share, and how their values are checked: by the values themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lavie.errors import LavieError
from lavie.request import Request, Sampling

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
