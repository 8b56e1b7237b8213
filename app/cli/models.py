"""The commands of weights: list models, download and convert the published ones, verify files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.exit_codes import exit_codes
from app.cli.options import DataOption, JsonOption, check_by
from app.cli.output import print_grid, print_note, print_result
from app.cli.progress import progress
from app.config import StudioConfig, read_config
from app.models.sources import read_sources
from lavie.errors import BundleError

OFFICIAL = "official"
DTYPES = ("fp16", "bf16")
KEPT = "what is there stays, the same command goes on"
models = typer.Typer(help="Get, convert and check weights.", rich_markup_mode=None, no_args_is_help=True)

Mirror = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        callback=check_by(lambda urls: read_sources(Path(), {}, mirrors=urls or ())),
        help="Address of a hub that is asked first, again for each.",
    ),
]
Revision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REPOSITORY=REVISION",
        callback=check_by(lambda given: read_sources(Path(), {}, revisions=given or ())),
        help="Branch, tag or commit, such as lavie=main, again for each.",
    ),
]


def _check_name(name: str) -> str:
    if name != OFFICIAL:
        raise typer.BadParameter(f"name is {name!r}: {OFFICIAL} is what can be downloaded")
    return name


def _check_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise typer.BadParameter(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    return dtype


@models.command("list")
def list_models(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The models that are there, what they can run and what they lack."""
    with exit_codes():
        from app.models.catalog import find_models, find_published, format_bytes

        config = read_config(os.environ, data=data)
        known, files = find_models(config), find_published(config.data / "models")

    def tell() -> None:
        print_grid(("model", "name", "size", "runs", "lacks"), [_cells(each) for each in known])
        if files.files:
            size = format_bytes(sum(files.files.values()))
            print(f"downloaded, in {files.folder}: {size}; `models convert` makes a model")

    print_result(as_json, {"models": [_to_json(each) for each in known], "published": _to_json(files)}, tell)


@models.command()
def download(
    name: Annotated[str, typer.Argument(metavar="official", callback=_check_name, help="What to fetch.")],
    with_seine: Annotated[bool, typer.Option("--with-seine", help="Also the network that extends videos.")] = False,
    mirror: Mirror = None,
    revision: Revision = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network, only what this machine has.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the published weights. Ctrl-C pauses, the same command goes on."""
    with exit_codes(KEPT):
        from app.models import download as downloads

        folder = _models_folder(data)
        sources = read_sources(folder, os.environ, mirror or (), revision or ())
        with downloads.lock_models(folder):
            if offline:
                done = downloads.collect(sources, folder / downloads.PUBLISHED, with_seine)
            else:
                done = _follow(downloads.download(sources, folder / downloads.PUBLISHED, with_seine))
    print_result(as_json, _to_json(done), lambda: _print_files(done.files, f"{done.folder}\nnext: `models convert`"))


@models.command()
def convert(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Of published files [default: what was downloaded].")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Of the bundle [default: official].")] = None,
    dtype: Annotated[str, typer.Option(callback=_check_dtype, help="fp16 or bf16.")] = "fp16",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model of the published files, without trusting them."""
    with exit_codes():
        from app.models.download import PUBLISHED, lock_models
        from extensions.published import convert as conversion

        own = _models_folder(data)
        with lock_models(own if output is None else output.absolute().parent):
            done = _follow(conversion.convert(folder or own / PUBLISHED, output or own / OFFICIAL, dtype))

    def tell() -> None:
        _print_files(done.sources | done.files, f"{done.folder}\nruns: {', '.join(done.stages)}")

    print_result(as_json, _to_json(done), tell)


@models.command()
def verify(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="nano, official, or a folder of weights.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read all of a model and compare it with what was written."""
    with exit_codes():
        from extensions.published import convert as published

        verdict = _follow(published.verify(StudioConfig(read_config(os.environ, data=data).data, bundle).bundle))
        print_result(as_json, _to_json(verdict) | {"whole": verdict.whole}, lambda: _print_verdict(verdict))
        if not verdict.whole:
            raise BundleError(f"{verdict.folder} is damaged: convert it again, or copy it from where it is whole")


def _models_folder(data: Path | None) -> Path:
    return read_config(os.environ, data=data).data / "models"


def _follow(events: Iterator[Any]) -> Any:
    """Show events on stderr; the last event."""
    last = None
    with progress(sys.stderr, in_bytes=True) as show:
        for last in events:
            show(last)
    return last


def _to_json(value: Any) -> dict[str, Any]:
    return {name: str(item) if isinstance(item, Path) else item for name, item in asdict(value).items()}


def _cells(known: Any) -> tuple[Any, ...]:
    from app.models.catalog import format_bytes

    runs = [stage for stage, lacks in known.stages.items() if not lacks]
    lacks = sorted({file for files in known.stages.values() for file in files})
    why = known.problem or (", ".join(lacks) if known.name else "not there: `models download official`")
    return known.asked, known.name, format_bytes(sum(known.bytes.values())), ", ".join(runs), why


def _print_files(files: dict[str, str], end: str) -> None:
    for name, sha256 in files.items():
        print(f"{sha256}  {name}")
    print(end)


def _print_verdict(verdict: Any) -> None:
    for word, names in (("changed", verdict.changed), ("gone", verdict.gone)):
        for name in names:
            print(f"{word}: {name}")
    for component, said in verdict.unfit.items():
        print(f"unfit: {component}: {said}")
    for stage, lacks in verdict.stages.items():
        print(f"{stage}: lacks {', '.join(lacks)}" if lacks else f"{stage}: runs")
    if not verdict.recorded:
        print_note("nobody kept what its files have to be: their names and shapes were compared, not their numbers")
