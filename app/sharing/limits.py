"""What one visitor may have in line at once, by `LAVIE_LIMIT_JOBS` and `LAVIE_LIMIT_SECONDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from app.config import Limits, StudioConfig
from app.models.card import ModelCard
from app.queue.job import TRAIN, JobRow
from app.recipes.recipe import Job
from app.recipes.segments import course_of, fitted
from app.recipes.training import Training
from lavie.errors import RequestError


def admission(config: StudioConfig) -> Callable[[Job | Training, Sequence[JobRow]], None]:
    """What raises RequestError where a task is too much beside the jobs in line, by the limits of the settings."""

    def admit(task: Job | Training, line: Sequence[JobRow]) -> None:
        limits = config.limits
        if limits.jobs is not None and len(line) >= limits.jobs:
            raise RequestError(f"{len(line)} jobs of yours are in line, as many as may be here: wait for one to end")
        if limits.seconds is not None:
            _check_seconds(config, limits, task, line)

    return admit


def seconds_of(config: StudioConfig, task: Job | Training) -> float:
    """Of video that a task makes; 0 of a training, and where the model does not say how long its clips are."""
    if isinstance(task, Training):
        return 0.0
    card = ModelCard.read(replace(config, model=task.model).bundle)
    if card is None:
        return 0.0
    whole = card.resolved(task.request)
    if task.long is None:
        return whole.frames / whole.fps
    plan, reel = (long and fitted(long, whole.frames) for long in (task.plan, task.reel))
    return course_of(replace(task, request=whole, plan=plan, reel=reel)).frames / whole.fps


def _check_seconds(config: StudioConfig, limits: Limits, task: Job | Training, line: Sequence[JobRow]) -> None:
    waiting = sum(seconds_of(config, row.job) for row in line if row.kind != TRAIN)
    asked = seconds_of(config, task)
    if waiting + asked > limits.seconds:
        raise RequestError(
            f"this makes {asked:g} s of video, {waiting:g} s of yours are in line, and {limits.seconds:g} s may be: "
            "ask for less, or wait"
        )
