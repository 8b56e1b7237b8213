"""How commands show what they found: one line of JSON for programs, a table for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import typer


def print_result(as_json: bool, found: dict[str, Any], tell: Callable[[], None]) -> None:
    """`found` as one JSON object on the last line, or what `tell` prints for a person."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        tell()


def print_note(text: str) -> None:
    """Tell a person something beside the result, which has stdout to itself."""
    typer.echo(f"note: {text}", err=True)


def print_grid(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table. What stands in it is shown as it is: a name with brackets is no markup, a control no command."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold" if column == "id" else "ellipsis", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    Console().print(table)


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
