"""Several devices at once, of this machine or of many, by Ray: one actor a device, and for each actor a worker here.

This process, the head, keeps queue, database and files. An actor gets a request, latents to go on from and the deltas
of adapters, and sends events back (`app.worker.executors.remote`), one by one, so that an abandoned process does
nothing. Values are pickled here, since Ray's own serialization gives read-only arrays. The job of a lost actor returns
to the front of the queue. Long videos and trainings, whose parts pass through the database, run on the head's own
device.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
import time
import typing
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

from app.config import StudioConfig
from app.models.loaded import Models
from app.recipes.job_row import TRAIN, JobRow
from app.worker.executors.remote import Failed, Remote, Task, execute
from app.worker.job_run import DeviceLost
from app.worker.worker import Worker
from app.workspace import Workspace
from lavie.errors import DeviceError, RequestError

if typing.TYPE_CHECKING:
    import numpy as np

    from lavie.cascade import Cascade

_ANSWER_SECONDS = 0.25  # to wait for a starting process before looking whether to stop
_AGAIN_SECONDS = 5.0  # between two starts of a process that fails to start
_PATIENCE = 120.0  # seconds until a command that needs a device gives up; it may have to be started first

_log = logging.getLogger(__name__)


class OnDevice:
    """The networks of one device, in the actor's process. One model is loaded at a time, and stays loaded."""

    def __init__(self):
        self._loaded: tuple[StudioConfig, Cascade] | None = None
        self._events: Iterator[Any] = iter(())

    def process(self) -> int:
        """The id of the process."""
        return os.getpid()

    def begin(self, task: bytes) -> None:
        """Begin a task, giving up the one under way."""
        sent: Task = pickle.loads(task)
        self._events = execute(replace(sent, load=partial(self._cascade, sent.load)))

    def next(self) -> bytes | None:
        """The next event; None after the last."""
        for event in self._events:
            return pickle.dumps(event)
        return None

    def give_up(self) -> None:
        """Give up the task under way."""
        self._events = iter(())  # drops the generator, which closes it

    def _cascade(self, load: Callable[[StudioConfig], Cascade], config: StudioConfig) -> Cascade:
        if self._loaded is None or self._loaded[0] != config:
            self._loaded = None  # before the next is loaded: memory is for one
            self._loaded = (config, load(config))
        return self._loaded[1]


class Place:
    """One device, as the head sees it. Belongs to one thread; `end` may be called from any.

    starts: the number of processes that were started for it.
    """

    def __init__(self, ray: ModuleType, options: dict[str, Any]):
        """options: the resources of the actor."""
        self._ray, self._options = ray, options
        self._actor: Any = None
        self._asked: Any = None  # the pending answer whether it runs
        self._not_before = 0.0
        self.starts = 0
        self._process: int | None = None

    def ready(self) -> bool:
        """Whether its process runs. If not, one starts as soon as the cluster has such a device free."""
        if self._actor is None and not self._start():
            return False
        asked = self._asked = self._asked or self._actor.process.remote()
        try:
            if not self._ray.wait([asked], timeout=_ANSWER_SECONDS)[0]:
                return False
            self._process, self._asked = self._ray.get(asked), None
        except self._ray.exceptions.RayError as error:
            _log.warning("the process of a device has ended or does not start: %s", error)
            self._not_before = 0.0 if self._process else time.monotonic() + _AGAIN_SECONDS
            self.end()
            return False
        return True

    def execute(self, task: Task) -> Generator[Any, None, None]:
        """As `remote.execute`, in that process. Raises DeviceLost if the process ends before the task."""
        self._ask("begin", pickle.dumps(task))
        try:
            while (sent := self._ask("next")) is not None:
                event = pickle.loads(sent)
                if isinstance(event, Failed) and event.trace:
                    self.end()  # the device may be unusable after such an error
                yield event
        finally:
            if self._actor is not None:
                with contextlib.suppress(DeviceError):
                    self._ask("give_up")

    def end(self) -> None:
        """Kill its process."""
        actor, self._actor, self._asked, self._process = self._actor, None, None, None
        if actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def _start(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        self._actor = self._ray.remote(OnDevice).options(**self._options).remote()
        self.starts += 1
        return True

    def _ask(self, what: str, *values: Any) -> Any:
        try:
            if (actor := self._actor) is None:
                raise DeviceLost("the process of a device has been ended")
            return self._ray.get(getattr(actor, what).remote(*values))
        except self._ray.exceptions.RayTaskError as error:  # not of the task, whose errors are events
            self.end()
            raise DeviceError(
                f"a device's process cannot take the task ({type(error.cause).__name__}: {error.cause}): every machine "
                "of the cluster needs the same version of this program and of its libraries"
            ) from error
        except self._ray.exceptions.RayError as error:
            self.end()
            raise DeviceLost("the process of a device has ended in the middle of its work") from error


def connect(devices: int) -> tuple[ModuleType, bool]:
    """Connect Ray to the cluster of `RAY_ADDRESS`, else to a new one on this machine; whether it has to be shut down.

    devices: the number of processes that a new cluster has room for, however many CPUs there are. Raises DeviceError if
    Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
    except ImportError as error:
        raise DeviceError(f"workers is ray, but {error}: `pip install ray`, or choose --workers local") from error
    if ray.is_initialized():
        return ray, False
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    local = {"address": "local", "num_cpus": max(devices, os.cpu_count() or 1), **quiet}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**({"log_to_driver": False} if os.environ.get("RAY_ADDRESS") else local))
    except Exception as error:  # of many classes: no such cluster, another version of Ray or Python, no room
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"Ray cannot be reached ({said}): look at RAY_ADDRESS and at `ray status`") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray replaces it
    return ray, True


def stays_here(row: JobRow) -> bool:
    """Whether a job runs on the head's own device."""
    try:
        return row.kind == TRAIN or row.job.long is not None
    except RequestError:
        return True  # the worker that takes it reports what is wrong


class DeviceWorker(Worker):
    """Makes single clips, its networks in the process of `place`."""

    def __init__(self, workspace: Workspace, place: Place, device: str):
        """device: as that process calls it."""

        def load(config: StudioConfig) -> Remote:
            # Without what that process need not know; a folder is looked for where it was started.
            data = config.data.absolute()
            there = replace(config, device=device, data=data, auth=None, snapshots=None, workers="local")
            return Remote(there, workspace.load, place.execute)

        models = Models(workspace.config, load, Remote.with_adapters)
        super().__init__(workspace, models, suits=lambda row: not stays_here(row))
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
