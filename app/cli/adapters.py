"""The commands of adapters, and the option `--lora` of commands that make clips."""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.exit_codes import exit_codes
from app.cli.options import DataOption, JsonOption, ModelOption
from app.cli.output import print_grid, print_result
from app.config import read_config
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow, Adapters
    from app.config import StudioConfig
    from extensions.lora.adapter import Adapter

adapters = typer.Typer(help="LoRA files and embeddings.", rich_markup_mode=None, no_args_is_help=True)

LoraOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE[:WEIGHT[:TEXT_WEIGHT]]",
        help="A LoRA file, or the name of one in the library; again for each. Weights are -2 … 2.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `adapters list` shows it, or the beginning of its hash.")]
_WEIGHTED = re.compile(r"(?P<file>.+?)(?::(?P<weight>[-+]?\d*\.?\d+))?(?::(?P<text>[-+]?\d*\.?\d+))?")


def resolve_adapters(library: Adapters, bundle: Path, given: list[str] | None) -> tuple[Adapter, ...]:
    """The adapters of `--lora`. Imports files that the library lacks. Raises RequestError, AdapterError."""
    return tuple(_resolve(library, bundle, one) for one in given or ())


def _resolve(library: Adapters, bundle: Path, text: str) -> Adapter:
    match = _WEIGHTED.fullmatch(text)
    if match is None:
        raise RequestError("--lora is empty: give a file, or the name of an adapter")
    weight, text_weight = (None if match[name] is None else float(match[name]) for name in ("weight", "text"))
    path = Path(match["file"]).expanduser()
    row = library.add(path, bundle) if path.is_file() else _find(library, match["file"])
    return row.adapter(weight, text_weight)


def _find(library: Adapters, name: str) -> AdapterRow:
    if name.endswith(".safetensors"):
        raise RequestError(f"there is no file {name}: check the name")
    return library.find(name)


@adapters.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show what is there."""
    with exit_codes(), _open_library(read_config(os.environ, data=data)) as library:
        rows = library.all()

        def tell() -> None:
            columns = ("name", "hash", "made for", "kind", "words to write")
            about = ((row.card.base_model, row.card.family, ", ".join(row.card.trigger_words)) for row in rows)
            print_grid(columns, ((row.name, row.sha256[:12], *facts) for row, facts in zip(rows, about, strict=True)))

        print_result(as_json, {"adapters": [_describe(row) for row in rows]}, tell)


@adapters.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Safetensors files.")],
    data: DataOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let files in: they are looked at, and copied under their hash."""
    with exit_codes():
        config = read_config(os.environ, data=data, model=model)
        with _open_library(config) as library:
            rows = [library.add(file, config.bundle) for file in files]
        print_result(
            as_json, {"adapters": [_describe(row) for row in rows]}, lambda: print(*map(_summary, rows), sep="\n")
        )


@adapters.command()
def show(name: Name, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show all that is known of one."""
    with exit_codes(), _open_library(read_config(os.environ, data=data)) as library:
        row = library.find(name)

        def tell() -> None:
            values = {"name": row.name, **json.loads(row.card.to_json()), "created": row.created}
            print_grid(("", ""), ((key, value) for key, value in values.items() if value not in (None, "", [], 0)))

        print_result(as_json, _describe(row), tell)


@adapters.command()
def rename(name: Name, new: Annotated[str, typer.Argument(metavar="NEW")], data: DataOption = None) -> None:
    """Call one something else, for prompts and commands."""
    with exit_codes(), _open_library(read_config(os.environ, data=data)) as library:
        library.rename(library.find(name).sha256, new)


@adapters.command()
def remove(name: Name, data: DataOption = None) -> None:
    """Forget one and delete its file. Clips that were made with it stay."""
    with exit_codes(), _open_library(read_config(os.environ, data=data)) as library:
        library.remove(library.find(name).sha256)


@adapters.command()
def bake(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The new bundle.")],
    lora: LoraOption = None,
    data: DataOption = None,
    model: ModelOption = None,
) -> None:
    """Write a bundle that has adapters merged into its weights."""
    if not lora:
        raise typer.BadParameter("nothing to merge: give --lora")
    with exit_codes():
        from extensions.lora.bake import bake as write

        config = read_config(os.environ, data=data, model=model)
        with _open_library(config) as library:
            asked = resolve_adapters(library, config.bundle, lora)
            print(write(config.bundle, asked, lambda one: library.read(one, config.bundle), output.expanduser()))


@contextlib.contextmanager
def _open_library(config: StudioConfig) -> Iterator[Adapters]:
    from app.adapters import Adapters
    from app.storage.database import Database

    with contextlib.closing(Database(config.data)) as database:
        yield Adapters(database, config.data)


def _describe(row: AdapterRow) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(row.card.to_json()) | {"name": row.name, "created": row.created}
    return about | {"path": str(row.path), "there": row.path.is_file(), "preview": row.preview and str(row.preview)}


def _summary(row: AdapterRow) -> str:
    card = row.card
    parts = f"{card.vectors} vectors" if card.vectors else f"{card.unet_layers} + {card.text_layers} layers"
    unmatched = f", {card.unmatched} of its names are not in this model" if card.unmatched else ""
    words = f", write {' or '.join(card.trigger_words)}" if card.trigger_words else ""
    return f"{row.name}: {card.family} for {card.base_model}, {parts}{unmatched}{words}"
