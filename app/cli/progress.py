"""Progress on stderr: bars on a terminal, else a plain line every ten seconds. Stdout stays free for results."""

from __future__ import annotations

import contextlib
import os
import time
import typing
from collections.abc import Callable, Iterator

from app.models.catalog import format_bytes
from app.recipes.training import TRAINING
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Notice, StageDone, StageStarted, Step

STAGE_NAMES = {BASE: "base", INTERPOLATION: "interpolation", SUPER_RESOLUTION: "super-resolution", TRAINING: "training"}
LINE_SECONDS = 10.0

Show = Callable[[typing.Any], None]


@contextlib.contextmanager
def progress(stream: typing.TextIO, *, in_bytes: bool = False) -> Iterator[Show]:
    """A function that shows events on `stream`: those of a cascade, or with `done` and `total` bytes."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines(lambda line: print(line, file=stream, flush=True))
        return
    from rich import progress as rich
    from rich.console import Console

    # The last column shows the time left, and the time taken when the stage is done.
    columns = [rich.TextColumn("{task.description:<16}"), rich.BarColumn(), rich.MofNCompleteColumn()]
    if in_bytes:
        columns = [rich.TextColumn("{task.description}"), rich.BarColumn()]
        columns += [rich.DownloadColumn(), rich.TransferSpeedColumn()]
    left = rich.TimeRemainingColumn(elapsed_when_finished=not in_bytes)
    with rich.Progress(*columns, left, console=Console(file=stream)) as bars:
        tasks = {"bytes": bars.add_task("", total=None)} if in_bytes else {}

        def show(event: typing.Any) -> None:
            match event:
                case Notice():
                    bars.console.print(f"note: {event.message}", markup=False, highlight=False)
                case StageStarted():
                    tasks[event.stage] = bars.add_task(STAGE_NAMES[event.stage], total=event.steps)
                case Step():
                    bars.update(tasks[event.stage], completed=event.index)
                case StageDone():
                    bars.update(tasks[event.stage], completed=bars.tasks[tasks[event.stage]].total)
                case _ if hasattr(event, "total"):
                    bars.update(tasks["bytes"], description=_name(event), completed=event.done, total=event.total)

        yield show


class Lines:
    """Progress as lines for logs: the start and end of each stage, and one every `LINE_SECONDS` between.

    write: takes a line without line break. clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._write, self._clock = write, clock
        self._started = self._written = clock()
        self._bytes_written = float("-inf")

    def __call__(self, event: typing.Any) -> None:
        now = self._clock()
        match event:
            case Notice():
                self._write(f"note: {event.message}")
            case StageStarted():
                self._started = self._written = now
                self._write(f"{STAGE_NAMES[event.stage]}: {event.steps} steps")
            case Step() if now - self._written >= LINE_SECONDS:
                self._written = now
                left = (now - self._started) / event.index * (event.steps - event.index)
                self._write(f"{STAGE_NAMES[event.stage]}: step {event.index} of {event.steps}, {left:.0f} s left")
            case StageDone():
                self._write(f"{STAGE_NAMES[event.stage]}: done in {event.seconds:.1f} s")
            case _ if hasattr(event, "total") and now - self._bytes_written >= LINE_SECONDS:
                self._bytes_written = now
                self._write(_line(event))


def _name(event: typing.Any) -> str:
    return str(getattr(event, "file", None) or event.component)


def _line(event: typing.Any) -> str:
    text = f"{_name(event)}: {format_bytes(event.done)} of {format_bytes(event.total)}"
    if getattr(event, "rate", 0):
        text += f", {format_bytes(event.rate)} a second"
    if getattr(event, "seconds_left", None) is not None:
        text += f", {event.seconds_left:.0f} s left"
    return text
