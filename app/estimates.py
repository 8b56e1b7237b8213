"""How long a request takes and how much memory, from what this machine has made before. Knows only the database.

A stage's time grows with its steps and with what it works on, frames × width × height: the nearest past runs are scaled
by that. Without a past run of a stage nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from app.config import StudioConfig
from app.database import Database
from app.job_row import JobRow
from app.model_card import ModelCard
from app.recipe import Recipe
from lavie.errors import LavieError
from lavie.request import Request

_RUNS = 20  # the latest of a stage that are looked at
_NEAREST = 5  # of these, how many tell


@dataclass(frozen=True)
class Estimate:
    """seconds: of all stages. stages: of each. memory: bytes at the peak, None where it was never measured."""

    seconds: float
    stages: Mapping[str, float]
    memory: int | None


class Estimates:
    """All methods may be called from any thread."""

    def __init__(self, database: Database, config: StudioConfig):
        self._database, self._config = database, config

    def of_request(self, request: Request, model: str) -> Estimate | None:
        """None where a stage has never run here."""
        card = ModelCard.read(replace(self._config, model=model).bundle)
        if card is None:
            return None
        whole = card.resolved(request)
        found = {stage: self._stage(model, stage, whole, card.steps_of(request, stage)) for stage in request.stages}
        if None in found.values():
            return None
        stages = {stage: seconds for stage, (seconds, _) in found.items()}
        peaks = [memory for _, memory in found.values() if memory]
        return Estimate(sum(stages.values()), stages, max(peaks, default=None))

    def of_recipe(self, recipe: str) -> dict[str, float | None]:
        """Stage → seconds that it takes, in the order they run."""
        try:
            made = Recipe.from_json(recipe)
        except LavieError:
            return {}
        request = made.request
        found = {
            stage: self._stage(made.model, stage, request, request.sampling(stage).steps) for stage in request.stages
        }
        return {stage: seconds and seconds[0] for stage, seconds in found.items()}

    def of_jobs(self, rows: Iterable[JobRow]) -> float | None:
        """Seconds that these jobs take together; None where that of one is not known."""
        total = 0.0
        for row in rows:
            try:
                estimate = self.of_request(row.job.request, row.job.model)
            except LavieError:
                return None
            if estimate is None:
                return None
            total += estimate.seconds
        return total

    def _stage(self, model: str, stage: str, request: Request, steps: int | None) -> tuple[float, int | None] | None:
        """Seconds and peak memory of a stage, by the past runs that are nearest in what they had to do."""
        if None in (steps, request.frames, request.width, request.height):  # of a recipe that is not resolved
            return None
        runs = self._database.query(
            """SELECT device, steps, frames, width, height, seconds, peak_bytes FROM timings
               WHERE model = ? AND stage = ? ORDER BY created DESC LIMIT ?""",
            [model, stage, _RUNS],
        )
        runs = [run for run in runs if run["device"] == runs[0]["device"]]
        if not runs:
            return None
        asked = _work(steps, request.frames, request.width, request.height)
        runs.sort(key=lambda run: abs(math.log(_work_of(run) / asked)))
        near = runs[:_NEAREST]
        peaks = [run["peak_bytes"] for run in near if run["peak_bytes"]]
        return median(run["seconds"] * asked / _work_of(run) for run in near), max(peaks, default=None)


def _work(steps: int, frames: int, width: int, height: int) -> int:
    return steps * frames * width * height


def _work_of(run: Mapping[str, int]) -> int:
    return _work(run["steps"], run["frames"], run["width"], run["height"])
