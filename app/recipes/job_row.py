"""A job as the database has it, and the states it goes through:

    queued ──take──▸ running ──▸ done | failed | cancelled
      ▴  ▴── resume ── paused ◂──┤ pause
      └─ retry, recover ─ interrupted ◂─┘ a kill

Knows neither the database nor what moves a job on (`app.queue.queue`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.recipes.recipe import Job
from app.recipes.training import Training
from lavie.errors import RequestError

QUEUED, RUNNING, PAUSED = "queued", "running", "paused"
DONE, FAILED, CANCELLED, INTERRUPTED = "done", "failed", "cancelled", "interrupted"
WAITING = (QUEUED, PAUSED, INTERRUPTED)
OPEN = (RUNNING, *WAITING)
CLOSED = (DONE, FAILED, CANCELLED)
RENDER, REGENERATE, CANDIDATES, TRAIN = "render", "regenerate", "candidates", "train"
CANCEL, PAUSE, KEEP = "cancel", "pause", "keep"  # what can be asked of a running job
RESUME = "resume"  # the policy that goes on with what a kill interrupted


@dataclass(frozen=True)
class JobRow:
    """A job as the database has it.

    recipe: JSON, from before its first step on. asked: what it will do at its next step: `cancel`, `pause`, or
    `keep` what its finished stages have made. kept: how
    many results on the way were stored when it last went on by itself after a kill. error: one line, of the last
    failure or interruption. stage, step, steps: where it is. part, parts: of a long video, which segment or window of
    the stage is under way, from 1, and of how many; else 0. created, started, finished: UTC, ISO 8601.
    """

    id: str
    kind: str
    state: str
    priority: int
    job_json: str
    recipe: str | None
    parent: str | None
    output: str | None
    asked: str | None
    attempts: int
    kept: int | None
    error: str | None
    result: str | None
    stage: str | None
    step: int
    steps: int
    part: int
    parts: int
    notices: tuple[str, ...]
    created: str
    started: str | None
    finished: str | None

    @property
    def job(self) -> Job:
        """Raises RequestError for one that this version cannot read, and for one that trains an adapter."""
        if self.kind == TRAIN:
            raise RequestError(f"the job {self.id} trains an adapter: it makes no clip")
        return Job.from_json(self.job_json)

    @property
    def training(self) -> Training:
        """Raises RequestError for one that this version cannot read, and for one that trains nothing."""
        if self.kind != TRAIN:
            raise RequestError(f"the job {self.id} trains nothing")
        return Training.from_json(self.job_json)

    @property
    def task(self) -> Job | Training:
        """What is to be done, of whatever kind. Raises RequestError for what this version cannot read."""
        return self.training if self.kind == TRAIN else self.job

    @property
    def prompt(self) -> str:
        """What was asked for, for lists; of a training the word that calls what is learned. Empty where the job cannot
        be read."""
        try:
            return self.training.trigger if self.kind == TRAIN else self.job.request.prompt
        except RequestError:
            return ""

    @property
    def open(self) -> bool:
        """Whether something is still going to happen to it."""
        return self.state in OPEN

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> JobRow:
        """From the columns of the table."""
        values = dict(values)
        for name in ("pk", "position"):
            del values[name]
        return cls(job_json=values.pop("job"), notices=tuple(json.loads(values.pop("notices"))), **values)
