"""A cascade whose networks run in another process, while queue, database and files stay here.

What needs the networks goes there as a `Task` and comes back as events. Nothing but picklable values passes between the
two: latents go as arrays. Knows no such process: who has one says how a task is carried out in it (`app.worker.executors.zerogpu`,
`app.worker.executors.ray`).
"""

from __future__ import annotations

import contextlib
import logging
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.config import StudioConfig
from extensions.lora.adapter import Adapter
from lavie.errors import LavieError, RequestError
from lavie.events import Event, StageDone
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from extensions.lora.files.read import AdapterDeltas
    from lavie.cascade import Cascade
    from lavie.plans import MemoryMode
    from lavie.video import Video

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What the other process is to do. request: what to make, with every value decided; None: only to say what the
    device is, as `Cascade.provenance`. done: stage → float32 B C F H W. adapters: what the networks wear; changes: what
    the file of each changes, by its SHA-256. seconds: at most, where the device is lent; more ends it."""

    config: StudioConfig
    load: Callable[[StudioConfig], Cascade]
    request: Request | None = None
    done: Mapping[str, np.ndarray] = field(default_factory=dict)
    memory: Mapping[str, MemoryMode] | None = None
    adapters: tuple[Adapter, ...] = ()
    changes: Mapping[str, AdapterDeltas] = field(default_factory=dict)
    seconds: int = 0


@dataclass(frozen=True)
class Failed:
    """What went wrong in the other process: errors of ours do not all survive the way. trace: where, of what was not
    foreseen; else None."""

    message: str
    trace: str | None = None


Executor = Callable[[Task], Iterator[Any]]  # as `execute`, in another process


def execute(task: Task) -> Iterator[Any]:
    """In the process that has the device: the events of `Cascade.generate`, or what the device is. Imports torch."""
    try:
        cascade = task.load(task.config)
        if task.request is None:
            yield cascade.provenance()
            return
        import torch

        cascade = _dressed(cascade, task)
        done = {stage: torch.from_numpy(latents) for stage, latents in task.done.items()}
        for event in cascade.generate(task.request, done=done, memory=task.memory):
            # A tensor would be shared with a process that is gone before it is looked at.
            yield replace(event, latents=event.latents.numpy()) if isinstance(event, StageDone) else event
    except LavieError as error:
        yield Failed(str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"something went wrong inside ({reason}); the log of the studio shows where"
        yield Failed(message, traceback.format_exc())


def _dressed(cascade: Cascade, task: Task) -> Cascade:
    if not task.adapters:
        return cascade
    from extensions.lora.cascade import AdaptedCascade

    return AdaptedCascade(cascade, task.adapters, lambda adapter: task.changes[adapter.sha256])


class Remote:
    """As `lavie.Cascade`, its networks in another process. What needs none of them is answered here, on the CPU."""

    def __init__(self, config: StudioConfig, load: Callable[[StudioConfig], Cascade], carry: Executor):
        self._config, self._load, self._carry = config, load, carry
        self._worn: dict[str, Any] = {}
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

    def wearing(self, adapters: Sequence[Adapter], read: Callable[[Adapter], AdapterDeltas]) -> Remote:
        """The same with adapters on its networks, whose files are read here. Raises AdapterError."""
        changes = {adapter.sha256: read(adapter) for adapter in adapters}
        dressed = object.__new__(type(self))
        vars(dressed).update(vars(self), _worn={"adapters": tuple(adapters), "changes": changes})
        return dressed

    def generate(
        self,
        request: Request,
        source: Video | None = None,
        done: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, MemoryMode] | None = None,
    ) -> Iterator[Event]:
        """As `Cascade.generate`, without a source. Raises DeviceError where the device is not to be had, or is lost."""
        if source is not None:
            raise RequestError(
                "a video of your own cannot be worked on by networks in another process: use a studio whose device is "
                "its own"
            )
        import torch

        arrays = {stage: latents.numpy() for stage, latents in (done or {}).items()}
        task = self._task(request=self.resolve(request), done=arrays, memory=memory)
        # `closing` gives the device back on every way out.
        with contextlib.closing(self._events(task)) as made:
            for event in made:
                latents = torch.from_numpy(event.latents) if isinstance(event, StageDone) else None
                yield event if latents is None else replace(event, latents=latents)

    def _task(self, **values: Any) -> Task:
        return Task(self._config, self._load, **values, **self._worn)

    def _events(self, task: Task) -> Iterator[Any]:
        with contextlib.closing(self._carry(task)) as events:
            for event in events:
                if isinstance(event, Failed):
                    if event.trace:
                        _log.error("a task in another process failed\n%s", event.trace)
                    raise LavieError(event.message)
                yield event
