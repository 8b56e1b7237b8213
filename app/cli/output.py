"""Prints results: one line of JSON for programs, a table for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import typer


def print_result(as_json: bool, found: dict[str, Any], tell: Callable[[], None]) -> None:
    """Print `found` as one JSON object, or call `tell`, which prints it for a person."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        tell()


def print_note(text: str) -> None:
    """Print a note on stderr: stdout is for the result."""
    typer.echo(f"note: {text}", err=True)


def print_grid(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table. Values are plain text: brackets are no markup, control characters become spaces."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold" if column == "id" else "ellipsis", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(Text(_printable(value)) for value in row))
    Console().print(table)


def _printable(value: Any) -> str:
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)
