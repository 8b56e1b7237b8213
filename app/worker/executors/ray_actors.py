"""A device and its process: a Ray actor that is started on demand, and again when it was lost.

Events are fetched one by one, so that an abandoned process does nothing. Values are pickled here, since Ray's own
serialization gives read-only arrays.
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

from app.config import StudioConfig
from app.worker.executors.remote import Failed, Task, execute
from app.worker.job_run import DeviceLost
from lavie.errors import DeviceError

if typing.TYPE_CHECKING:
    from lavie.cascade import Cascade

_ANSWER_SECONDS = 0.25  # to wait for a starting process before looking whether to stop
_AGAIN_SECONDS = 5.0  # between two starts of a process that fails to start

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
        task = pickle.loads(task)
        self._events = execute(replace(task, load=partial(self._cascade, task.load)))

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

    Attributes:
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

    def execute(self, task: Task) -> Iterator[Any]:
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
