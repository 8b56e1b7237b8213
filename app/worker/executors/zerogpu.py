"""ZeroGPU lends a device to one function call, in a process of its own, on a visitor's quota.

That process runs the tasks of `app.worker.executors.remote` and loads the model for each, from files that the system
keeps in memory.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from app.config import StudioConfig
from app.models.loaded import Load, Models
from app.queue.estimates import Estimates
from app.recipes.job_row import TRAIN, JobRow
from app.worker.executors.remote import Executor, Remote, Task, execute
from app.worker.worker import Worker
from app.workspace import Workspace
from lavie.errors import DeviceError, LavieError, RequestError
from lavie.request import Request

LOADING_SECONDS = 20  # to get the device and load the model
STAGE_SECONDS = 60  # of a stage that has never run here
MOST_SECONDS = 300  # visitors who are not signed in have less a day
_MARGIN = 1.5  # a task that exceeds its time is killed
_STOP_SECONDS = 30


def zero_gpu() -> Executor:
    """`execute` on the lent device. Call it before anything else looks for a device. Raises DeviceError."""
    try:
        import spaces
    except ImportError as error:
        raise DeviceError(f"this Space has ZeroGPU, but {error}: add spaces to its requirements.txt") from error
    return spaces.GPU(duration=lambda task: task.seconds)(execute)


def device_seconds(estimates: Estimates, request: Request, model: str) -> int:
    """The device time to ask for: estimated from past requests, else with room to spare."""
    estimate = estimates.of_request(request, model)
    made = estimate.seconds if estimate else STAGE_SECONDS * len(request.stages)
    return math.ceil(min(LOADING_SECONDS + _MARGIN * made, MOST_SECONDS))


class ZeroGpuCascade(Remote):
    """A `lavie.Cascade` whose networks run on the lent device."""

    def __init__(self, config: StudioConfig, load: Load, executor: Executor, estimates: Estimates):
        self._estimates = estimates
        super().__init__(config, load, executor)

    def _task(self, **values: Any) -> Task:
        task = super()._task(**values)
        if task.request is None:
            return replace(task, seconds=LOADING_SECONDS)
        return replace(task, seconds=device_seconds(self._estimates, task.request, self._config.model))

    def _events(self, task: Task) -> Generator[Any, None, None]:
        try:
            yield from super()._events(task)
        except LavieError:
            raise
        except Exception as error:  # of many classes: no quota, no free device, time is up
            said = getattr(error, "message", None) or str(error) or type(error).__name__
            raise DeviceError(
                f"the device was not lent for {task.seconds} s, or taken back ({said}): what is finished is kept; sign "
                "in or wait and try again, or duplicate this Space and give it a device of its own"
            ) from error


class ZeroGpuWorker(Worker):
    """A worker without a thread: a job runs in the event of the visitor who asked for it, on their quota."""

    def __init__(self, workspace: Workspace):
        executor, self._one = zero_gpu(), threading.Lock()

        def load(config: StudioConfig) -> Remote:
            return ZeroGpuCascade(config, workspace.load, executor, workspace.estimates)

        workspace.models = Models(workspace.config, load, Remote.with_adapters)
        super().__init__(workspace)

    def start(self) -> None:
        """Do nothing: there is no visitor yet on whose quota a job could run."""

    def warm(self, name: str) -> None:
        """Do nothing, for the same reason."""

    def run_job(self, job_id: str) -> None:
        with self._one:
            super().run_job(job_id)

    def stop(self) -> bool:
        super().stop()
        stopped = self._one.acquire(timeout=_STOP_SECONDS)
        if stopped:
            self._one.release()
        return stopped

    def _check(self, row: JobRow) -> None:
        kind = "a training" if row.kind == TRAIN else "a long video" if row.job.long else None
        kind = kind or ("a video with adapters" if row.job.adapters else None)
        if kind:
            raise RequestError(
                f"{kind} takes longer than ZeroGPU lends its device: duplicate this Space with a device of its own, or "
                "run the studio at home"
            )
