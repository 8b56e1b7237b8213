"""Time and memory: what past jobs took on this machine (`Timings`), and what a job will take (`Estimates`).

The time of a stage is proportional to steps × frames × width × height: the most similar past runs are scaled by that.
Without a past run of a stage there is no estimate.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from app.config import StudioConfig
from app.device import peak_memory
from app.models.card import ModelCard
from app.recipes.job_row import JobRow
from app.recipes.recipe import Job, Recipe
from app.recipes.segments import course_of, fit_plan
from app.storage.database import Database, now
from lavie.errors import LavieError
from lavie.events import BASE
from lavie.request import Request
from lavie.values import require

_RUNS = 20  # the latest runs of a stage that are considered
_NEAREST = 5  # of these, the most similar ones that are used


@dataclass(frozen=True)
class Estimate:
    """Of a job. seconds: of all stages. stages: of each. memory: bytes at the peak, None if it was never measured."""

    seconds: float
    stages: Mapping[str, float]
    memory: int | None


@dataclass(frozen=True)
class LongEstimate:
    """Seconds of a long video: a mean segment of those to be made, through the base stage, and all to be made."""

    segment: float
    whole: float


@dataclass(frozen=True)
class LongLeft:
    """Seconds left of a running long video.

    segment: the current segment, or the window of a later stage. whole: None if a later stage has never run here.
    """

    segment: float
    whole: float | None


class Timings:
    """The time and memory of finished stages. All methods may be called from any thread."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, job_id: str, recipe: Recipe, stage: str, seconds: float, frames: int | None = None) -> None:
        """Store the time of a stage that has just ended, or of a part of one.

        frames: of the base stage that it worked on [all of a clip].
        """
        request = recipe.request
        with self._database.write() as connection:
            connection.table("timings").insert(
                {
                    "job": job_id,
                    "stage": stage,
                    "model": recipe.model,
                    "device": recipe.provenance["device"],
                    "steps": request.sampling(stage).steps,
                    "frames": frames or request.frames,
                    "width": request.width,
                    "height": request.height,
                    "seconds": seconds,
                    "peak_bytes": peak_memory(),
                    "created": now(),
                }
            )

    def of_job(self, job_id: str) -> list[tuple[str, float]]:
        """Each finished stage, or part of one, with its seconds; repeated ones are listed again."""
        rows = self._database.query("SELECT stage, seconds FROM timings WHERE job = ? ORDER BY pk", [job_id])
        return [(row["stage"], row["seconds"]) for row in rows]

    def sums(self, job_id: str) -> dict[str, float]:
        """Stage → its seconds in all, rounded to milliseconds."""
        found: dict[str, float] = {}
        for stage, seconds in self.of_job(job_id):
            found[stage] = found.get(stage, 0.0) + seconds
        return {stage: round(seconds, 3) for stage, seconds in found.items()}


class Estimates:
    """Estimates from past timings. All methods may be called from any thread."""

    def __init__(self, database: Database, config: StudioConfig):
        self._database, self._config = database, config

    def of_request(self, request: Request, model: str) -> Estimate | None:
        """Of a request. None if a stage has never run here."""
        return self._of(Job(request, model), None)

    def of_long(self, job: Job, made: Collection[int] | None = None) -> LongEstimate | None:
        """Of a long video's job. made: the segments to be made [all]. None if a stage has never run here."""
        estimate = self._of(job, made)
        if estimate is None:
            return None
        count = len(course_of(job).parts if made is None else made)
        segment = estimate.stages[BASE] / max(count, 1)
        return LongEstimate(segment, estimate.seconds)

    def of_recipe(self, recipe: str) -> dict[str, float | None]:
        """Stage → its seconds, None if it has never run here, in the order in which they run."""
        try:
            made = Recipe.from_json(recipe)
        except LavieError:
            return {}
        request = made.request
        found = {
            stage: self._stage(made.model, stage, request, request.sampling(stage).steps, _frames(stage, made.job))
            for stage in request.stages
        }
        return {stage: seconds and seconds[0] for stage, seconds in found.items()}

    def left_of_long(self, row: JobRow, seconds_a_step: float | None = None) -> LongLeft | None:
        """The time left of a long video's running job. seconds_a_step: measured [that of past runs]."""
        stages = self.of_recipe(row.recipe) if row.recipe and row.stage and row.parts else {}
        if row.stage not in stages:
            return None
        known = stages[row.stage]
        a_step = seconds_a_step if seconds_a_step is not None else known and known / max(row.steps, 1)
        if a_step is None:
            return None
        segment, whole = a_step * max(_steps_until(row) - row.step, 0), a_step * (row.steps - row.step)
        for seconds in list(stages.values())[list(stages).index(row.stage) + 1 :]:
            if seconds is None:
                return LongLeft(segment, None)
            whole += seconds
        return LongLeft(segment, whole)

    def of_jobs(self, rows: Iterable[JobRow]) -> float | None:
        """The seconds of these jobs together; None if those of one are not known."""
        total = 0.0
        for row in rows:
            try:
                estimate = self._of(row.job, None)
            except LavieError:
                return None
            if estimate is None:
                return None
            total += estimate.seconds
        return total

    def _of(self, job: Job, made: Collection[int] | None) -> Estimate | None:
        card = ModelCard.read(replace(self._config, model=job.model).bundle)
        if card is None:
            return None
        whole = card.fill_size(job.request)
        job = replace(job, request=whole, long=job.long and fit_plan(job.long, require(whole.frames)))
        stages: dict[str, float] = {}
        peaks: list[int] = []
        for stage in whole.stages:
            found = self._stage(job.model, stage, whole, card.steps_of(whole, stage), _frames(stage, job, made))
            if found is None:
                return None
            stages[stage], peak = found
            peaks += [peak] if peak else []
        return Estimate(sum(stages.values()), stages, max(peaks, default=None))

    def _stage(
        self, model: str, stage: str, request: Request, steps: int | None, frames: int | None
    ) -> tuple[float, int | None] | None:
        """Seconds and peak memory of a stage, from the most similar past runs. frames: of the base stage."""
        width, height = request.width, request.height
        if steps is None or frames is None or width is None or height is None:  # the recipe is not resolved
            return None
        runs = self._database.query(
            """SELECT device, steps, frames, width, height, seconds, peak_bytes FROM timings
               WHERE model = ? AND stage = ? ORDER BY created DESC LIMIT ?""",
            [model, stage, _RUNS],
        )
        runs = [run for run in runs if run["device"] == runs[0]["device"]]
        if not runs:
            return None
        asked = steps * frames * width * height
        if not asked:  # nothing is to be made
            return 0.0, None
        runs.sort(key=lambda run: abs(math.log(_work_of(run) / asked)))
        near = runs[:_NEAREST]
        peaks = [run["peak_bytes"] for run in near if run["peak_bytes"]]
        return median(run["seconds"] * asked / _work_of(run) for run in near), max(peaks, default=None)


def _frames(stage: str, job: Job, made: Collection[int] | None = None) -> int | None:
    """The frames of the base stage that a stage of a resolved job works on, in all windows.

    made: the segments to be made [all].
    """
    if job.long is None:
        return job.request.frames
    course = course_of(job)
    if stage != BASE:
        return course.frames
    numbers = range(len(course.parts)) if made is None else made
    return sum(course.parts[number] for number in numbers) * course.window


def _steps_until(row: JobRow) -> int:
    """The step of the stage at which the current segment or window ends."""
    recipe = Recipe.from_json(row.recipe or "")
    if row.stage != BASE:
        return row.part * row.steps // row.parts
    windows = course_of(recipe.job).parts
    return round(row.steps * sum(windows[: row.part]) / sum(windows))


def _work_of(run: Mapping[str, int]) -> int:
    return run["steps"] * run["frames"] * run["width"] * run["height"]
