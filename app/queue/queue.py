"""The queue for a person: adds, orders, edits, pauses and cancels jobs. `app.queue.worker_side` is the worker's side.

Every change is checked against the job's state, in a transaction of its own or in the caller's `Database.write()`.
"""

from __future__ import annotations

from collections.abc import Callable

from app.queue.table import FRESH, JobTable
from app.recipes.job_row import (
    CANCEL,
    CANCELLED,
    CLOSED,
    FAILED,
    INTERRUPTED,
    KEEP,
    OPEN,
    PAUSE,
    PAUSED,
    QUEUED,
    RENDER,
    RUNNING,
    TRAIN,
    WAITING,
    JobRow,
)
from app.recipes.recipe import Job, Recipe
from app.recipes.training import Training
from app.sharing import note_owner, visitor
from app.storage.database import Database, new_id, now, sql_list, storable
from extensions.long_video.plan import CODENOISE
from lavie.errors import RequestError
from lavie.request import STAGES

MAX_PRIORITY = 1000


class JobQueue:
    """The jobs of a data folder, for a person. All methods may be called from any thread and any process.

    Raises RequestError for an id that is not known and for what a job's state does not allow; then nothing changed.
    """

    def __init__(self, database: Database, on_change: Callable[[], None] = lambda: None):
        """on_change: is called when a job was queued or may go on."""
        self._database, self._on_change = database, on_change
        self._table = JobTable(database)

    def add(
        self,
        job: Job | Training,
        *,
        job_id: str | None = None,
        kind: str = RENDER,
        parent: str | None = None,
        output: str | None = None,
        front: bool = False,
        priority: int = 0,
    ) -> str:
        """Queue a job after those of its priority, or before all that wait; its id. A training's kind is `train`."""
        job_id = job_id or new_id()
        _check_texts(job_id=job_id, model=job.model, parent=parent, output=output)
        values = {"id": job_id, "kind": kind, "state": QUEUED, "priority": _check_priority(priority), "created": now()}
        with self._database.write() as connection:
            if visitor().name:
                visitor().admit(job, self.line())
            if self.get(job_id) is not None:
                raise RequestError(f"there is a job {job_id!r} already: give another id, or none to have one made")
            values |= {"job": job.to_json(), "parent": parent, "output": output, "position": self._table.end(priority)}
            connection.table("jobs").insert(values)
            note_owner(connection, job_id)
            if front:
                self._table.to_front(job_id)
        self._database.after_commit(self._on_change)
        return job_id

    def get(self, job_id: str) -> JobRow | None:
        """The row of a job; None if the id is not known."""
        return self._table.get(job_id)

    def require(self, job_id: str) -> JobRow:
        """The row of a job. Raises RequestError if the id is not known."""
        return self._table.require(job_id)

    def line(self, limit: int = -1) -> list[JobRow]:
        """The open jobs in order: those that run, then `limit` that wait [all]."""
        # A single statement, so that a job that is taken meanwhile is neither missed nor listed twice.
        return self._table.where(
            f"""pk IN (SELECT pk FROM jobs WHERE state = '{RUNNING}') OR pk IN (
                SELECT pk FROM {self._table.own} WHERE state IN ({sql_list(WAITING)})
                ORDER BY priority DESC, position LIMIT ?)
            ORDER BY state = '{RUNNING}' DESC, priority DESC, position""",
            [limit],
        )

    def recent(self, limit: int, before: JobRow | None = None) -> list[JobRow]:
        """Closed jobs, the last to end first. before: the last job of the previous page."""
        older = "(finished, id) < (?, ?)" if before else "finished IS NOT NULL"
        return self._table.where(
            f"{older} ORDER BY finished DESC, id DESC LIMIT ?",
            [*([before.finished, before.id] if before else []), limit],
        )

    def counts(self) -> dict[str, int]:
        """State → number of jobs, for every state."""
        rows = self._database.query(f"SELECT state, count(*) AS number FROM {self._table.own} GROUP BY state")
        return dict.fromkeys((*OPEN, *CLOSED), 0) | {row["state"]: row["number"] for row in rows}

    def edit(self, job_id: str, job: Job | Callable[[Job], Job]) -> None:
        """Change a queued job, and remove its stored latents.

        job: the new job, or a function that makes it from the old one, within the transaction.
        """
        with self._database.write() as connection:
            row = self._table.require(job_id)
            if row.kind == TRAIN:
                raise RequestError(
                    f"the job {job_id} trains an adapter with the media that were kept for it and cannot be edited: "
                    "cancel it and begin another training"
                )
            if row.kind != RENDER:
                raise RequestError(
                    f"the job {job_id} makes the clip {row.parent} again, as it was, and cannot be edited: "
                    f"`remix {row.parent}` makes another like it"
                )
            self._table.require_state(job_id, (QUEUED,), f"edited; `jobs duplicate {job_id}` queues a copy that can")
            if row.job.long is not None:
                raise RequestError(
                    f"the job {job_id} makes a long video as it was planned and cannot be edited: cancel it, change "
                    "the plan and render that; what is made of it already stays"
                )
            job = job(row.job) if callable(job) else job
            _check_texts(model=job.model)
            if row.job_json == job.to_json():
                return
            connection.execute("DELETE FROM artefacts WHERE job = ?", [job_id])
            self._table.set(job_id, job=job.to_json(), recipe=None, notices="[]", kept=None, **FRESH)

    def duplicate(self, job_id: str) -> str:
        """Queue the same job again; its id. The copy writes to the gallery, even if the first has a path of its own."""
        row = self._table.require(job_id)
        return self.add(row.task, kind=row.kind, parent=row.parent, priority=row.priority)

    def move(self, job_id: str, before: str | None) -> None:
        """Put a waiting job right before another, with its priority; at the very end for None."""
        with self._database.write():
            self._table.require_state(job_id, WAITING, "moved")
            if before is None:
                self._table.to_end(job_id)
            else:
                self._table.require_state(before, WAITING, "waited for")
                self._table.put_before(job_id, before)

    def to_front(self, job_id: str) -> None:
        """Make a waiting job the next."""
        with self._database.write():
            self._table.require_state(job_id, WAITING, "moved")
            self._table.to_front(job_id)

    def set_priority(self, job_id: str, priority: int) -> None:
        """Give a waiting job a priority, a whole number, after others of the same; higher ones run first."""
        with self._database.write():
            self._table.require_state(job_id, WAITING, "moved")
            self._table.set(job_id, priority=_check_priority(priority), position=self._table.end(priority))

    def cancel(self, job_id: str) -> bool:
        """Cancel a waiting job; ask a running one to stop. False if it was closed already."""
        with self._database.write():
            self._table.require(job_id)
            return bool(self._cancel("id = ?", [storable(job_id)]))

    def cancel_others(self, job_id: str) -> int:
        """Cancel all other open jobs; their number."""
        with self._database.write():
            self._table.require(job_id)
            return self._cancel("id <> ?", [job_id])

    def cancel_all(self) -> int:
        """Cancel all open jobs; their number."""
        return self._cancel("TRUE", [])

    def pause(self, job_id: str) -> None:
        """Pause a queued job; ask a running one to pause after its step."""
        with self._database.write():
            row = self._table.require_state(job_id, (QUEUED, RUNNING), "paused")
            if row.asked == CANCEL:
                raise RequestError(f"the job {job_id} is being cancelled: it cannot be paused any more")
            self._table.set(job_id, **({"asked": PAUSE} if row.state == RUNNING else {"state": PAUSED}))

    def keep(self, job_id: str) -> None:
        """Ask a running job to stop and make a clip of its finished stages."""
        with self._database.write():
            row = self._table.require_state(job_id, (RUNNING,), "kept as it is")
            _check_keepable(row)
            if row.asked == CANCEL:
                raise RequestError(f"the job {job_id} is being cancelled: nothing of it can be kept any more")
            self._table.set(job_id, asked=KEEP)

    def resume(self, job_id: str) -> None:
        """Queue a paused or interrupted job at its old place; withdraw a pause that has not happened yet."""
        with self._database.write():
            row = self._table.require(job_id)
            if row.state == RUNNING and row.asked == PAUSE:
                self._table.set(job_id, asked=None)
            else:
                self._table.require_state(job_id, (PAUSED, INTERRUPTED), "resumed")
                self._table.set(job_id, state=QUEUED, kept=None)
        self._database.after_commit(self._on_change)

    def retry(self, job_id: str) -> None:
        """Queue a failed, cancelled or interrupted job again. It goes on from its stored latents."""
        with self._database.write():
            row = self._table.require_state(job_id, (FAILED, CANCELLED, INTERRUPTED), "tried again")
            place = {} if row.state == INTERRUPTED else {"position": self._table.end(row.priority)}
            self._table.set(job_id, state=QUEUED, finished=None, kept=None, **place)
        self._database.after_commit(self._on_change)

    def pause_queue(self) -> None:
        """Start no more jobs, also after a restart. The running one goes on."""
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO settings (name, value) VALUES ('queue_paused', ?)", [now()])

    def resume_queue(self) -> None:
        """Start jobs again."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM settings WHERE name = 'queue_paused'")
        self._database.after_commit(self._on_change)

    @property
    def queue_paused(self) -> bool:
        return bool(self._database.query("SELECT 1 FROM settings WHERE name = 'queue_paused'"))

    def _cancel(self, which: str, values: list) -> int:
        which = f"{which} AND {visitor().own}"
        with self._database.write() as connection:
            asked = connection.execute(
                f"UPDATE jobs SET asked = '{CANCEL}' WHERE state = '{RUNNING}' AND {which}", values
            )
            gone = connection.execute(
                f"UPDATE jobs SET state = '{CANCELLED}', finished = ? WHERE state IN ({sql_list(WAITING)}) AND {which}",
                [now(), *values],
            )
            return asked.rowcount + gone.rowcount


def _check_keepable(row: JobRow) -> None:
    """Raises RequestError if a running job has finished nothing that could be a clip."""
    if row.kind == TRAIN:
        raise RequestError(f"the job {row.id} trains an adapter: cancel it, the files of its last steps stay")
    if row.kind == RENDER and row.stage not in (None, STAGES[0]):
        return
    plan = Recipe.from_json(row.recipe).job.long if row.recipe else None
    if plan is None or row.kind != RENDER:
        raise RequestError(f"the job {row.id} has finished no stage yet: there is nothing to keep, cancel it")
    if plan.strategy == CODENOISE:
        raise RequestError(
            f"the job {row.id} makes its segments all together, by the strategy {CODENOISE!r}: a part of them cannot "
            "be kept; pause it to go on later"
        )
    if row.part < 2:
        raise RequestError(f"the job {row.id} has finished no segment yet: there is nothing to keep, cancel it")


def _check_texts(**texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None and storable(text) != text:
            raise RequestError(f"{name} is {text[:100]!r}, with half a character in it: give it another name")


def _check_priority(priority: int) -> int:
    whole = isinstance(priority, int) and not isinstance(priority, bool)
    if not whole or abs(priority) > MAX_PRIORITY:
        raise RequestError(f"priority is {priority!r}: give a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return priority
