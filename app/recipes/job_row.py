"""A row of the table of jobs, and the states that a job goes through:

queued ──take──▸ running ──▸ done | failed | cancelled
  ▴  ▴── resume ── paused ◂──┤ pause
  └─ retry, recover ─ interrupted ◂─┘ a kill
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
CANCEL, PAUSE, KEEP = "cancel", "pause", "keep"  # wishes to a running job
RESUME = "resume"  # the recovery policy that resumes interrupted jobs


@dataclass(frozen=True)
class JobRow:
    """A job as the database has it.

    Attributes:
        recipe: JSON, from before its first step on.
        asked: what it will do after its step: `cancel`, `pause`, or `keep` the result of its finished stages.
        kept: how many intermediate results were stored when it was last resumed automatically after a kill.
        error: one line, of the last failure or interruption.
        stage, step, steps: its progress.
        part, parts: of a long video, the current segment or window of the stage, from 1, and their count; else 0.
        created, started, finished: UTC, ISO 8601.
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
        """The job. Raises RequestError for one that this version cannot read, and for a training."""
        if self.kind == TRAIN:
            raise RequestError(f"the job {self.id} trains an adapter: it makes no clip")
        return Job.from_json(self.job_json)

    @property
    def training(self) -> Training:
        """The training. Raises RequestError for one that this version cannot read, and for other jobs."""
        if self.kind != TRAIN:
            raise RequestError(f"the job {self.id} trains nothing")
        return Training.from_json(self.job_json)

    @property
    def task(self) -> Job | Training:
        """The job or training. Raises RequestError for one that this version cannot read."""
        return self.training if self.kind == TRAIN else self.job

    @property
    def prompt(self) -> str:
        """The prompt, for lists; the trigger of a training. Empty if the job cannot be read."""
        try:
            return self.training.trigger if self.kind == TRAIN else self.job.request.prompt
        except RequestError:
            return ""

    @property
    def open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in OPEN

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> JobRow:
        """From the columns of the table."""
        values = dict(values)
        for name in ("pk", "position"):
            del values[name]
        return cls(job_json=values.pop("job"), notices=tuple(json.loads(values.pop("notices"))), **values)
