"""Jobs of clients who wait for them: queued, watched to their end, told how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from app.gallery.values import check_id
from app.queue.job import CANCELLED, FAILED, INTERRUPTED
from app.queue.status import JobStatus
from app.studio import Studio
from lavie.errors import RequestError

MOST_WAITING = 24  # clients at once; gradio works on 40 events, so that others are answered however many wait
MOST_SECONDS = 3600.0  # of waiting: gradio does not tell whether a client is still there
LOOK_SECONDS = 0.25  # between two looks at a job that is waited for


class WaitedQueue:
    """The studio's queue for clients who may wait. Raises LavieError with one line for the client."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self.waiting = 0  # clients; only changed in the server's event loop

    def job(self, job_id: str) -> JobStatus:
        snapshot = self._studio.job(check_id(job_id))
        if snapshot is None:
            raise RequestError(f"no job has the id {job_id}")
        return snapshot

    async def made(self, submit: Callable[[], str], wait: bool) -> JobStatus:
        """Queue a job; how it stands at its end or, where nobody waits, now. It goes on if its client leaves."""
        from starlette.concurrency import run_in_threadpool

        lent = self._studio.config.zero_gpu
        if lent and not wait:
            raise RequestError("the device is lent to a call for as long as it waits: ask with wait=true")
        with self._place() if wait else contextlib.nullcontext():
            job_id = await run_in_threadpool(submit)
            if lent:
                await run_in_threadpool(self._studio.drain)
            job, end = await run_in_threadpool(self.job, job_id), time.monotonic() + MOST_SECONDS
            while wait and job.open and job.state != INTERRUPTED:
                if time.monotonic() > end:
                    raise RequestError(f"the job {job_id} takes long: it goes on, ask /job for it")
                await asyncio.sleep(LOOK_SECONDS)
                job = await run_in_threadpool(self.job, job_id)
        if wait:
            _check_made(job)
        return job

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self.waiting >= MOST_WAITING:
            raise RequestError(f"{MOST_WAITING} clients wait for videos already: ask with wait=false, then with /job")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


def _check_made(job: JobStatus) -> None:
    row = job.row
    if row.state == FAILED:
        raise RequestError(row.error)
    if row.state == CANCELLED:
        raise RequestError(f"the job {row.id} was cancelled")
    if row.state == INTERRUPTED:
        raise RequestError(f"the job {row.id} was interrupted: {row.error}")
