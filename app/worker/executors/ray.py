"""Several devices at once, of this machine or of many, by Ray: one actor a device, and for each actor a worker here.

This process, the head, keeps queue, database and files. An actor gets a request, latents to go on from and the deltas
of adapters, and sends events back (`app.worker.executors.remote`). The job of a lost actor returns to the front of the
queue. Long videos and trainings, whose parts pass through the database, run on the head's own device.
"""

from __future__ import annotations

import time
import typing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType

from app.config import StudioConfig
from app.models.loaded import Models
from app.recipes.job_row import TRAIN, JobRow
from app.worker.executors.ray_actors import Place, connect
from app.worker.executors.remote import Remote, adapt_remote
from app.worker.worker import Worker
from app.workspace import Workspace
from lavie.errors import DeviceError, RequestError

if typing.TYPE_CHECKING:
    import numpy as np

_PATIENCE = 120.0  # seconds until a command that needs a device gives up; it may have to be started first


def stays_here(row: JobRow) -> bool:
    """Whether a job runs on the head's own device."""
    try:
        return row.kind == TRAIN or row.job.long is not None
    except RequestError:
        return True  # the worker that takes it reports what is wrong


def _goes_out(row: JobRow) -> bool:
    return not stays_here(row)


class DeviceWorker(Worker):
    """Makes single clips, its networks in the process of `place`."""

    def __init__(self, workspace: Workspace, place: Place, device: str):
        """device: as that process calls it."""

        def load(config: StudioConfig) -> Remote:
            # Without what that process need not know; a folder is looked for where it was started.
            there = {"device": device, "data": config.data.absolute(), "auth": None, "snapshots": None}
            return Remote(replace(config, **there, workers="local"), workspace.load, place.execute)

        super().__init__(workspace, Models(workspace.config, load, adapt_remote), suits=_goes_out)
        self._place, self._starts = place, 0

    def stop(self) -> bool:
        self._stopping.set()
        if self._taken is None:  # a model that is being loaded is not waited for
            self._place.end()
        stopped = super().stop()
        self._place.end()  # and with it a step that goes on for longer
        return stopped or super().stop()

    def run_job(self, job_id: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if time.monotonic() > end or self._stopping.is_set():
                raise DeviceError(
                    f"Ray had no device free within {_PATIENCE:.0f} s, the job {job_id} waits: `ray status` shows what "
                    "there is"
                )
            self._stopping.wait(0.1)
        super().run_job(job_id)

    def _is_ready(self) -> bool:
        if not self._place.ready():
            return False
        if self._place.starts != self._starts:  # another process, maybe on another machine: its provenance may differ
            self._starts = self._place.starts
            if (name := self._models.release()) is not None:
                self._models.want(name)
        return True


class RayWorkers:
    """One worker for each device, and one for the jobs that stay here; see `app.studio.Workers`."""

    def __init__(self, workspace: Workspace):
        """Raises DeviceError where Ray is not installed, or its cluster cannot be reached."""
        config = workspace.config
        self._queue, self._here = workspace.queue, Worker(workspace, suits=stays_here)
        self._ray, self._ours = connect(config.devices or 1)
        gpus = _gpus(self._ray, config.device)
        options = {"num_cpus": 1, "num_gpus": min(gpus, 1), "scheduling_strategy": "SPREAD", "max_restarts": 0}
        device = "cuda" if gpus else "cpu" if config.device == "auto" else config.device
        self._devices = [
            DeviceWorker(workspace, Place(self._ray, options), device) for _ in range(config.devices or gpus or 1)
        ]

    def start(self) -> None:
        for worker in self._all:
            worker.start()

    def stop(self) -> bool:
        with ThreadPoolExecutor(len(self._all), "studio closing") as closing:
            stopped = all(list(closing.map(lambda worker: worker.stop(), self._all)))
        if self._ours and stopped:
            self._ray.shutdown()
        return stopped

    def warm(self, name: str) -> None:
        for worker in self._all:
            worker.warm(name)

    def wake(self) -> None:
        for worker in self._all:
            worker.wake()

    def preview(self, job_id: str) -> np.ndarray | None:
        previews = (worker.preview(job_id) for worker in self._all)
        return next((preview for preview in previews if preview is not None), None)

    def run_job(self, job_id: str) -> None:
        row = self._queue.get(job_id)
        worker = self._here if row is None or stays_here(row) else self._devices[0]
        worker.run_job(job_id)

    @property
    def _all(self) -> list[Worker]:
        return [*self._devices, self._here]


def _gpus(ray: ModuleType, device: str) -> int:
    """How many the actors may have: none where the settings name another device than CUDA's."""
    if device == "auto":
        return int(ray.cluster_resources().get("GPU", 0))
    return max(int(ray.cluster_resources().get("GPU", 0)), 1) if device.startswith("cuda") else 0
