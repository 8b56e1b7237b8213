"""The queue for a worker: takes jobs, writes their progress and end, and recovers those that a kill left running."""

from __future__ import annotations

import json
from collections.abc import Callable

from app.config import RECOVERIES
from app.queue.table import FRESH, JobTable
from app.recipes.job_row import (
    CANCEL,
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    PAUSE,
    PAUSED,
    QUEUED,
    RESUME,
    RUNNING,
    TRAIN,
    JobRow,
)
from app.storage.database import Database, now, storable
from app.storage.training_folder import checkpoint_step, training_folder
from lavie.errors import RequestError


class WorkerQueue:
    """The jobs of a data folder, for a worker. Several workers may use it at once, in any number of processes.

    Raises RequestError for an id that is not known and for what a job's state does not allow; then nothing changed.
    """

    def __init__(self, database: Database):
        self._database = database
        self._table = JobTable(database)

    def take(self, job_id: str | None = None, suits: Callable[[JobRow], bool] | None = None) -> JobRow | None:
        """Start the next queued job; None if there is none or the queue is paused. No other worker gets the same job.

        job_id: start this job, even if the queue is paused; None if it is not queued. suits: tells the jobs to take.
        """
        if self._next(job_id, suits) is None:
            return None  # the usual answer, without a lock for writing
        with self._database.write():
            while (found := self._next(job_id, suits)) is not None:
                again = {"state": RUNNING, "attempts": found.attempts + 1, "started": now(), "error": None}
                self._table.set(found.id, **again, **FRESH)
                try:
                    _ = found.task
                    return self._table.require(found.id)
                except RequestError as error:  # an unreadable job must not stop the worker
                    self.fail(found.id, str(error))
        return None

    def store_recipe(self, job_id: str, recipe: str) -> None:
        """Store a running job's recipe, JSON, before its first step. It survives interruptions and new attempts."""
        self._table.set_running(job_id, "resolved", recipe=recipe)

    def set_progress(self, job_id: str, stage: str, step: int, steps: int, part: int = 0, parts: int = 0) -> None:
        """Store the progress of a running job. part, parts: of a long video, see `JobRow`."""
        where = {"stage": stage, "step": step, "steps": steps, "part": part, "parts": parts}
        self._table.set_running(job_id, "continued", **where)

    def add_notice(self, job_id: str, text: str) -> None:
        """Add a notice for the person to a running job, unless it has the same one already."""
        with self._database.write():
            notices = self._table.require_state(job_id, (RUNNING,), "continued").notices
            if (text := storable(text)) not in notices:
                self._table.set(job_id, notices=json.dumps([*notices, text], ensure_ascii=False))

    def stop_request(self, job_id: str) -> str | None:
        """What the running job was asked to do: `cancel`, `pause`, `keep` or None."""
        return self._table.require(job_id).asked

    def clear_stop(self, job_id: str) -> None:
        """Clear the wish to a running job, which goes on."""
        self._table.set_running(job_id, "continued", asked=None)

    def finish(self, job_id: str, result: str | None = None) -> None:
        """End a running job as done. result: JSON, of jobs without a clip."""
        self._table.set_running(job_id, "finished", state=DONE, asked=None, result=result, finished=now())

    def fail(self, job_id: str, error: str) -> None:
        """End a running job as failed. error: one line."""
        self._table.set_running(job_id, "failed", state=FAILED, asked=None, error=storable(error), finished=now())

    def finish_cancelled(self, job_id: str) -> None:
        """End a running job as cancelled, after its step."""
        self._table.set_running(job_id, "cancelled", state=CANCELLED, asked=None, finished=now())

    def finish_paused(self, job_id: str) -> None:
        """Pause a running job, after its step."""
        self._table.set_running(job_id, "paused", state=PAUSED, asked=None)

    def release(self, job_id: str) -> None:
        """Put a running job back to the front of the queue, as its worker ends."""
        with self._database.write():
            self._table.set_running(job_id, "released", state=QUEUED, asked=None, kept=None)
            self._table.to_front(job_id)

    def interrupt(self, job_id: str, policy: str) -> None:
        """Recover a running job whose device was lost. policy: as in `recover`."""
        with self._database.write():
            self._interrupt(self._table.require_state(job_id, (RUNNING,), "lost"), policy, "its device was lost")

    def recover(self, policy: str, job_id: str | None = None) -> list[str]:
        """Recover the jobs that a kill left running; their ids. Only the owner of the data folder may call it.

        A job that was asked to stop has now stopped. With the policy `resume` a job is the next one again, unless it
        has stored nothing since it was last resumed: the same would kill it again. Then, and with `ask` and `never`, it
        stays interrupted until a person decides.

        job_id: recover this job alone, of which its worker knows that it does not run.
        """
        if policy not in RECOVERIES:
            raise RequestError(f"recovery is {policy!r}: choose one of {', '.join(RECOVERIES)}")
        with self._database.write():
            rows = self._table.where(
                f"state = '{RUNNING}' AND id = coalesce(?, id) ORDER BY priority DESC, position", [job_id]
            )
            for row in reversed(rows):  # each goes to the front: so they keep their order
                self._interrupt(row, policy, "the studio ended")
        return [row.id for row in rows]

    def _interrupt(self, row: JobRow, policy: str, what: str) -> None:
        if row.asked in (CANCEL, PAUSE):
            (self.finish_cancelled if row.asked == CANCEL else self.finish_paused)(row.id)
            return
        kept = self._count_stored(row)
        at = f"at {row.stage}, step {row.step} of {row.steps}" if row.stage else "before its first step"
        error = f"{what} {at}"
        if policy == RESUME and (row.kept is None or kept > row.kept):
            self._table.set(row.id, state=QUEUED, asked=None, error=error, kept=kept)
            self._table.to_front(row.id)
            return
        if policy == RESUME:
            error += ", for the second time with nothing new stored: go on with it by hand"
        self._table.set(row.id, state=INTERRUPTED, asked=None, error=error)

    def _count_stored(self, row: JobRow) -> int:
        """The number of stored intermediate results; of a training, the step of its checkpoint."""
        if row.kind == TRAIN:
            return checkpoint_step(training_folder(self._database.path.parent, row.id))
        (found,) = self._database.query(
            """SELECT (SELECT count(*) FROM artefacts WHERE job = :id)
                + (SELECT count(*) FROM parts WHERE job = :id) AS number""",
            {"id": row.id},
        )
        return found["number"]

    def _next(self, job_id: str | None, suits: Callable[[JobRow], bool] | None) -> JobRow | None:
        if job_id is not None:
            row = self._table.require(job_id)
            return row if row.state == QUEUED else None
        rows = self._table.where(f"""
            state = '{QUEUED}' AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'queue_paused')
            ORDER BY priority DESC, position LIMIT {-1 if suits else 1}""")
        return next((row for row in rows if suits is None or suits(row)), None)
