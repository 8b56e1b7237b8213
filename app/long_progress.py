"""Where a long video's job is: which segment, bridge or window of its stage, and how long those took that are done."""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from app.long_plan import course_of
from app.recipe import Recipe
from app.timings import Timings
from lavie.events import BASE, Notice, OnRung, StageDone, StageStarted, Step


class LongProgress:
    """Follows the events of one run of a film. place: part and parts, see `JobRow`."""

    def __init__(self, job_id: str, recipe: Recipe, timings: Timings, done: int):
        """done: segments or bridges that are there already, from the first on."""
        self._job, self._recipe, self._timings, self._done = job_id, recipe, timings, done
        self._course = course_of(recipe.job)
        self._ends = list(accumulate(count * self._a_part(BASE) for count in self._course.parts))  # last step of each
        self._total, self._steps = 0, 0  # of the stage, and seen since `_began`
        self._began = time.monotonic()
        self.place = (0, 0)

    def note(self, event: Any) -> None:
        """Follow an event; keep the time of what it ends."""
        match event:
            case StageStarted():
                self._restart()
                self._total = event.steps
                self._be_at(event.stage, 0, event.steps)
            case Step():
                self._steps += 1
                self._be_at(event.stage, event.index, event.steps)
            case StageDone():
                if event.stage != BASE or self._course.together:
                    share = min(self._steps / max(self._total, 1), 1.0)  # the rest was there already
                    self._keep(event.stage, round(share * self._whole(event.stage)))
            case Notice() | OnRung():
                pass
            case _:  # a segment or bridge is done
                self._done = event.number + 1
                self.place = (min(self._done + 1, len(self._ends)), len(self._ends))
                if not self._course.together:  # else the time of one says nothing
                    self._keep(BASE, self._course.parts[event.number] * self._course.window)

    def _be_at(self, stage: str, index: int, steps: int) -> None:
        if stage == BASE:
            count = len(self._ends)
            # Made one by one, a segment may be missing between others; made together, they are done in their order.
            under_way = self._done if self._course.together or not index else bisect_left(self._ends, index)
            self.place = (min(under_way + 1, count), count)
        else:
            count = max(steps // self._a_part(stage), 1)
            self.place = (min(max(index - 1, 0) // self._a_part(stage) + 1, count), count)

    def _a_part(self, stage: str) -> int:
        """Steps of a window."""
        return self._recipe.request.sampling(stage).steps

    def _whole(self, stage: str) -> int:
        """Frames of the base stage that all of a stage has to do with."""
        if stage != BASE:
            return self._course.frames
        return len(self._course.parts) * self._course.window

    def _keep(self, stage: str, frames: int) -> None:
        """Keep the time since the last part was done, if anything was made in it."""
        if self._steps and frames:
            self._timings.add(self._job, self._recipe, stage, time.monotonic() - self._began, frames)
        self._restart()

    def _restart(self) -> None:
        self._steps, self._began = 0, time.monotonic()
