"""Footage of segments: each made from those before it, behind frames that may have been there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor

from extensions.long_video.base_frames import Kept, Opened, Part, latents_at, network_of
from extensions.long_video.cache_keys import latents_hash, segment_keys
from extensions.long_video.plan import CONDITIONED, Layout, SegmentPlan
from extensions.long_video.strategies import extend
from extensions.long_video.strategies.extend import SegmentDone
from extensions.long_video.strategies.window_model import Model
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts


class Segments:
    """See `footage.Footage`."""

    def __init__(self, plan: SegmentPlan, start: Tensor | None):
        """plan: resolved. start: 1 C N h w, latents of frames to continue."""
        self._plan, self._start = plan, start
        self.layout = Layout(plan, 0 if start is None else start.shape[2])
        self.network = network_of(plan.strategy)
        opens = start is None and plan.strategy == CONDITIONED and plan.opening is not None
        self.opened_by = BASE if opens else None
        self.prompts = [segment.prompt for segment in plan.segments]

    def keys(self, made_with: str) -> list[str]:
        """Each changes with every segment before it."""
        return segment_keys(self._plan, None if self._start is None else latents_hash(self._start), made_with)

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """That of the frame's segment, which stands on all before it."""
        return keys[self.layout.segment_at(frame)]

    def total_steps(self, steps: int) -> int:
        """See `extend.total_steps`."""
        return extend.total_steps(self.layout, steps)

    def latents(self, kept: Kept, keys: Sequence[str]) -> Latents:
        """Behind the frames that were there."""
        counts = [len(self.layout.frames_of(number)) for number in range(len(keys))]
        parts = [(count, partial(latents_at, kept, key)) for count, key in zip(counts, keys, strict=True)]
        begun = [] if self._start is None else [(self._start.shape[2], lambda: self._start.float().cpu())]
        return Parts(begun + parts)

    def make(self, opened: Opened, kept: Kept, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """A segment that is missing before others is made alone, and these stay."""
        there, state = _reached(kept, keys, 0)
        if there == len(keys):
            return
        opening = None
        if there == 0 and self.opened_by is not None:  # before the other network comes: memory holds one at a time
            with opened(self.opened_by) as model:
                opening = yield from extend.opening_clip(model, self._plan)
        with opened(self.network) as model:
            while there < len(keys):
                made = yield from self._go_on(model, kept, keys, there, state, opening)
                there, state = _reached(kept, keys, made)

    def _go_on(
        self,
        model: Model,
        kept: Kept,
        keys: Sequence[str],
        there: int,
        state: Mapping[str, Tensor],
        opening: Tensor | None,
    ) -> Generator[Step | SegmentDone, None, int]:
        """Make segments from number `there` to the next one that is kept; returns the last one's number."""
        done = (latents_at(kept, key) for key in keys[:there])
        made = there
        for event in extend.extend(model, self._plan, self._start, done, state, opening):
            if isinstance(event, SegmentDone):
                made = event.number
                kept[keys[made]] = Part(BASE, made, event.latents, event.facts, event.state)
            yield event
            following = keys[made + 1 : made + 2]
            if isinstance(event, SegmentDone) and following and following[0] in kept:
                break
        return made


def _reached(kept: Kept, keys: Sequence[str], begin: int) -> tuple[int, Mapping[str, Tensor]]:
    """The first segment from `begin` on that is not there, and the state of the one before it."""
    state: Mapping[str, Tensor] = {}
    for number in range(begin, len(keys)):
        try:
            state = kept[keys[number]].state
        except KeyError:
            return number, state
    return len(keys), state
