"""Events of a cascade as words on stderr: bars on a terminal, otherwise a plain line every ten seconds.

Stdout stays free for results. Knows neither where events come from nor what they lead to.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing
from collections.abc import Callable, Iterator

from app.recipes.training import TRAINING
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Notice, StageDone, StageStarted, Step

STAGE_NAMES = {BASE: "base", INTERPOLATION: "interpolation", SUPER_RESOLUTION: "super-resolution", TRAINING: "training"}
LINE_SECONDS = 10.0

Show = Callable[[typing.Any], None]


@contextlib.contextmanager
def progress(stream: typing.TextIO) -> Iterator[Show]:
    """What to call with each event, as suits `stream`. Events that are no progress are passed over."""
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        with _bars(stream) as show:
            yield show
    else:
        yield Lines(lambda line: print(line, file=stream, flush=True))


class Lines:
    """Progress as lines, for logs: the start and end of each stage, and `LINE_SECONDS` apart in between.

    write: takes a line without its end. clock: seconds, never going back.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._write = write
        self._clock = clock
        self._started = self._written = clock()

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


@contextlib.contextmanager
def _bars(stream: typing.TextIO) -> Iterator[Show]:
    """One bar a stage, with its steps and its time."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    name = TextColumn("{task.description:<16}")
    # The last column counts down the time a stage still takes, and shows what it took once it is done.
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=Console(file=stream)) as bars:
        tasks = {}

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

        yield show
