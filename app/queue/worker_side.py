"""The worker's side of the queue: what it takes, tells and ends, and what a kill left behind. Knows no thread."""

from __future__ import annotations

import json
from collections.abc import Callable

from app.config import RECOVERIES
from app.queue.job import (
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
from app.queue.table import FRESH, JobTable, storable
from app.storage.database import Database, now
from app.storage.training_folder import checkpoint_step, training_folder
from lavie.errors import RequestError


class WorkerQueue:
    """What a worker may do with the queue: several may, in any number of processes."""

    def __init__(self, database: Database):
        self._database = database
        self._table = JobTable(database)

    def take(self, job_id: str | None = None, suits: Callable[[JobRow], bool] | None = None) -> JobRow | None:
        """Start the next queued job, whoever else asks at the same time; None if there is none or the queue is paused.

        job_id: start this one, wherever it stands and even if the queue is paused; None if it is not queued.
        suits: start the next one of which this is true; others are left to other workers.
        """
        if self._next(job_id, suits) is None:
            return None  # the usual answer costs no writer's turn
        with self._database.write():
            while (found := self._next(job_id, suits)) is not None:
                again = {"state": RUNNING, "attempts": found.attempts + 1, "started": now(), "error": None}
                self._table.set(found.id, **again, **FRESH)
                try:
                    _ = found.task
                    return self._table.known(found.id)
                except RequestError as error:  # not for the worker to stumble over: the others wait
                    self.fail(found.id, str(error))
        return None

    def resolved(self, job_id: str, recipe: str) -> None:
        """Keep a running job's recipe, JSON: before the first step. It stays through interruptions and new attempts."""
        self._table.set_running(job_id, "resolved", recipe=recipe)

    def progress(self, job_id: str, stage: str, step: int, steps: int, part: int = 0, parts: int = 0) -> None:
        """Note where a running job is. part, parts: of a long video, see `JobRow`."""
        where = {"stage": stage, "step": step, "steps": steps, "part": part, "parts": parts}
        self._table.set_running(job_id, "continued", **where)

    def notice(self, job_id: str, text: str) -> None:
        """Add what the person should know of a running job; once, however often it is started."""
        with self._database.write():
            notices = self._table.allowed(job_id, (RUNNING,), "continued").notices
            if (text := storable(text)) not in notices:
                self._table.set(job_id, notices=json.dumps([*notices, text], ensure_ascii=False))

    def asked(self, job_id: str) -> str | None:
        """`cancel`, `pause` or `keep` if that was asked of the running job."""
        return self._table.known(job_id).asked

    def stop_handled(self, job_id: str) -> None:
        """A running job does what it was asked to, and goes on."""
        self._table.set_running(job_id, "continued", asked=None)

    def finish(self, job_id: str, result: str | None = None) -> None:
        """A running job is done. result: JSON, where there is more to say than a clip."""
        self._table.set_running(job_id, "finished", state=DONE, asked=None, result=result, finished=now())

    def fail(self, job_id: str, error: str) -> None:
        """A running job ended with an error, in one line."""
        self._table.set_running(job_id, "failed", state=FAILED, asked=None, error=storable(error), finished=now())

    def cancelled(self, job_id: str) -> None:
        """A running job has stopped because it was asked to."""
        self._table.set_running(job_id, "cancelled", state=CANCELLED, asked=None, finished=now())

    def paused(self, job_id: str) -> None:
        """A running job has stopped and goes on when it is resumed."""
        self._table.set_running(job_id, "paused", state=PAUSED, asked=None)

    def release(self, job_id: str) -> None:
        """The worker ends before the running job does: it is the next one again."""
        with self._database.write():
            self._table.set_running(job_id, "released", state=QUEUED, asked=None, kept=None)
            self._table.to_front(job_id)

    def lost(self, job_id: str, policy: str) -> None:
        """The process that a running job's networks were in is gone. policy: as in `recover`."""
        with self._database.write():
            self._interrupt(self._table.allowed(job_id, (RUNNING,), "lost"), policy, "its device was lost")

    def recover(self, policy: str, job_id: str | None = None) -> list[str]:
        """Put in order what a kill left running; the ids. Only the owner of the data folder may call it, at its start.

        job_id: this job alone, of which its worker knows that nobody works on it, whatever else is running.
        policy: with `resume` a job is the next one again, unless it was so before and has stored nothing since: what
        killed it would do so again. Else, and with `ask` and `never`, it stays interrupted until a person decides.
        A job that had been asked to stop has now stopped.
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
            (self.cancelled if row.asked == CANCEL else self.paused)(row.id)
            return
        kept = self._kept(row)
        at = f"at {row.stage}, step {row.step} of {row.steps}" if row.stage else "before its first step"
        error = f"{what} {at}"
        if policy == RESUME and (row.kept is None or kept > row.kept):
            self._table.set(row.id, state=QUEUED, asked=None, error=error, kept=kept)
            self._table.to_front(row.id)
            return
        if policy == RESUME:
            error += ", for the second time with nothing new stored: go on with it by hand"
        self._table.set(row.id, state=INTERRUPTED, asked=None, error=error)

    def _kept(self, row: JobRow) -> int:
        """How many results on the way are stored; of a training, how many steps."""
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
            row = self._table.known(job_id)
            return row if row.state == QUEUED else None
        rows = self._table.where(f"""
            state = '{QUEUED}' AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'queue_paused')
            ORDER BY priority DESC, position LIMIT {-1 if suits else 1}""")
        return next((row for row in rows if suits is None or suits(row)), None)
