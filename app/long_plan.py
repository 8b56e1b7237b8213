"""Plans as a person asks for them, before a model has decided the rest. Needs no torch and no model."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import replace

from extensions.long_video.plan import MAX_SEGMENTS, OVERLAPS, Layout, Segment, SegmentPlan
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.recipe import Job


def plan_of(prompts: Sequence[str], count: int | None = None, **values: typing.Any) -> SegmentPlan:
    """A plan with these prompts; the last one goes on to the `count`-th segment. values: of `SegmentPlan`.

    Raises RequestError for 0 segments, for more than any video has, and for more prompts than segments.
    """
    count = len(prompts) if count is None else count
    check_count(count)
    if not prompts:
        raise RequestError("the plan has no prompt: say what its first segment should show")
    if len(prompts) > count:
        raise RequestError(
            f"there are {len(prompts)} prompts for {count} segments: give more segments, or fewer prompts"
        )
    written = [*prompts, *prompts[-1:] * (count - len(prompts))]
    return SegmentPlan(tuple(Segment(prompt) for prompt in written), **values)


def check_count(count: int) -> None:
    """Raises RequestError for what is no number of segments of a video."""
    whole = isinstance(count, int) and not isinstance(count, bool)
    if not whole or not 1 <= count <= MAX_SEGMENTS:
        raise RequestError(f"a video of {count} segments cannot be made: give 1 to {MAX_SEGMENTS}")


def without_seeds(plan: SegmentPlan) -> SegmentPlan:
    """The same to be made with other seeds: none of its segments stays what it is, so none is locked."""
    free = tuple(replace(segment, seed=None, locked=False) for segment in plan.segments)
    return replace(plan, segments=free, seed=None)


def fitted(plan: SegmentPlan, window: int) -> SegmentPlan:
    """As a model that sees so many frames will have it, as far as lengths go (`film.resolve_plan`)."""
    room = min(plan.overlap, window // 2)
    return replace(plan, window=window, overlap=max([one for one in OVERLAPS if one <= room], default=1))


def layout_of(job: Job) -> Layout:
    """Which frames each segment of a long video's job covers."""
    return Layout(job.plan, job.start.frames if job.start else 0)
