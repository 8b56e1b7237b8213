"""Edits of a plan of segments: each returns a new plan, and raises RequestError if a locked segment would change.

Segments are counted from 0 here and from 1 in messages.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from extensions.long_video.plan import MAX_SEGMENTS, Segment, SegmentPlan, outdated_segments
from lavie.errors import RequestError
from lavie.values import MAX_SEED


def draw_seed() -> int:
    """0 … 2^53 − 1."""
    return secrets.randbelow(MAX_SEED + 1)


def set_plan(plan: SegmentPlan, **values: Any) -> SegmentPlan:
    """Change fields of the plan as a whole: seed, strategy, overlap …"""
    return check_locks(plan, replace(plan, **values))


def set_segment(plan: SegmentPlan, number: int, **values: Any) -> SegmentPlan:
    """Change prompt, seed or frames of a segment; None for seed or frames means the plan's."""
    return _replace_segment(plan, number, replace(segment_of(plan, number), **values))


def lock(plan: SegmentPlan, number: int, locked: bool = True) -> SegmentPlan:
    return _replace_segment(plan, number, replace(segment_of(plan, number), locked=locked))


def reroll(plan: SegmentPlan, number: int) -> SegmentPlan:
    return set_segment(plan, number, seed=draw_seed())


def insert(plan: SegmentPlan, number: int, segment: Segment) -> SegmentPlan:
    """Put a segment before the `number`-th; at the end if `number` is the count of segments."""
    count = len(plan.segments)
    if not 0 <= number <= count:
        raise RequestError(f"a segment cannot be put at place {number + 1}: there are {count}")
    if count == MAX_SEGMENTS:
        raise RequestError(f"the plan has {count} segments, the most there can be: remove one first")
    return check_locks(plan, replace(plan, segments=(*plan.segments[:number], segment, *plan.segments[number:])))


def append(plan: SegmentPlan, *segments: Segment) -> SegmentPlan:
    return check_locks(plan, replace(plan, segments=(*plan.segments, *segments)))


def remove(plan: SegmentPlan, number: int) -> SegmentPlan:
    """Remove a segment, unless it is the only one."""
    segment_of(plan, number)
    if len(plan.segments) == 1:
        raise RequestError("a plan has at least one segment: change this one instead of removing it")
    return check_locks(plan, replace(plan, segments=(*plan.segments[:number], *plan.segments[number + 1 :])))


def move(plan: SegmentPlan, number: int, to: int) -> SegmentPlan:
    """Move a segment to another place, counted before the move."""
    segment = segment_of(plan, number)
    segment_of(plan, to)
    others = [*plan.segments[:number], *plan.segments[number + 1 :]]
    return check_locks(plan, replace(plan, segments=(*others[:to], segment, *others[to:])))


def segment_of(plan: SegmentPlan, number: int) -> Segment:
    """The segment of this number. Raises RequestError if there is none."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(plan.segments):
        shown = number + 1 if isinstance(number, int) else number
        raise RequestError(f"there is no segment {shown}: the plan has segments 1 to {len(plan.segments)}")
    return plan.segments[number]


def check_locks(plan: SegmentPlan, changed: SegmentPlan) -> SegmentPlan:
    """`changed`, unless it would change or remove a locked segment of `plan`. Raises RequestError."""
    free = replace(changed, segments=tuple(replace(segment, locked=False) for segment in changed.segments))
    anew = set(outdated_segments(plan, free))
    for number, segment in enumerate(plan.segments):
        if segment.locked and (number in anew or number >= len(changed.segments)):
            raise RequestError(
                f"segment {number + 1} is locked and this change would make it anew: unlock it, or change only "
                "segments behind it"
            )
    return changed


def _replace_segment(plan: SegmentPlan, number: int, segment: Segment) -> SegmentPlan:
    return check_locks(plan, replace(plan, segments=(*plan.segments[:number], segment, *plan.segments[number + 1 :])))
