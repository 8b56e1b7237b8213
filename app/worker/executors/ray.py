"""Several devices at once, of this machine or of many, by Ray: one actor a device, and for each a worker here.

The head, this process, keeps queue, database and files; to an actor go a request, latents to go on from and what
adapters change, and events come back (`app.worker.executors.remote`). A lost actor's job goes back to the front of the line and on from
its last stored stage, on whichever device is free. Long videos and trainings, whose parts pass through the database,
are made by one more worker on the head's own device.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType

from app.clip import load_cascade
from app.config import StudioConfig
from app.queue.job import TRAIN, JobRow
from app.queue.queue import JobQueue
from app.storage.database import Database
from app.worker.executors.ray_actors import DeviceLost, Place, connect
from app.worker.executors.remote import Remote
from app.worker.models import Models
from app.worker.running import StopRequested
from app.worker.worker import Worker
from lavie.errors import DeviceError, RequestError

if typing.TYPE_CHECKING:
    import numpy as np

    from lavie.cascade import Cascade

_PATIENCE = 120.0  # seconds until a command that needs a device gives up; it may have to be started first


def stays_here(row: JobRow) -> bool:
    """Whether a job is made on the head's own device."""
    try:
        return row.kind == TRAIN or row.job.long is not None
    except RequestError:
        return True  # whoever takes it says what is wrong with it


def _goes_out(row: JobRow) -> bool:
    return not stays_here(row)


class DeviceWorker(Worker):
    """Makes single clips, its networks in the process of `place`."""

    def __init__(
        self, config: StudioConfig, database: Database, load: Callable[[StudioConfig], Cascade], place: Place, on: str
    ):
        """on: the device, as that process calls it."""

        def remote(named: StudioConfig) -> Remote:
            # What is nobody's business there is left out; a folder is looked for where that process was started.
            there = replace(named, device=on, data=named.data.absolute(), auth=None, snapshots=None, workers="local")
            return Remote(there, load, place.execute)

        super().__init__(config, database, remote, suits=_goes_out)
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
        while not self._ready():
            if time.monotonic() > end or self._stopping.is_set():
                raise DeviceError(
                    f"Ray had no device free within {_PATIENCE:.0f} s, the job {job_id} waits: `ray status` shows what "
                    "there is"
                )
            self._stopping.wait(0.1)
        super().run_job(job_id)

    def _ready(self) -> bool:
        if not self._place.ready():
            return False
        if self._place.starts != self._starts:  # another process, maybe on another machine: it has to say what it is
            self._starts = self._place.starts
            if (name := self.models.release()) is not None:
                self.models.want(name)
        return True

    def _make(self, row: JobRow) -> None:
        try:
            super()._make(row)
        except DeviceLost as error:
            if self._stopping.is_set():
                raise StopRequested(None) from error
            self._jobs.notice(row.id, f"{error}: what was finished is kept")
            self._jobs.lost(row.id, self.config.recovery)


class RayWorkers:
    """As `app.worker.executors.Workers`: as many workers as there are devices, and one for what stays here."""

    def __init__(
        self,
        config: StudioConfig,
        database: Database,
        load: Callable[[StudioConfig], Cascade] = load_cascade,
    ):
        """Raises DeviceError where Ray is not installed, or its cluster cannot be reached."""
        self._jobs, self._here = JobQueue(database), Worker(config, database, load, suits=stays_here)
        self._ray, self._ours = connect(config.devices or 1)
        gpus = _gpus(self._ray, config.device)
        options = {"num_cpus": 1, "num_gpus": min(gpus, 1), "scheduling_strategy": "SPREAD", "max_restarts": 0}
        on = "cuda" if gpus else "cpu" if config.device == "auto" else config.device
        self._devices = [
            DeviceWorker(config, database, load, Place(self._ray, options), on)
            for _ in range(config.devices or gpus or 1)
        ]

    @property
    def models(self) -> Models:
        """The head's own: it reads prompts, and knows what long videos are made with."""
        return self._here.models

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
        row = self._jobs.get(job_id)
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
