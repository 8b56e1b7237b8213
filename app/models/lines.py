"""How far a long work over bytes is, on stderr: a bar on a terminal, otherwise a plain line every ten seconds."""

from __future__ import annotations

import contextlib
import os
import time
import typing
from collections.abc import Callable, Iterator

from app.cli.progress import LINE_SECONDS
from lavie.events import Notice

Show = Callable[[typing.Any], None]


def of_bytes(count: float) -> str:
    """A size as a person reads it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


class ByteLines:
    """Progress as lines. Takes what has `done` and `total`, and perhaps `rate` and `seconds_left`; and notices."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._write, self._clock = write, clock
        self._written: float | None = None

    def __call__(self, event: typing.Any) -> None:
        now = self._clock()
        if isinstance(event, Notice):
            self._write(f"note: {event.message}")
        elif hasattr(event, "total") and (self._written is None or now - self._written >= LINE_SECONDS):
            self._written = now
            self._write(_line(event))


@contextlib.contextmanager
def byte_progress(stream: typing.TextIO) -> Iterator[Show]:
    """What to call with each event, as suits `stream`."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield ByteLines(lambda line: print(line, file=stream, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=stream)) as bars:
        task = bars.add_task("", total=None)

        def show(event: typing.Any) -> None:
            if isinstance(event, Notice):
                bars.console.print(f"note: {event.message}", markup=False, highlight=False)
            elif hasattr(event, "total"):
                bars.update(task, description=_what(event), completed=event.done, total=event.total)

        yield show


def _what(event: typing.Any) -> str:
    return getattr(event, "file", None) or event.component


def _line(event: typing.Any) -> str:
    text = f"{_what(event)}: {of_bytes(event.done)} of {of_bytes(event.total)}"
    if getattr(event, "rate", 0):
        text += f", {of_bytes(event.rate)} a second"
    if getattr(event, "seconds_left", None) is not None:
        text += f", {event.seconds_left:.0f} s left"
    return text
