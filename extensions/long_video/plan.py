"""What a long video is to be, as values: its segments, and how one is joined to the next. Needs no torch.

A segment is what is rendered, stored, locked and made again as one. Nothing of it depends on segments behind it, so a
plan can grow while it is rendered, and 4 segments with 4 more are the same video as 8 at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from lavie.request import MAX_FRAMES, MAX_GUIDANCE
from lavie.values import MAX_SEED, check, check_kind, check_number, check_prompt, check_whole, from_json, to_json

SCHEMA_VERSION = 1
CONDITIONED, CORRECTED, REPAINT, CODENOISE = STRATEGIES = ("conditioned", "corrected", "repaint", "codenoise")
OVERLAPS = (1, 2, 4, 8)  # known frames in a window; one leaves a kink of velocity, more than four gain nothing
MAX_SEGMENTS = 1000
MAX_SEGMENT_FRAMES = 160  # new ones in a segment: it is what a crash may lose
MAX_RAMP = 64
GIVEN_CHANNELS = 9  # of the network that is told known frames: noisy latents, a mask, masked latents


def default_strategy(in_channels: int) -> str:
    """The strategy for a base network with so many input channels."""
    return CONDITIONED if in_channels == GIVEN_CHANNELS else CORRECTED


def is_watched(strategy: str | None, asked: bool | None) -> bool:
    """Whether to anchor, or to guard: as is asked, else where it helps. With `conditioned` there is less drift, and
    what is made again has joins that nobody sees (`bench.long`). A strategy of None is `conditioned` in most models.
    """
    return strategy in (None, CONDITIONED) if asked is None else asked


@dataclass(frozen=True)
class Segment:
    """prompt: what it shows. seed: 0 … 2^53 − 1, None for the video's. frames: how many it adds, None for as many as
    one window gives. locked: its latents are kept; a change that would make it anew is refused."""

    prompt: str
    seed: int | None = None
    frames: int | None = None
    locked: bool = False

    def __post_init__(self):
        check_prompt("a segment's prompt", self.prompt)
        check(bool(self.prompt.strip()), "a segment's prompt is empty: say what it should show")
        check_whole("a segment's seed", self.seed, 0, MAX_SEED)
        check_whole("a segment's frames", self.frames, 1, MAX_SEGMENT_FRAMES)
        check_kind("a segment's locked", self.locked, bool)


@dataclass(frozen=True)
class SegmentPlan:
    """A whole video.

    strategy: one of `STRATEGIES`, None for the best that the bundle has networks for (`resolving.resolve_plan`).
    overlap: known frames a window begins with, one of `OVERLAPS`. ramp: new frames over which a prompt gives way to the
    next, 0 for at once. window: frames the network sees. anchored: hold contrast and brightness at the first clip's
    (`statistics.anchored`). guarded: make a segment again that stands still or whose join would be seen. Both None for
    where they help (`is_watched`).
    strength: 0 … 1 of the correction of `corrected` (`corrected.KnownFrames`). opening: of `conditioned`, the guidance
    of the base network, which makes the first clip of a video that continues nothing; None where the network that is
    told known frames makes it too.

    Raises RequestError on any value outside its limits.
    """

    segments: tuple[Segment, ...]
    seed: int | None = None
    negative_prompt: str = ""
    strategy: str | None = None
    overlap: int = 4
    ramp: int = 12
    window: int = 16
    anchored: bool | None = None
    guarded: bool | None = None
    strength: float = 1.0
    opening: float | None = None

    def __post_init__(self):
        whole = isinstance(self.segments, tuple) and all(isinstance(segment, Segment) for segment in self.segments)
        check(whole, "segments is no tuple of segments: give one `Segment` for each")
        count = len(self.segments)
        check(1 <= count <= MAX_SEGMENTS, f"the plan has {count} segments: give 1 to {MAX_SEGMENTS}")
        check_whole("the plan's seed", self.seed, 0, MAX_SEED)
        check_prompt("negative_prompt", self.negative_prompt)
        known = ", ".join(STRATEGIES)
        check(self.strategy in (None, *STRATEGIES), f"strategy is {self.strategy!r}: choose one of {known}")
        overlap = isinstance(self.overlap, int) and not isinstance(self.overlap, bool) and self.overlap in OVERLAPS
        check(overlap, f"overlap is {self.overlap!r}: choose one of {', '.join(map(str, OVERLAPS))}")
        for name, value, low, high in (("ramp", self.ramp, 0, MAX_RAMP), ("window", self.window, 2, MAX_FRAMES)):
            check(value is not None, f"{name} is None: give a whole number from {low} to {high}")
            check_whole(name, value, low, high)
        room = f"overlap is {self.overlap} of the {self.window} frames that the network sees: choose a smaller one"
        check(self.overlap < self.window, room)
        for name in ("anchored", "guarded"):
            if getattr(self, name) is not None:
                check_kind(name, getattr(self, name), bool)
        check(self.strength is not None, "strength is None: give a number from 0 to 1")
        check_number("strength", self.strength, 0.0, 1.0)
        check_number("opening", self.opening, 0.0, MAX_GUIDANCE)

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return to_json(self, SCHEMA_VERSION)

    @classmethod
    def from_json(cls, text: str) -> SegmentPlan:
        """The inverse of `to_json`. Raises RequestError for what is no plan or comes from a newer version."""
        return from_json(cls, text, SCHEMA_VERSION, "a plan of segments")

    def seed_of(self, number: int) -> int | None:
        """A segment's own seed, or the video's. Noise is keyed by the absolute frame, so segments may share one."""
        own = self.segments[number].seed
        return self.seed if own is None else own


@dataclass(frozen=True)
class Layout:
    """Which absolute frames each segment of a plan covers, behind `start` frames that are there already.

    From nothing the first segment is a whole window; a later one adds what a window has beside its overlap: with 16
    and 4 the segments begin at 0, 16, 28, 40 …
    """

    plan: SegmentPlan
    start: int = 0

    @cached_property
    def _ends(self) -> list[int]:
        plan = self.plan
        usual = [plan.window - (plan.overlap if number or self.start else 0) for number in range(len(plan.segments))]
        counts = [segment.frames or count for segment, count in zip(plan.segments, usual, strict=True)]
        return list(accumulate(counts, initial=self.start))

    @property
    def frames(self) -> int:
        """Of the whole video, those that were there included."""
        return self._ends[-1]

    def frames_of(self, number: int) -> range:
        """The absolute frames that segment `number` adds."""
        return range(self._ends[number], self._ends[number + 1])

    def segment_at(self, frame: int) -> int:
        """The segment that an absolute frame belongs to; a frame before the first one reads the first one's prompt."""
        return min(max(bisect_right(self._ends, frame) - 1, 0), len(self.plan.segments) - 1)

    def joins(self) -> list[int]:
        """The first new frame of each segment that continues something: where the meters look for seams."""
        return [frame for frame in self._ends[:-1] if frame]

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """The prompt that goes, the one that comes, and its weight, 0 … 1, at an absolute frame."""
        plan, number = self.plan, self.segment_at(frame)
        old, new = (plan.segments[place].prompt for place in (max(number - 1, 0), number))
        frames = self.frames_of(number)
        ramp = min(plan.ramp, len(frames))
        weight = 1.0 if old == new else min((frame - frames.start + 1) / (ramp + 1), 1.0)
        return old, new, weight

    def windows_of(self, number: int) -> int:
        """How many windows the network makes for a segment."""
        return len(list(self.windows(number)))

    def windows(self, number: int, overlap: int | None = None) -> Iterator[tuple[range, int]]:
        """Of each window of a segment: the absolute frames that the network sees, and how many of them are known.

        overlap: known frames, where fewer than the plan's are wanted.
        """
        plan, new = self.plan, self.frames_of(number)
        begin = new.start
        while begin < new.stop:
            known = min(plan.overlap if overlap is None else overlap, begin)
            yield range(begin - known, begin - known + plan.window), known
            begin += plan.window - known


def stale(made: SegmentPlan, now: SegmentPlan) -> tuple[int, ...]:
    """The segments of `now` that must be made anew where those of `made` are there.

    A segment stands on all before it: the first that differs and everything behind it. With `codenoise` every frame
    stands on every other: all or none. Raises RequestError where a locked segment is among them.
    """
    same = replace(made, segments=now.segments, seed=now.seed) == now
    count = min(len(made.segments), len(now.segments)) if same else 0
    kept = next((number for number in range(count) if _key(made, number) != _key(now, number)), count)
    if now.strategy == CODENOISE and not (kept == len(made.segments) == len(now.segments) and made.seed == now.seed):
        kept = 0
    numbers = tuple(range(kept, len(now.segments)))
    locked = [number for number in numbers if now.segments[number].locked]
    check(
        not locked,
        f"segment {locked[0] + 1 if locked else 0} is locked and this change would make it anew: unlock it, or change "
        "only segments behind it",
    )
    return numbers


def _key(plan: SegmentPlan, number: int) -> tuple:
    """What decides a segment beside those before it. Its lock does not."""
    segment = plan.segments[number]
    return segment.prompt, plan.seed_of(number), segment.frames
