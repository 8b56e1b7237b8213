"""Jobs to fill a queue with, and what a test asks of it."""

from app.queue.queue import JobQueue
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, RUNNING
from app.recipes.recipe import Job
from app.storage.database import Database
from lavie.request import Request


def job(prompt: str = "a red star") -> Job:
    return Job(Request(prompt, seed=7), "some/folder")


def fill(jobs: JobQueue, names: str, **options) -> None:
    for name in names.split():
        jobs.add(job(name), job_id=name, **options)


def line(jobs: JobQueue) -> str:
    return " ".join(row.id for row in jobs.line())


def bring(jobs: JobQueue, job_id: str, state: str) -> None:
    """A queued job to a state, by the ways that there are."""
    work = WorkerQueue(jobs._database)
    if state in (RUNNING, DONE, FAILED, INTERRUPTED):
        assert work.take(job_id).id == job_id
    if state in (DONE, FAILED, INTERRUPTED, PAUSED, CANCELLED):
        {
            DONE: lambda: work.finish(job_id),
            FAILED: lambda: work.fail(job_id, "it broke"),
            INTERRUPTED: lambda: work.recover("ask"),
            PAUSED: lambda: jobs.pause(job_id),
            CANCELLED: lambda: jobs.cancel(job_id),
        }[state]()
    assert jobs.get(job_id).state == state


def store(database: Database, job_id: str, stage: str) -> None:
    """As if the latents of a stage had been kept."""
    with database.write() as connection:
        connection.execute("INSERT INTO artefacts VALUES (?, ?, 'a.x', 1, 'ab', 'now')", [job_id, stage])


def store_part(database: Database, job_id: str, number: int) -> None:
    """As if a segment of a long video had been kept."""
    with database.write() as connection:
        row = {"job": job_id, "key": f"key {number}", "stage": "base", "number": number, "path": "a.x", "frames": 1}
        connection["parts"].insert({**row, "bytes": 1, "file_hash": "ab", "facts": "{}", "created": "now"})
