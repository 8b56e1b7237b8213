"""Plans of long videos as a person asks for them, before a model decides the rest. Needs no torch and no model."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace

from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import CODENOISE, MAX_SEGMENTS, OVERLAPS, Layout, Segment, SegmentPlan
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.recipes.recipe import Job, Recipe


@dataclass(frozen=True)
class Course:
    """The work of a long video's base stage.

    parts: the number of windows of each segment or transition. window: frames that the network sees at once. frames: of
    the whole video. together: whether all parts are made at once.
    """

    parts: tuple[int, ...]
    window: int
    frames: int
    together: bool = False


def course_of(job: Job) -> Course:
    """The work of a long video's job."""
    plan = job.long
    if isinstance(plan, JoinPlan):
        return Course(tuple(map(plan.windows_of, plan.transition_numbers)), plan.window, plan.frames)
    assert plan is not None
    layout = Layout(plan, job.start.frames if job.start else 0)
    parts = tuple(layout.windows_of(number) for number in range(len(plan.segments)))
    return Course(parts, plan.window, layout.frames, plan.strategy == CODENOISE)


def plan_of(prompts: Sequence[str], count: int | None = None, **values: typing.Any) -> SegmentPlan:
    """A plan with these prompts; the last one is repeated up to `count` segments. values: of `SegmentPlan`.

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
    written = [*prompts, *[prompts[-1]] * (count - len(prompts))]
    return SegmentPlan(tuple(Segment(prompt) for prompt in written), **values)


def segments_of(prompts: Sequence[str], count: int | None = None, seed: int | None = None) -> list[Segment]:
    """The segments of `plan_of`, each with this seed; None for seeds derived from the video's."""
    return [replace(segment, seed=seed) for segment in plan_of(prompts, count).segments]


def last_prompt(recipe: Recipe) -> str:
    """The prompt at a clip's end, the default for continuing it."""
    return recipe.plan.segments[-1].prompt if recipe.plan else recipe.request.prompt


def check_count(count: int) -> None:
    """Raises RequestError unless a video can have this number of segments."""
    whole = isinstance(count, int) and not isinstance(count, bool)
    if not whole or not 1 <= count <= MAX_SEGMENTS:
        raise RequestError(f"a video of {count} segments cannot be made: give 1 to {MAX_SEGMENTS}")


def without_seeds(plan: SegmentPlan | JoinPlan) -> SegmentPlan | JoinPlan:
    """The plan without seeds and locks, to be made with other seeds."""
    if isinstance(plan, JoinPlan):
        return replace(plan, transitions=tuple(replace(one, seed=None) for one in plan.transitions), seed=None)
    free = tuple(replace(segment, seed=None, locked=False) for segment in plan.segments)
    return replace(plan, segments=free, seed=None)


def fit_plan(plan: SegmentPlan | JoinPlan, window: int) -> SegmentPlan | JoinPlan:
    """The plan with the lengths that a model with this window will give it (`extensions.long_video.resolve`)."""
    return replace(plan, window=window) if isinstance(plan, JoinPlan) else fit_segments(plan, window)


def fit_segments(plan: SegmentPlan, window: int) -> SegmentPlan:
    """See `fit_plan`. The overlap is at most half of the window."""
    room = min(plan.overlap, window // 2)
    return replace(plan, window=window, overlap=max([one for one in OVERLAPS if one <= room], default=1))


def cut_short(recipe: Recipe, done: int) -> Recipe:
    """The recipe of the first `done` segments, at least one; or of the clips up to the first missing transition."""
    plan = recipe.long
    if isinstance(plan, JoinPlan):
        last = [*plan.transition_numbers, len(recipe.shots) - 1][max(done, 1)]
        plan = replace(plan, shots=plan.shots[: last + 1], transitions=plan.transitions[:last])
        return replace(recipe, long=plan, shots=recipe.shots[: last + 1])
    assert plan is not None
    return replace(recipe, long=replace(plan, segments=plan.segments[: max(done, 1)]))
