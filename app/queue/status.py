"""How a job stands, for pages, commands and scripts that follow it: as a value, and as events since the last look."""

from __future__ import annotations

import time
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from app.gallery.clip import Clip
from app.recipes.comparison import Comparison
from app.recipes.job_row import DONE, RUNNING, JobRow
from lavie.events import Event, Notice, StageDone, StageStarted, Step

if typing.TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class JobStatus:
    """A job as it stands now.

    Attributes:
        preview: uint8 F h w 3 at the size of the latents, while the job runs in this process.
        clip: the result of a `render` job that is done; stage_seconds: stage → the seconds it took.
        comparison: the result of a `regenerate` job that is done.
    """

    row: JobRow
    preview: np.ndarray | None = None
    clip: Clip | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def state(self) -> str:
        return self.row.state

    @property
    def open(self) -> bool:
        """Whether something is still going to happen."""
        return self.row.open

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and is finishing its step."""
        return self.state == RUNNING and self.row.asked is not None


class Watch:
    """Turns successive statuses of one job into events. A stage that no status showed has none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """clock: monotonic seconds."""
        self._clock = clock
        self._noticed = 0
        self._stage: str | None = None
        self._began = 0.0

    def events(self, status: JobStatus) -> Iterator[Event]:
        """The events since the last call."""
        row = status.row
        yield from map(Notice, row.notices[self._noticed :])
        self._noticed = len(row.notices)
        if row.stage is not None and row.stage != self._stage:
            yield from self._end()
            self._stage, self._began = row.stage, self._clock()
            yield StageStarted(row.stage, row.steps)
        if row.stage is not None and row.step:
            yield Step(row.stage, row.step, row.steps)
        if status.state == DONE:
            yield from self._end()

    def _end(self) -> Iterator[Event]:
        if self._stage is not None:
            yield StageDone(self._stage, self._clock() - self._began, None)
            self._stage = None
