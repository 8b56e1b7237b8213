"""Changes of a plan of segments, each a new plan. What would make a locked segment anew is refused.

Segments are counted from 0 here and from 1 in messages. Knows neither where plans are kept nor what is made of them.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from extensions.long_video.plan import MAX_SEGMENTS, Segment, SegmentPlan, stale
from lavie.errors import RequestError
from lavie.request import MAX_SEED


def draw_seed() -> int:
    """0 … 2^53 − 1."""
    return secrets.randbelow(MAX_SEED + 1)


def set_plan(plan: SegmentPlan, **values: Any) -> SegmentPlan:
    """With other fields of the plan as a whole: seed, strategy, overlap …"""
    return checked(plan, replace(plan, **values))


def set_segment(plan: SegmentPlan, number: int, **values: Any) -> SegmentPlan:
    """With another prompt, seed or frames of a segment; None for a seed or frames is as the plan has it."""
    return _with(plan, number, replace(segment_of(plan, number), **values))


def lock(plan: SegmentPlan, number: int, locked: bool = True) -> SegmentPlan:
    """With a segment locked, or unlocked: a lock alone makes nothing anew."""
    return _with(plan, number, replace(segment_of(plan, number), locked=locked))


def reroll(plan: SegmentPlan, number: int) -> SegmentPlan:
    """With a new drawn seed for a segment."""
    return set_segment(plan, number, seed=draw_seed())


def insert(plan: SegmentPlan, number: int, segment: Segment) -> SegmentPlan:
    """With one more segment, before the `number`-th; behind the last where `number` is how many there are."""
    count = len(plan.segments)
    if not 0 <= number <= count:
        raise RequestError(f"a segment cannot be put at place {number + 1}: there are {count}")
    if count == MAX_SEGMENTS:
        raise RequestError(f"the plan has {count} segments, the most there can be: remove one first")
    return checked(plan, replace(plan, segments=(*plan.segments[:number], segment, *plan.segments[number:])))


def append(plan: SegmentPlan, *segments: Segment) -> SegmentPlan:
    """With more segments behind the last."""
    return checked(plan, replace(plan, segments=(*plan.segments, *segments)))


def remove(plan: SegmentPlan, number: int) -> SegmentPlan:
    """Without a segment. The last one left stays."""
    segment_of(plan, number)
    if len(plan.segments) == 1:
        raise RequestError("a plan has at least one segment: change this one instead of removing it")
    return checked(plan, replace(plan, segments=(*plan.segments[:number], *plan.segments[number + 1 :])))


def move(plan: SegmentPlan, number: int, to: int) -> SegmentPlan:
    """With a segment at another place, counted as it is before."""
    segment = segment_of(plan, number)
    segment_of(plan, to)
    others = [*plan.segments[:number], *plan.segments[number + 1 :]]
    return checked(plan, replace(plan, segments=(*others[:to], segment, *others[to:])))


def segment_of(plan: SegmentPlan, number: int) -> Segment:
    """Raises RequestError where there is none of this number."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(plan.segments):
        shown = number + 1 if isinstance(number, int) else number
        raise RequestError(f"there is no segment {shown}: the plan has segments 1 to {len(plan.segments)}")
    return plan.segments[number]


def checked(plan: SegmentPlan, changed: SegmentPlan) -> SegmentPlan:
    """`changed`, unless `plan` has a locked segment that it would make anew or lose. Raises RequestError."""
    free = replace(changed, segments=tuple(replace(segment, locked=False) for segment in changed.segments))
    anew = set(stale(plan, free))
    for number, segment in enumerate(plan.segments):
        if segment.locked and (number in anew or number >= len(changed.segments)):
            raise RequestError(
                f"segment {number + 1} is locked and this change would make it anew: unlock it, or change only "
                "segments behind it"
            )
    return changed


def _with(plan: SegmentPlan, number: int, segment: Segment) -> SegmentPlan:
    return checked(plan, replace(plan, segments=(*plan.segments[:number], segment, *plan.segments[number + 1 :])))
