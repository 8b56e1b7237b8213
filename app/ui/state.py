"""State that tabs and pushed fragments share: one open page's session, and the studio at one moment."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.models.jobs import Standing
from app.queue.status import JobStatus
from app.recipes.job_row import JobRow

View = typing.TypeVar("View")


class PageSession(typing.Generic[View]):
    """What one open page of a tab looks at. Handlers hold `lock` while they replace `view`.

    `gradio.State` holds the session, not the view: a slow handler would otherwise overwrite the view of a faster one.

    Args:
        new_view: Makes the view of a page that was just opened.
    """

    def __init__(self, new_view: Callable[[], View]):
        self.view, self.lock, self.answers, self._new_view = new_view(), threading.Lock(), 0, new_view

    def __deepcopy__(self, memo: dict[int, typing.Any]) -> PageSession[View]:
        """A fresh session: `gradio.State` copies its initial value for each page."""
        return PageSession(self._new_view)


@dataclass(frozen=True)
class TimeLeft:
    """Seconds left of the running job.

    stage: of the current stage. whole: of the whole job, None if unknown. share: fraction of the job's time that has
    passed. part: of the current segment or window of a long video.
    """

    stage: float
    whole: float | None = None
    share: float | None = None
    part: float | None = None


@dataclass(frozen=True)
class StudioState:
    """What every open page shows of the studio at one moment.

    current: the running job, else the last one that ended. line: the first waiting jobs, the next one first. model:
    `loading`, `ready` or an error. revision: number that rises with each new clip and each start or end of a job.
    part_revision: number that rises with each finished segment, changed long video, training output, model state and
    weights job. left: of `current`. waiting_seconds: estimate for the whole line, None if unknown. weights: progress
    of the published weights. fragments: cache of the rendered HTML by language.
    """

    current: JobStatus | None
    line: tuple[JobRow, ...]
    counts: Mapping[str, int]
    paused: bool
    model: str
    revision: int
    part_revision: int
    left: TimeLeft | None
    waiting_seconds: float | None
    weights: Standing
    fragments: dict[str, dict[str, typing.Any]] = field(default_factory=dict)
