"""A job as it is asked about from time to time, as the events that happened in between. Knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from app.queue.job import DONE
from app.queue.status import JobStatus
from lavie.events import Event, Notice, StageDone, StageStarted, Step


class Watch:
    """Turns the snapshots of one job into events. A stage that no snapshot showed, as one made before, is not told.

    clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._noticed = 0
        self._stage: str | None = None
        self._began = 0.0

    def events(self, snapshot: JobStatus) -> Iterator[Event]:
        """What is new since the last call."""
        row = snapshot.row
        yield from map(Notice, row.notices[self._noticed :])
        self._noticed = len(row.notices)
        if row.stage not in (None, self._stage):
            yield from self._end()
            self._stage, self._began = row.stage, self._clock()
            yield StageStarted(row.stage, row.steps)
        if self._stage is not None and row.step:
            yield Step(row.stage, row.step, row.steps)
        if snapshot.state == DONE:
            yield from self._end()

    def _end(self) -> Iterator[Event]:
        if self._stage is not None:
            yield StageDone(self._stage, self._clock() - self._began, None)
            self._stage = None
