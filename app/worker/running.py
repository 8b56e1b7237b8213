"""The job under way, as the database and the page hear of it: how far it is, and what a person asks of it meanwhile.

Knows neither how a clip is made nor the worker's thread.
"""

from __future__ import annotations

import threading
import time
import typing

from app.queue.queue import JobQueue
from lavie.events import Notice, StageStarted, Step

if typing.TYPE_CHECKING:
    import numpy as np

_TELL_SECONDS = 0.1  # between two notes of the progress in the database


class StopRequested(Exception):
    """The job under way was asked to stop, or (`None`) the worker was."""

    def __init__(self, what: str | None):
        self.what = what


class Running:
    """stopping: is set when the worker is to stop."""

    def __init__(self, jobs: JobQueue, stopping: threading.Event):
        self._jobs, self._stopping = jobs, stopping
        self._previews: dict[str, np.ndarray] = {}
        self._told = 0.0
        self._place = (0, 0)
        self._step: tuple[str, int, int] | None = None

    def preview(self, job_id: str) -> np.ndarray | None:
        """uint8 F h w 3: the latest guess of a running job's frames."""
        return self._previews.get(job_id)

    def note(self, job_id: str, event: typing.Any, part: int = 0, parts: int = 0) -> None:
        """Tell of an event. part, parts: of a long video, see `JobRow`."""
        moved, self._place = (part, parts) != self._place, (part, parts)
        match event:
            case Notice():
                self._jobs.notice(job_id, event.message)
            case StageStarted():
                self._step = (event.stage, 0, event.steps)
                self._jobs.progress(job_id, *self._step, part, parts)
            case Step():
                self._step = (event.stage, event.index, event.steps)
                if event.preview is not None:
                    self._previews[job_id] = event.preview
                if moved or event.index == event.steps or time.monotonic() - self._told >= _TELL_SECONDS:
                    self._told = time.monotonic()
                    self._jobs.progress(job_id, *self._step, part, parts)
            case _ if moved and self._step:  # a segment is done, and the next one under way
                self._jobs.progress(job_id, *self._step, part, parts)

    def check_stop(self, job_id: str) -> None:
        """Raises StopRequested where it is to stop."""
        if asked := self._jobs.asked(job_id):
            raise StopRequested(asked)
        if self._stopping.is_set():
            raise StopRequested(None)

    def ended(self, job_id: str) -> None:
        """It is over, in whatever way."""
        self._previews.pop(job_id, None)
        self._place, self._step = (0, 0), None
