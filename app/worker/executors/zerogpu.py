"""A device that is only lent: ZeroGPU gives one to a function, in a process of its own, on a visitor's quota.

That process carries out what needs the networks (`app.worker.executors.remote`), and loads the model anew for each task, from files that
the system keeps in memory. Does not know how the lender cuts a task short that is closed before its end.
"""

from __future__ import annotations

import math
import threading
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from app.clip import load_cascade
from app.config import StudioConfig
from app.queue.estimates import Estimates
from app.queue.job import TRAIN, JobRow
from app.storage.database import Database
from app.worker.executors.remote import Executor, Remote, Task, execute
from app.worker.worker import Worker
from lavie.errors import DeviceError, LavieError, RequestError
from lavie.request import Request

if typing.TYPE_CHECKING:
    from lavie.cascade import Cascade

LOADING_SECONDS = 20  # to get the device and load the model
STAGE_SECONDS = 60  # of a stage that has never been timed here
MOST_SECONDS = 300  # a visitor who is not signed in has less in a day
_MARGIN = 1.5  # a task that takes longer than was asked for is killed
_STOP_SECONDS = 30


def seconds_of(task: Task) -> int:
    """What a visitor's quota is asked for."""
    return task.seconds


def lend() -> Executor:
    """`execute` on the lent device. To be called before anything else looks for one. Raises DeviceError."""
    try:
        import spaces
    except ImportError as error:
        raise DeviceError(f"this Space has ZeroGPU, but {error}: add spaces to its requirements.txt") from error
    return spaces.GPU(duration=seconds_of)(execute)


def lent_seconds(estimates: Estimates, request: Request, model: str) -> int:
    """For how long the device is asked for: by what such requests have taken here, else with room to spare."""
    estimate = estimates.of_request(request, model)
    made = estimate.seconds if estimate else STAGE_SECONDS * len(request.stages)
    return math.ceil(min(LOADING_SECONDS + _MARGIN * made, MOST_SECONDS))


class ZeroGpuCascade(Remote):
    """As `lavie.Cascade`, its networks on the lent device."""

    def __init__(
        self,
        config: StudioConfig,
        load: Callable[[StudioConfig], Cascade],
        lent: Executor,
        seconds: Callable[[Request, str], int],
    ):
        self._seconds = seconds
        super().__init__(config, load, lent)

    def _task(self, **values: Any) -> Task:
        task = super()._task(**values)
        asked = self._seconds(task.request, self._config.model) if task.request else LOADING_SECONDS
        return replace(task, seconds=asked)

    def _events(self, task: Task) -> Iterator[Any]:
        try:
            yield from super()._events(task)
        except LavieError:
            raise
        except Exception as error:  # of classes of the lender's: no quota, no free device, time that is up
            said = getattr(error, "message", None) or str(error) or type(error).__name__
            raise DeviceError(
                f"the device was not lent for {task.seconds} s, or taken back ({said}): what is finished is kept; sign "
                "in or wait and try again, or duplicate this Space and give it a device of its own"
            ) from error


class ZeroGpuWorker(Worker):
    """A worker without a thread: a job is made in the event of the visitor who asked for it, on their quota."""

    def __init__(
        self,
        config: StudioConfig,
        database: Database,
        load: Callable[[StudioConfig], Cascade] = load_cascade,
    ):
        lent, estimates, self._one = lend(), Estimates(database, config), threading.Lock()

        def seconds(request: Request, model: str) -> int:
            return lent_seconds(estimates, request, model)

        super().__init__(config, database, lambda config: ZeroGpuCascade(config, load, lent, seconds))

    def start(self) -> None:
        """Nothing: nobody is there yet on whose quota a job could be made."""

    def warm(self, name: str) -> None:
        """Nothing, for the same reason."""

    def run_job(self, job_id: str) -> None:
        with self._one:
            super().run_job(job_id)

    def stop(self) -> bool:
        super().stop()
        stopped = self._one.acquire(timeout=_STOP_SECONDS)
        if stopped:
            self._one.release()
        return stopped

    def _make(self, row: JobRow) -> None:
        kind = "a training" if row.kind == TRAIN else "a long video" if row.job.long else None
        kind = kind or ("a video with adapters" if row.job.adapters else None)
        if kind:
            raise RequestError(
                f"{kind} takes longer than ZeroGPU lends its device: duplicate this Space with a device of its own, or "
                "run the studio at home"
            )
        super()._make(row)
