"""Runs a stage once more in a smaller memory mode when the device runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from lavie.bundle import Bundle
from lavie.errors import OutOfMemory
from lavie.events import MemoryModeChanged, Notice
from lavie.memory_mode import MEMORY_STAGES, PLAIN, MemoryMode
from lavie.memory_plan import Size, describe_work, next_mode, plan_memory
from lavie.request import Request
from lavie.residency import Residency


class MemoryFallback:
    """The memory modes of a resolved request. modes: stage → the mode that it runs in now."""

    def __init__(
        self,
        bundle: Bundle,
        residency: Residency,
        request: Request,
        size: Size,
        memory: Mapping[str, MemoryMode] | None = None,
    ):
        """memory: see `Cascade.generate`. Other stages get what fits into free memory; on a CPU everything at once."""
        self.residency, self._request = residency, (bundle, residency, request, size)
        memory = memory or {}
        self.modes = {stage: replace(memory.get(stage, PLAIN), offload=residency.offload) for stage in MEMORY_STAGES}
        if residency.free() is not None:
            self.modes.update(plan_memory(bundle, residency, request, size, memory).modes)

    def attempts(self, stage: str, changing: bool = True) -> Iterator[Attempt]:
        """Attempts at a stage, each in a smaller mode than the one before, until a `with` block succeeds:

            for attempt in fallback.attempts(stage):
                yield from attempt.events
                with attempt as mode:
                    ...

        The block of the smallest mode raises OutOfMemory. Results of earlier stages are kept. changing: whether modes
        that change the result may be tried; else only offloading is.
        """
        mode = self.modes[stage]
        planned = self.residency.free() is not None  # then the same request may get another mode elsewhere
        events: Sequence[Notice | MemoryModeChanged] = (
            [MemoryModeChanged(stage, mode)] if planned or mode.changes else []
        )
        while True:
            attempt = Attempt(self, stage, mode, changing, events)
            yield attempt
            if attempt.following is None:
                return
            self.residency.clear()  # after the block: as long as the error lives, so do the tensors of the attempt
            mode = self.modes[stage] = attempt.following
            events = Notice(f"memory ran out in {stage}: it goes on with {mode}"), MemoryModeChanged(stage, mode)

    def next_mode(self, stage: str, mode: MemoryMode, changing: bool) -> MemoryMode | None:
        """The mode to try after `mode`, or None if it is the smallest."""
        work, offloads = describe_work(*self._request)[stage], self.residency.choices
        following = next_mode(stage, mode, work, offloads)
        while following is not None and not changing and following.offload == mode.offload:
            following = next_mode(stage, following, work, offloads)
        return following and (following if changing else replace(mode, offload=following.offload))


@dataclass
class Attempt:
    """One attempt at a stage. Its `with` block gives the memory mode, and ends quietly if a smaller one is left.

    events: the mode, where the cascade's provenance does not tell it, for the consumer to record.
    """

    fallback: MemoryFallback
    stage: str
    mode: MemoryMode
    changing: bool
    events: Sequence[Notice | MemoryModeChanged]
    following: MemoryMode | None = None

    def __enter__(self) -> MemoryMode:
        self.fallback.residency.use(self.mode.offload)
        return self.mode

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, OutOfMemory):
            return False
        self.following = self.fallback.next_mode(self.stage, self.mode, self.changing)
        if self.following is None:
            raise OutOfMemory(f"{error}; nothing smaller is left to try, what was made before is kept") from None
        return True
