"""A cascade whose networks run in another process, while queue, database and files stay here.

A `Task` goes there and events come back, all picklable: latents pass as arrays. `zerogpu` and `ray` provide processes.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
import typing
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.config import StudioConfig
from app.models.loaded import adapt_cascade
from extensions.lora.adapter import Adapter
from lavie.errors import LavieError, RequestError
from lavie.events import Event, StageDone
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from extensions.lora.files.read import AdapterDeltas
    from lavie.cascade import Cascade
    from lavie.memory_mode import MemoryMode
    from lavie.video import Video

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Work for the other process.

    Attributes:
        load: gives the cascade for the settings, in that process.
        request: with every value decided; None to get `Cascade.provenance` alone.
        done: stage → latents, float32 B C F H W.
        adapters: active on the networks.
        deltas: SHA-256 of each adapter's file → its changes.
        seconds: on a lent device, the time after which the task is killed.
    """

    config: StudioConfig
    load: Callable[[StudioConfig], Cascade]
    request: Request | None = None
    done: Mapping[str, np.ndarray] = field(default_factory=dict)
    memory: Mapping[str, MemoryMode] | None = None
    adapters: tuple[Adapter, ...] = ()
    deltas: Mapping[str, AdapterDeltas] = field(default_factory=dict)
    seconds: int = 0


@dataclass(frozen=True)
class Failed:
    """An error in the other process, since not all exceptions can be pickled. trace: of unexpected ones, else None."""

    message: str
    trace: str | None = None


Executor = Callable[[Task], Generator[Any, None, None]]  # as `execute`, in another process


def execute(task: Task) -> Generator[Any, None, None]:
    """Run a task in the process that has the device; yields the events of `Cascade.generate`, or the provenance."""
    try:
        cascade = task.load(task.config)
        if task.request is None:
            yield cascade.provenance()
            return
        import torch

        if task.adapters:
            cascade = adapt_cascade(cascade, task.adapters, lambda adapter: task.deltas[adapter.sha256])
        done = {stage: torch.from_numpy(latents) for stage, latents in task.done.items()}
        for event in cascade.generate(task.request, done=done, memory=task.memory):
            # A tensor would be in shared memory of a process that may end before it is read.
            yield replace(event, latents=event.latents.numpy()) if isinstance(event, StageDone) else event
    except LavieError as error:
        yield Failed(str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"something went wrong inside ({reason}); the log of the studio shows where"
        yield Failed(message, traceback.format_exc())


class Remote:
    """A `lavie.Cascade` whose networks are in another process. Questions that run no network are answered here."""

    def __init__(self, config: StudioConfig, load: Callable[[StudioConfig], Cascade], executor: Executor):
        self._config, self._load, self._executor = config, load, executor
        self._adapters: dict[str, Any] = {}
        self._here = load(replace(config, device="cpu"))
        (self._provenance,) = self._events(self._task())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here, name)

    def provenance(self) -> dict:
        """As `Cascade.provenance`, of the other process."""
        return self._provenance

    def runs_on(self) -> dict[str, Any]:
        """As `Cascade.runs_on`, of the other process."""
        return {name: self._provenance[name] for name in self._here.runs_on() if name in self._provenance}

    def with_adapters(self, adapters: Sequence[Adapter], read: Callable[[Adapter], AdapterDeltas]) -> Remote:
        """The same cascade with adapters on its networks. Their files are read here. Raises AdapterError."""
        deltas = {adapter.sha256: read(adapter) for adapter in adapters}
        adapted = object.__new__(type(self))
        vars(adapted).update(vars(self), _adapters={"adapters": tuple(adapters), "deltas": deltas})
        return adapted

    def generate(
        self,
        request: Request,
        source: Video | None = None,
        done: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, MemoryMode] | None = None,
    ) -> Generator[Event, None, None]:
        """As `Cascade.generate`, without a source. Raises DeviceError if there is no device, or it is lost."""
        if source is not None:
            raise RequestError(
                "a video of your own cannot be worked on by networks in another process: use a studio whose device is "
                "its own"
            )
        import torch

        arrays = {stage: latents.numpy() for stage, latents in (done or {}).items()}
        task = self._task(request=self.resolve(request), done=arrays, memory=memory)
        # Release the device on every exit path.
        with contextlib.closing(self._events(task)) as made:
            for event in made:
                latents = torch.from_numpy(event.latents) if isinstance(event, StageDone) else None
                yield event if latents is None else replace(event, latents=latents)

    def _task(self, **values: Any) -> Task:
        return Task(self._config, self._load, **values, **self._adapters)

    def _events(self, task: Task) -> Generator[Any, None, None]:
        with contextlib.closing(self._executor(task)) as events:
            for event in events:
                if isinstance(event, Failed):
                    if event.trace:
                        _log.error("a task in another process failed\n%s", event.trace)
                    raise LavieError(event.message)
                yield event
