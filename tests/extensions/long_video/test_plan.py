"""A plan refuses what cannot be made, says which frames a segment covers, and what a change makes stale."""

from dataclasses import replace

import pytest

from extensions.long_video.plan import (
    CODENOISE,
    CONDITIONED,
    CORRECTED,
    MAX_SEGMENTS,
    Layout,
    Segment,
    SegmentPlan,
    default_strategy,
    outdated_segments,
)
from lavie.errors import RequestError
from lavie.request import MAX_SEED

ABC = tuple(map(Segment, "abc"))
FULL = SegmentPlan(
    (Segment("a „red“ star\n☆", MAX_SEED, 160, True), Segment("b")), 7, "blur", CONDITIONED, 8, 0, 16, True, True, 0.85
)


@pytest.mark.parametrize("plan", [FULL, SegmentPlan(ABC)])
def test_a_plan_survives_json(plan):
    assert SegmentPlan.from_json(plan.to_json()) == plan
    assert "\n" not in plan.to_json()


REFUSED = [
    (lambda: SegmentPlan(()), ["0 segments", "1 to 1000"]),
    (lambda: SegmentPlan(ABC * MAX_SEGMENTS), ["3000 segments"]),
    (lambda: SegmentPlan([Segment("a")]), ["tuple of segments"]),
    (lambda: SegmentPlan(("a",)), ["tuple of segments"]),
    (lambda: SegmentPlan(ABC, seed=-1), ["seed is -1"]),
    (lambda: SegmentPlan(ABC, strategy="magic"), ["'magic'", "conditioned", "codenoise"]),
    (lambda: SegmentPlan(ABC, overlap=3), ["overlap is 3", "1, 2, 4, 8"]),
    (lambda: SegmentPlan(ABC, overlap=True), ["overlap is True"]),
    (lambda: SegmentPlan(ABC, overlap=4, window=4), ["overlap is 4 of the 4 frames", "smaller"]),
    (lambda: SegmentPlan(ABC, ramp=None), ["ramp is None"]),
    (lambda: SegmentPlan(ABC, ramp=65), ["ramp is 65", "0 to 64"]),
    (lambda: SegmentPlan(ABC, window=1), ["window is 1"]),
    (lambda: SegmentPlan(ABC, strength=None), ["strength is None"]),
    (lambda: SegmentPlan(ABC, strength=1.5), ["strength is 1.5", "0 to 1"]),
    (lambda: SegmentPlan(ABC, anchored=1), ["anchored is 1", "bool"]),
    (lambda: SegmentPlan(ABC, negative_prompt="x" * 4001), ["negative_prompt has 4001"]),
    (lambda: Segment(" \n"), ["prompt is empty"]),
    (lambda: Segment(3), ["prompt is 3"]),
    (lambda: Segment("\ud800"), ["half a character"]),
    (lambda: Segment("a", seed=2**53), ["seed is 9007199254740992"]),
    (lambda: Segment("a", frames=0), ["frames is 0", "1 to 160"]),
    (lambda: Segment("a", locked=None), ["locked is None"]),
    (lambda: SegmentPlan.from_json("[]"), ["a plan of segments", "not a JSON object"]),
    (lambda: SegmentPlan.from_json('{"schema": 1}'), ["lacks segments"]),
    (lambda: SegmentPlan.from_json('{"schema": 1, "segments": ["a"]}'), ["Segment is a JSON object, not 'a'"]),
    (lambda: SegmentPlan.from_json('{"schema": 1, "segments": "abc"}'), ["tuple of segments"]),
    (lambda: SegmentPlan.from_json('{"schema": 1, "segments": null}'), ["tuple of segments"]),
    (lambda: SegmentPlan.from_json('{"schema": 9, "segments": []}'), ["schema 9"]),
    (lambda: SegmentPlan.from_json('{"schema": 1, "segments": [{"prompt": "a", "x": 1}]}'), ["no field 'x'"]),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_is_no_plan_is_refused_with_the_value_and_the_way_out(make, words):
    with pytest.raises(RequestError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_segments_cover_a_window_and_then_what_a_window_has_beside_its_overlap():
    layout = Layout(SegmentPlan(ABC))
    assert [layout.frames_of(number) for number in range(3)] == [range(0, 16), range(16, 28), range(28, 40)]
    assert layout.frames == 40
    assert layout.joins() == [16, 28]
    assert [list(layout.windows(number)) for number in range(3)] == [
        [(range(0, 16), 0)], [(range(12, 28), 4)], [(range(24, 40), 4)]
    ]  # fmt: skip


def test_behind_footage_every_segment_continues():
    layout = Layout(SegmentPlan(ABC, overlap=8), 30)
    assert [layout.frames_of(number) for number in range(3)] == [range(30, 38), range(38, 46), range(46, 54)]
    assert layout.joins() == [30, 38, 46]
    assert list(layout.windows(0)) == [(range(22, 38), 8)]


def test_a_single_picture_is_all_that_its_first_window_knows():
    layout = Layout(SegmentPlan((Segment("a", frames=20),)), 1)
    assert list(layout.windows(0)) == [(range(0, 16), 1), (range(12, 28), 4)]


def test_a_long_segment_has_several_windows_and_a_short_one_still_a_whole_one():
    layout = Layout(SegmentPlan((Segment("a", frames=30), Segment("b", frames=1))))
    assert list(layout.windows(0)) == [(range(0, 16), 0), (range(12, 28), 4), (range(24, 40), 4)]
    assert list(layout.windows(1)) == [(range(26, 42), 4)]
    assert layout.windows_of(0) == 3 and layout.frames == 31


def test_every_frame_belongs_to_its_segment():
    layout = Layout(SegmentPlan(ABC), 5)
    owners = [layout.segment_at(frame) for frame in range(layout.frames)]
    assert owners == [0] * 5 + [0] * 12 + [1] * 12 + [2] * 12
    assert layout.segment_at(10_000) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda plan: plan, ()),
        (lambda plan: replace(plan, segments=(*ABC, Segment("d"))), (3,)),
        (lambda plan: replace(plan, segments=ABC[:2]), ()),
        (lambda plan: replace(plan, segments=(ABC[0], Segment("x"), ABC[2])), (1, 2)),
        (lambda plan: replace(plan, segments=(ABC[0], Segment("b", seed=3), ABC[2])), (1, 2)),
        (lambda plan: replace(plan, segments=(ABC[0], Segment("b", seed=5), ABC[2])), ()),  # the video's own seed
        (lambda plan: replace(plan, segments=(ABC[0], Segment("b", frames=3), ABC[2])), (1, 2)),
        (lambda plan: replace(plan, segments=(ABC[0], ABC[2])), (1,)),  # deleted
        (lambda plan: replace(plan, segments=(Segment("new"), *ABC)), (0, 1, 2, 3)),  # inserted
        (lambda plan: replace(plan, segments=(Segment("a", locked=True), *ABC[1:])), ()),
        (lambda plan: replace(plan, seed=6), (0, 1, 2)),
        (lambda plan: replace(plan, overlap=2), (0, 1, 2)),
        (lambda plan: replace(plan, strength=0.9), (0, 1, 2)),
        (lambda plan: replace(plan, strategy=CONDITIONED), (0, 1, 2)),
    ],
)
def test_a_change_makes_its_segment_stale_and_all_behind_it(change, expected):
    plan = SegmentPlan(ABC, seed=5)
    assert outdated_segments(plan, change(plan)) == expected


def test_with_codenoise_everything_depends_on_everything():
    plan = SegmentPlan(ABC, seed=5, strategy=CODENOISE)
    assert outdated_segments(plan, plan) == ()
    assert outdated_segments(plan, replace(plan, segments=(*ABC, Segment("d")))) == (0, 1, 2, 3)
    own = replace(plan, segments=tuple(Segment(prompt, 3) for prompt in "abc"))
    assert outdated_segments(own, replace(own, seed=6)) == (0, 1, 2)  # the bank is the video's


def test_a_change_that_a_locked_segment_stands_on_is_refused():
    plan = SegmentPlan((ABC[0], Segment("b", locked=True), ABC[2]), seed=5)
    with pytest.raises(RequestError, match=r"segment 2 is locked .* unlock it"):
        outdated_segments(plan, replace(plan, segments=(Segment("x"), *plan.segments[1:])))
    assert outdated_segments(plan, replace(plan, segments=(*plan.segments[:2], Segment("x")))) == (2,)


def test_a_network_that_can_be_told_frames_is_told_them():
    assert default_strategy(9) == CONDITIONED
    assert default_strategy(4) == CORRECTED
