"""Changes of a plan, and what a lock forbids."""

import pytest

from app.long_videos import plan_edits
from app.recipes.segments import check_count, fit_plan, plan_of, without_seeds
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError

PLAN = SegmentPlan(tuple(Segment(prompt) for prompt in "abcd"), seed=5)


def prompts(plan):
    return "".join(segment.prompt for segment in plan.segments)


def locked(*numbers):
    plan = PLAN
    for number in numbers:
        plan = plan_edits.lock(plan, number)
    return plan


def test_segments_are_changed_one_by_one():
    changed = plan_edits.set_segment(PLAN, 1, prompt="x", seed=7, frames=4)
    assert changed.segments[1] == Segment("x", 7, 4) and changed.segments[::2] == PLAN.segments[::2]
    assert plan_edits.set_segment(changed, 1, seed=None).segments[1].seed is None
    assert PLAN.segments[1] == Segment("b")
    assert plan_edits.set_plan(PLAN, overlap=2, strategy="codenoise").overlap == 2


def test_a_reroll_draws_a_seed_of_its_own_each_time():
    once, again = (plan_edits.reroll(PLAN, 2) for _ in range(2))
    assert once.segments[2].seed not in (None, again.segments[2].seed) and once.seed == 5


def test_segments_come_go_and_move():
    new = Segment("x")
    assert [prompts(plan_edits.insert(PLAN, place, new)) for place in (0, 2, 4)] == ["xabcd", "abxcd", "abcdx"]
    assert prompts(plan_edits.append(PLAN, new, new)) == "abcdxx"
    assert [prompts(plan_edits.remove(PLAN, number)) for number in (0, 3)] == ["bcd", "abc"]
    moves = [(0, 3), (3, 0), (1, 2), (2, 1), (1, 1)]
    assert [prompts(plan_edits.move(PLAN, *move)) for move in moves] == ["bcda", "dabc", "acbd", "acbd", "abcd"]


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan_edits.set_segment(plan, 1, prompt="x"),
        lambda plan: plan_edits.set_segment(plan, 0, seed=9),
        lambda plan: plan_edits.set_segment(plan, 1, locked=False, frames=3),
        lambda plan: plan_edits.reroll(plan, 0),
        lambda plan: plan_edits.insert(plan, 1, Segment("x")),
        lambda plan: plan_edits.remove(plan, 1),
        lambda plan: plan_edits.remove(plan, 0),
        lambda plan: plan_edits.move(plan, 3, 0),
        lambda plan: plan_edits.move(plan, 1, 3),
        lambda plan: plan_edits.set_plan(plan, seed=6),
        lambda plan: plan_edits.set_plan(plan, overlap=2),
        lambda plan: plan_edits.set_plan(plan, segments=plan.segments[:1]),
    ],
)
def test_what_would_make_a_locked_segment_anew_is_refused(change):
    with pytest.raises(RequestError, match="segment 2 is locked and this change would make it anew: unlock it"):
        change(locked(1))
    change(plan_edits.lock(locked(1), 1, False))


def test_behind_a_locked_segment_all_may_change():
    plan = locked(0, 1)
    plan = plan_edits.set_segment(plan, 2, prompt="x")
    plan = plan_edits.move(plan_edits.append(plan, Segment("y")), 4, 2)
    assert prompts(plan_edits.remove(plan, 4)) == "abyx"
    assert plan_edits.lock(plan, 1, False).segments[1] == Segment("b")


def test_a_locked_segment_of_a_video_made_together_allows_no_change_at_all():
    plan = plan_edits.lock(plan_edits.set_plan(PLAN, strategy="codenoise"), 0)
    with pytest.raises(RequestError, match="segment 1 is locked"):
        plan_edits.set_segment(plan, 3, prompt="x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: plan_edits.set_segment(PLAN, 4, prompt="x"), "there is no segment 5: the plan has segments 1 to 4"),
        (lambda: plan_edits.remove(PLAN, -1), "there is no segment 0"),
        (lambda: plan_edits.insert(PLAN, 5, Segment("x")), "cannot be put at place 6"),
        (lambda: plan_edits.remove(SegmentPlan((Segment("a"),)), 0), "at least one segment"),
        (lambda: plan_edits.set_segment(PLAN, 0, prompt=" "), "prompt is empty"),
        (lambda: plan_edits.append(PLAN, *[Segment("x")] * 1000), "1004 segments: give 1 to 1000"),
        (lambda: plan_edits.insert(plan_of("a", 1000), 0, Segment("x")), "the most there can be"),
        (lambda: plan_of(["a"], 0), "a video of 0 segments cannot be made: give 1 to 1000"),
        (lambda: plan_of(["a"], 10_000), "a video of 10000 segments"),
        (lambda: plan_of(["a"], 10**12), "segments cannot be made"),
        (lambda: plan_of(["a", "b"], 1), "2 prompts for 1 segments"),
        (lambda: plan_of([], 2), "no prompt"),
        (lambda: check_count(2.0), "2.0 segments"),
    ],
)
def test_what_cannot_be_is_told(change, words):
    with pytest.raises(RequestError, match=words):
        change()


def test_the_last_prompt_goes_on():
    assert prompts(plan_of(["a", "b"], 4)) == "abbb" and prompts(plan_of(["a", "b"])) == "ab"


def test_other_seeds_are_for_all_segments():
    plan = without_seeds(plan_edits.lock(plan_edits.set_segment(PLAN, 1, seed=9), 1))
    assert plan == SegmentPlan(PLAN.segments)


@pytest.mark.parametrize(("window", "overlap"), [(16, 4), (8, 4), (4, 2), (2, 1)])
def test_a_plan_fits_what_the_model_sees(window, overlap):
    plan = fit_plan(PLAN, window)
    assert (plan.window, plan.overlap) == (window, overlap)
