"""A device that is only lent: ZeroGPU gives one to a function, in a process of its own, on a visitor's quota.

What needs the networks goes to that process as a `Task` and comes back as events; queue, database and files stay here.
Nothing but picklable values passes between the two: latents go as arrays. Each task loads the model anew, from files
that the system keeps in memory. Does not know how the lender cuts a task short that is closed before its end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.clip import load_cascade
from app.config import StudioConfig
from app.database import Database
from app.estimates import Estimates
from app.job_row import TRAIN, JobRow
from app.worker import Worker
from lavie.errors import DeviceError, LavieError, RequestError
from lavie.events import Event, StageDone
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lavie.cascade import Cascade
    from lavie.plans import Rung
    from lavie.video import Video

LOADING_SECONDS = 20  # to get the device and load the model
STAGE_SECONDS = 60  # of a stage that has never been timed here
MOST_SECONDS = 300  # a visitor who is not signed in has less in a day
_MARGIN = 1.5  # a task that takes longer than was asked for is killed
_STOP_SECONDS = 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What the device is lent for. request: what to make, with every value decided; None: only to say what the device
    is, as `Cascade.provenance`. done: stage → float32 B C F H W. seconds: at most; more ends it."""

    config: StudioConfig
    load: Callable[[StudioConfig], Cascade]
    request: Request | None = None
    done: Mapping[str, np.ndarray] = field(default_factory=dict)
    memory: Mapping[str, Rung] | None = None
    seconds: int = LOADING_SECONDS


@dataclass(frozen=True)
class Failed:
    """What went wrong in the other process: errors of ours do not all survive the way."""

    message: str


Lend = Callable[[Task], Iterator[Any]]


def carry_out(task: Task) -> Iterator[Any]:
    """In the process that has the device: the events of `Cascade.generate`, or what the device is. Imports torch."""
    try:
        cascade = task.load(task.config)
        if task.request is None:
            yield cascade.provenance()
            return
        import torch

        done = {stage: torch.from_numpy(latents) for stage, latents in task.done.items()}
        for event in cascade.generate(task.request, done=done, memory=task.memory):
            # A tensor would be shared with a process that is gone before it is looked at.
            yield replace(event, latents=event.latents.numpy()) if isinstance(event, StageDone) else event
    except LavieError as error:
        yield Failed(str(error))
    except Exception as error:
        _log.exception("the task on the lent device failed")
        reason = f"{type(error).__name__}: {error}"
        yield Failed(f"something went wrong inside ({reason}); the log of the Space shows where")


def seconds_of(task: Task) -> int:
    """What a visitor's quota is asked for."""
    return task.seconds


def lend() -> Lend:
    """`carry_out` on the lent device. To be called before anything else looks for one. Raises DeviceError."""
    try:
        import spaces
    except ImportError as error:
        raise DeviceError(f"this Space has ZeroGPU, but {error}: add spaces to its requirements.txt") from error
    return spaces.GPU(duration=seconds_of)(carry_out)


def lent_seconds(estimates: Estimates, request: Request, model: str) -> int:
    """For how long the device is asked for: by what such requests have taken here, else with room to spare."""
    estimate = estimates.of_request(request, model)
    made = estimate.seconds if estimate else STAGE_SECONDS * len(request.stages)
    return math.ceil(min(LOADING_SECONDS + _MARGIN * made, MOST_SECONDS))


class Lent:
    """As `lavie.Cascade`, its networks on the lent device. What needs none of them is answered here, on the CPU."""

    def __init__(
        self,
        config: StudioConfig,
        load: Callable[[StudioConfig], Cascade],
        lent: Lend,
        seconds: Callable[[Request, str], int],
    ):
        self._config, self._load, self._lent, self._seconds = config, load, lent, seconds
        self._here = load(replace(config, device="cpu"))
        (self._provenance,) = self._events(Task(config, load))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here, name)

    def provenance(self) -> dict:
        """As `Cascade.provenance`, of the lent device."""
        return self._provenance

    def runs_on(self) -> dict[str, Any]:
        """As `Cascade.runs_on`, of the lent device."""
        return {name: self._provenance[name] for name in self._here.runs_on() if name in self._provenance}

    def generate(
        self,
        request: Request,
        source: Video | None = None,
        done: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, Rung] | None = None,
    ) -> Iterator[Event]:
        """As `Cascade.generate`, without a source. Raises DeviceError where the device is not lent, or taken back."""
        if source is not None:
            raise RequestError("a video of your own cannot be worked on where the device is lent: use another machine")
        import torch

        request = self.resolve(request)
        arrays = {stage: latents.numpy() for stage, latents in (done or {}).items()}
        seconds = self._seconds(request, self._config.model)
        # `closing` gives the device back on every way out.
        with contextlib.closing(self._events(Task(self._config, self._load, request, arrays, memory, seconds))) as made:
            for event in made:
                latents = torch.from_numpy(event.latents) if isinstance(event, StageDone) else None
                yield event if latents is None else replace(event, latents=latents)

    def _events(self, task: Task) -> Iterator[Any]:
        try:
            with contextlib.closing(self._lent(task)) as events:
                for event in events:
                    if isinstance(event, Failed):
                        raise LavieError(event.message)
                    yield event
        except LavieError:
            raise
        except Exception as error:  # of classes of the lender's: no quota, no free device, time that is up
            said = getattr(error, "message", None) or str(error) or type(error).__name__
            raise DeviceError(
                f"the device was not lent for {task.seconds} s, or taken back ({said}): what is finished is kept; sign "
                "in or wait and try again, or duplicate this Space and give it a device of its own"
            ) from error


class LentWorker(Worker):
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

        super().__init__(config, database, lambda config: Lent(config, load, lent, seconds))

    def start(self) -> None:
        """Nothing: nobody is there yet on whose quota a job could be made."""

    def warm(self, name: str) -> None:
        """Nothing, for the same reason."""

    def work_on(self, job_id: str) -> None:
        with self._one:
            super().work_on(job_id)

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
