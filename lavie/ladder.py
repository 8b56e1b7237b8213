"""What happens when a device runs out of memory: the same work again, one rung further down, told and never silent.

Knows rungs and residency; what the work is, whoever hands it over knows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from lavie.bundle import Bundle
from lavie.errors import OutOfMemory
from lavie.events import MemoryModeChanged, Notice
from lavie.planning import Size, plan_of, works_of
from lavie.plans import PLACES, PLAIN, MemoryMode, Work, next_rung
from lavie.request import Request
from lavie.residency import Residency

Made = TypeVar("Made")


class MemoryFallback:
    """Of one request. rungs: place → where it runs now.

    works: gives each place's work; asked for only when memory runs out.
    """

    def __init__(self, residency: Residency, rungs: Mapping[str, MemoryMode], works: Callable[[], Mapping[str, Work]]):
        self._residency, self._works = residency, works
        self.rungs = dict(rungs)

    def run(
        self, place: str, work: Callable[[MemoryMode], Generator[Any, None, Made]], changing: bool = True
    ) -> Generator[Any, None, Made]:
        """Run `work` on the place's rung, telling its events; where memory runs out, once more on the next one.

        changing: whether the work can be done anew on a rung that changes its result; else only offloading is tried.

        Raises OutOfMemory from the last rung. What stages before have made is not touched by any of it.
        """
        rung = self.rungs.get(place, PLAIN)
        if self._told(rung):
            yield MemoryModeChanged(place, rung)
        while True:
            self._residency.use(rung.offload)
            try:
                return (yield from work(rung))
            except OutOfMemory as error:
                following, said = self._next(place, rung, changing), str(error)
                if following is None:
                    raise OutOfMemory(f"{said}; nothing smaller is left to try, what was made before is kept") from None
            # Behind the except block: as long as the error lives, so do the tensors of the call that failed.
            self._residency.clear()
            rung = self.rungs[place] = following
            yield Notice(f"memory ran out in {place}: it goes on with {rung}")
            yield MemoryModeChanged(place, rung)

    def _told(self, rung: MemoryMode) -> bool:
        """Whether it is not what follows from the device: where memory is planned, the same request may get others."""
        return self._residency.free() is not None or rung.changes

    def _next(self, place: str, rung: MemoryMode, changing: bool) -> MemoryMode | None:
        work = self._works()[place]
        following = next_rung(place, rung, work, self._residency.choices)
        while following is not None and not changing and following.offload == rung.offload:
            following = next_rung(place, following, work, self._residency.choices)
        return following and (following if changing else replace(rung, offload=following.offload))


def ladder_for(
    bundle: Bundle, residency: Residency, request: Request, size: Size, memory: Mapping[str, MemoryMode] | None
) -> MemoryFallback:
    """What runs the stages of a resolved request. memory: rungs of places as they were told before; the others are
    chosen by free memory, or everything at once where that is not planned (on a CPU)."""
    rungs = {place: replace((memory or {}).get(place, PLAIN), offload=residency.offload) for place in PLACES}
    if residency.free() is not None:
        rungs |= plan_of(bundle, residency, request, size, memory).rungs
    return MemoryFallback(residency, rungs, partial(works_of, bundle, residency, request, size))
