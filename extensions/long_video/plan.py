"""A long video as values: its segments and how each continues the one before. Needs no torch.

A segment is the unit of rendering, storing and locking. It depends on no later segment, so a plan can grow while it
is rendered: 4 segments and 4 more are the same video as 8 at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from lavie.request import MAX_FRAMES, MAX_GUIDANCE
from lavie.values import MAX_SEED, Stored, check, check_kind, check_number, check_prompt, check_whole

CONDITIONED, CORRECTED, REPAINT, CODENOISE = STRATEGIES = ("conditioned", "corrected", "repaint", "codenoise")
OVERLAPS = (1, 2, 4, 8)  # known frames in a window; motion kinks with one, more than four gain nothing
MAX_SEGMENTS = 1000
MAX_SEGMENT_FRAMES = 160  # new ones in a segment, so that a crash loses no more
MAX_RAMP = 64
GIVEN_CHANNELS = 9  # of the extension network: noisy latents, a mask, masked latents


def default_strategy(in_channels: int) -> str:
    """The strategy for a base network with `in_channels` input channels."""
    return CONDITIONED if in_channels == GIVEN_CHANNELS else CORRECTED


def resolve_flag(strategy: str | None, asked: bool | None) -> bool:
    """Whether `anchored` or `guarded` applies: the setting, or the strategy's default if it is None.

    `conditioned` drifts less, and the joins of its second attempts stay invisible (`bench.long_videos`). A strategy of
    None is `conditioned` in most models.
    """
    return strategy in (None, CONDITIONED) if asked is None else asked


@dataclass(frozen=True)
class Segment:
    """A segment of a plan. A seed of None is the video's, frames of None are the new ones of one window.

    locked: keep its latents and refuse changes that would make it again.
    """

    prompt: str
    seed: int | None = None
    frames: int | None = None
    locked: bool = False

    def __post_init__(self) -> None:
        check_prompt("a segment's prompt", self.prompt)
        check(bool(self.prompt.strip()), "a segment's prompt is empty: say what it should show")
        check_whole("a segment's seed", self.seed, 0, MAX_SEED)
        check_whole("a segment's frames", self.frames, 1, MAX_SEGMENT_FRAMES)
        check_kind("a segment's locked", self.locked, bool)


@dataclass(frozen=True)
class SegmentPlan(Stored):
    """A whole video of segments.

    Args:
        strategy: one of `STRATEGIES`; None for the best that the bundle has networks for (`resolve.resolve_plan`).
        overlap: known frames at the start of a window, one of `OVERLAPS`.
        ramp: new frames over which a prompt is blended into the next, 0 … 64.
        window: frames that the network sees at once.
        anchored: keep contrast and brightness near those of the first clip (`chain.anchor`).
        guarded: make a segment again that stands still or has a visible join. None for both: see `resolve_flag`.
        strength: of the correction of `corrected`, 0 … 1 (`corrected.KnownFrames`).
        opening: guidance of the base network that makes the first clip of a `conditioned` video from nothing; None if
            the extension network makes it too.

    Raises RequestError for values outside these limits.
    """

    stored_as = "a plan of segments"

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

    def __post_init__(self) -> None:
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
        check_whole("ramp", self.ramp, 0, MAX_RAMP, required=True)
        check_whole("window", self.window, 2, MAX_FRAMES, required=True)
        room = f"overlap is {self.overlap} of the {self.window} frames that the network sees: choose a smaller one"
        check(self.overlap < self.window, room)
        for name in ("anchored", "guarded"):
            if getattr(self, name) is not None:
                check_kind(name, getattr(self, name), bool)
        check_number("strength", self.strength, 0.0, 1.0, required=True)
        check_number("opening", self.opening, 0.0, MAX_GUIDANCE)

    def seed_of(self, number: int) -> int | None:
        """A segment's own seed, or the video's. Segments may share one: noise depends on the absolute frame."""
        own = self.segments[number].seed
        return self.seed if own is None else own


@dataclass(frozen=True)
class Layout:
    """The absolute frames of each segment of a plan, after `start` frames that exist already.

    The first segment from nothing is a whole window; a later one adds a window without its overlap: with 16 and 4 the
    segments begin at 0, 16, 28, 40 …
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
        """The frames of the whole video, including those before the plan."""
        return self._ends[-1]

    def frames_of(self, number: int) -> range:
        """The absolute frames that a segment adds."""
        return range(self._ends[number], self._ends[number + 1])

    def segment_at(self, frame: int) -> int:
        """The segment of an absolute frame. Frames before the first segment count as part of it."""
        return min(max(bisect_right(self._ends, frame) - 1, 0), len(self.plan.segments) - 1)

    def joins(self) -> list[int]:
        """The first new frame of each segment that continues something."""
        return [frame for frame in self._ends[:-1] if frame]

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """The old prompt, the new prompt and the new one's weight, 0 … 1, at an absolute frame."""
        plan, number = self.plan, self.segment_at(frame)
        old, new = (plan.segments[place].prompt for place in (max(number - 1, 0), number))
        frames = self.frames_of(number)
        ramp = min(plan.ramp, len(frames))
        weight = 1.0 if old == new else min((frame - frames.start + 1) / (ramp + 1), 1.0)
        return old, new, weight

    def windows_of(self, number: int) -> int:
        """The number of windows that the network makes for a segment."""
        return len(list(self.windows(number)))

    def windows(self, number: int, overlap: int | None = None) -> Iterator[tuple[range, int]]:
        """For each window of a segment, the absolute frames that the network sees and the number of known ones.

        overlap: known frames, if fewer than the plan's.
        """
        plan, new = self.plan, self.frames_of(number)
        begin = new.start
        while begin < new.stop:
            known = min(plan.overlap if overlap is None else overlap, begin)
            yield range(begin - known, begin - known + plan.window), known
            begin += plan.window - known


def outdated_segments(made: SegmentPlan, now: SegmentPlan) -> tuple[int, ...]:
    """The segments of `now` that must be made again where those of `made` are stored.

    These are the first that differs and all after it; with `codenoise` all or none. Raises RequestError if one is
    locked.
    """
    same = replace(made, segments=now.segments, seed=now.seed) == now
    count = min(len(made.segments), len(now.segments)) if same else 0
    first = next((number for number in range(count) if _segment_key(made, number) != _segment_key(now, number)), count)
    if now.strategy == CODENOISE and not (first == len(made.segments) == len(now.segments) and made.seed == now.seed):
        first = 0
    numbers = tuple(range(first, len(now.segments)))
    locked = [number for number in numbers if now.segments[number].locked]
    check(
        not locked,
        f"segment {locked[0] + 1 if locked else 0} is locked and this change would make it anew: unlock it, or change "
        "only segments behind it",
    )
    return numbers


def _segment_key(plan: SegmentPlan, number: int) -> tuple[str, int | None, int | None]:
    """What decides a segment beside the segments before it."""
    segment = plan.segments[number]
    return segment.prompt, plan.seed_of(number), segment.frames
