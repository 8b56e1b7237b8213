"""The table of jobs: reads and changes rows, with checks, and keeps the order of the queue.

The order is by priority, then by position, a number between those of the neighbours.
"""

from __future__ import annotations

from typing import Any

from app.recipes.job_row import OPEN, RUNNING, WAITING, JobRow
from app.sharing import visitor
from app.storage.database import Database, sql_list, storable
from lavie.errors import RequestError

FRESH = {"stage": None, "step": 0, "steps": 0, "part": 0, "parts": 0}  # the progress of a job that has not begun


class JobTable:
    """Raises RequestError for an id that is not known, and for changes that a job's state does not allow."""

    def __init__(self, database: Database):
        self._database = database

    @property
    def own(self) -> str:
        """SQL: the current visitor's jobs, as a table."""
        return f"(SELECT * FROM jobs WHERE {visitor().own})" if visitor().name else "jobs"

    def where(self, condition: str, values: list | tuple = ()) -> list[JobRow]:
        """The rows of a condition, which an order may follow."""
        rows = self._database.query(f"SELECT * FROM {self.own} WHERE {condition}", values)
        return [JobRow.from_values(row) for row in rows]

    def get(self, job_id: str) -> JobRow | None:
        """The row of an id; None if it is not known."""
        found = self.where("id = ?", [storable(job_id)])
        return found[0] if found else None

    def require(self, job_id: str) -> JobRow:
        """The row of an id. Raises RequestError if it is not known."""
        row = self.get(job_id)
        if row is None:
            raise RequestError(f"no job has the id {job_id[:100]!r}: `jobs list` shows those that are there")
        return row

    def require_state(self, job_id: str, states: tuple[str, ...], done: str) -> JobRow:
        """The row of a job in one of these states, else RequestError. done: the change, as a participle."""
        row = self.require(job_id)
        if row.state not in states:
            raise RequestError(f"the job {job_id} is {row.state}: only one that is {' or '.join(states)} can be {done}")
        return row

    def set(self, job_id: str, **values: Any) -> None:
        """Change columns of a row."""
        changes = ", ".join(f"{name} = :{name}" for name in values)
        with self._database.write() as connection:
            connection.execute(f"UPDATE jobs SET {changes} WHERE id = :job_id", {**values, "job_id": job_id})

    def set_running(self, job_id: str, done: str, **values: Any) -> None:
        """Change columns of a running job, else RequestError. done: the change, as a participle."""
        with self._database.write():
            self.require_state(job_id, (RUNNING,), done)
            self.set(job_id, **values)

    def to_front(self, job_id: str) -> None:
        """Put a job before all others that wait."""
        if (first := self._other(job_id, "priority DESC, position")) is not None:
            self.put_before(job_id, first)

    def to_end(self, job_id: str) -> None:
        """Put a job behind all others that wait."""
        if (last := self._other(job_id, "priority")) is not None:
            priority, _ = self._place(last)
            self.set(job_id, priority=priority, position=self.end(priority))

    def end(self, priority: int) -> float:
        """The position after all jobs of a priority."""
        condition = f"state IN ({sql_list(OPEN)}) AND priority = ?"
        (row,) = self._database.query(f"SELECT max(position) AS last FROM jobs WHERE {condition}", [priority])
        return (row["last"] or 0.0) + 1.0

    def put_before(self, job_id: str, other_id: str) -> None:
        """Put a job right before another, whose priority it takes."""
        priority, position = self._place(other_id)
        condition = f"state IN ({sql_list(OPEN)}) AND priority = ? AND position < ? AND id <> ?"
        (row,) = self._database.query(
            f"SELECT max(position) AS low FROM jobs WHERE {condition}", [priority, position, job_id]
        )
        low = position - 2.0 if row["low"] is None else row["low"]
        middle = (low + position) / 2
        if low < middle < position:
            self.set(job_id, priority=priority, position=middle)
        else:  # no number is left between the two
            self._renumber(priority)
            self.put_before(job_id, other_id)

    def _place(self, job_id: str) -> tuple[int, float]:
        (row,) = self._database.query("SELECT priority, position FROM jobs WHERE id = ?", [job_id])
        return row["priority"], row["position"]

    def _other(self, job_id: str, order: str) -> str | None:
        """The first of the other jobs that wait, in this order."""
        condition = f"state IN ({sql_list(WAITING)}) AND id <> ?"
        rows = self._database.query(f"SELECT id FROM jobs WHERE {condition} ORDER BY {order} LIMIT 1", [job_id])
        return rows[0]["id"] if rows else None

    def _renumber(self, priority: int) -> None:
        with self._database.write() as connection:
            connection.execute(
                f"""UPDATE jobs SET position = ranked.number FROM (
                    SELECT pk, row_number() OVER (ORDER BY position, pk) AS number FROM jobs
                    WHERE state IN ({sql_list(OPEN)}) AND priority = ?) AS ranked
                WHERE jobs.pk = ranked.pk""",
                [priority],
            )
