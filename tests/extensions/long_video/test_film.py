"""A long video through all stages: kept parts are never made again, and whatever was kept, the same frames come out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from extensions.long_video.base_frames import SegmentDone
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, REPAINT, Segment, SegmentPlan
from extensions.long_video.resolve import resolve_plan
from lavie import Cascade, vae
from lavie.errors import BundleError, RequestError, StorageError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Notice, StageDone, StageStarted, Step
from lavie.request import Sampling
from tests.cascades import finish, request, small
from tests.extensions.long_video.films import PROVENANCE, Memory, begun, film, finished, frame_hash, plan_of

SUBSETS = [(False, False), (True, False), (False, True), (True, True)]
STAGES = [BASE, INTERPOLATION, SUPER_RESOLUTION]


@pytest.fixture(params=[CORRECTED, CONDITIONED, CODENOISE])
def strategy(request):
    return request.param


SLOW_BUT_ONE = [CONDITIONED, *(pytest.param(name, marks=pytest.mark.slow) for name in (CORRECTED, CODENOISE))]


@pytest.mark.parametrize(("interpolate", "upscale"), SUBSETS)
def test_a_film_of_one_segment_is_the_clip_bit_for_bit(tiny_cascade, interpolate, upscale):
    asked = small(interpolate, upscale, negative_prompt="a blue circle")
    made = film(tiny_cascade, None, asked=asked)
    clip = finish(tiny_cascade, asked).video
    assert finished(made) == clip.frame_hash
    assert (made.shape, made.fps, made.joins) == (clip.frames.shape, clip.fps, [])


@pytest.mark.parametrize(("interpolate", "upscale"), SUBSETS)
def test_shape_rate_and_joins_are_those_of_the_frames(tiny_cascade, interpolate, upscale):
    plan = SegmentPlan((Segment("a red star"), Segment("a blue circle", frames=5)))
    made = film(tiny_cascade, plan, asked=small(interpolate, upscale), start=begun(3)[..., :1, :2])
    for _ in made.make():
        pass
    frames = list(made.frames())
    assert made.shape == (len(frames), *frames[0].shape)
    assert len(frames) == (37 if interpolate else 10)  # 3 + 2 + 5
    assert frames[0].dtype == np.uint8 and frames[0].shape == ((32, 64, 3) if upscale else (8, 16, 3))
    assert made.fps == (32 if interpolate else 8)
    assert made.joins == ([11, 19] if interpolate else [3, 5])


def test_the_video_begins_with_the_frames_that_were_there(tiny_cascade):
    start = begun(3)
    made = film(tiny_cascade, plan_of(2), asked=request(), start=start)
    for _ in made.make():
        pass
    with tiny_cascade.residency.on_device("vae") as autoencoder:
        expected = [vae.to_uint8(frame.detach())[0].numpy() for frame in vae.decode(autoencoder, start)]
    assert all(np.array_equal(a, b) for a, b in zip(expected, made.frames(), strict=False))


def test_events_come_as_of_a_clip_with_each_segment_when_it_is_kept(extending, strategy):
    kept = Memory()
    asked = request(True, True)  # at a size at which no segment is made again
    made = film(extending, plan_of(4, strategy=strategy), kept, asked)
    told, steps = [], {}
    for event in made.make():
        if isinstance(event, Step):
            steps.setdefault(event.stage, []).append((event.index, event.steps))
            continue
        told.append((type(event), getattr(event, "number", getattr(event, "stage", None))))
        if isinstance(event, SegmentDone):
            assert kept[made.keys[event.number]].latents is event.latents
            assert json.loads(json.dumps(kept[made.keys[event.number]].facts)) == event.facts
        if isinstance(event, StageStarted):
            steps[event.stage] = [event.steps]
        if isinstance(event, StageDone):
            assert event.latents is None and event.seconds > 0
    expected = [(StageStarted, BASE), *[(SegmentDone, number) for number in range(4)], (StageDone, BASE)]
    expected += [(kind, stage) for stage in STAGES[1:] for kind in (StageStarted, StageDone)]
    assert told == expected
    for total, *counted in steps.values():
        assert counted == [(index, total) for index in range(1, total + 1)]
    windows = [len(made.window_keys(stage)) for stage in STAGES[1:]]
    assert kept.written == len(kept) == 4 + sum(windows)
    numbers = [part.number for part in kept.values()]
    assert numbers == [*range(4), *range(windows[0]), *range(windows[1])]
    assert [part.stage for part in kept.values()] == [BASE] * 4 + [INTERPOLATION] * windows[0] + [
        SUPER_RESOLUTION
    ] * windows[1]


@pytest.mark.parametrize(("interpolate", "upscale"), [(True, False), pytest.param(False, True, marks=pytest.mark.slow)])
def test_four_segments_and_four_more_are_the_eight_at_once(extending, strategy, interpolate, upscale):
    asked, kept, whole = small(interpolate, upscale), Memory(), Memory()
    finished(film(extending, plan_of(4, strategy=strategy), kept, asked))
    first = set(kept)
    eight = plan_of(8, strategy=strategy)
    assert finished(film(extending, eight, kept, asked)) == finished(film(extending, eight, whole, asked))
    assert all(torch.equal(part.latents, kept[key].latents) for key, part in whole.items())
    again = [kept[key] for key in first - set(whole)]
    if strategy == CODENOISE:
        assert len(again) == len(first)
    else:  # only what saw the end
        assert {part.stage for part in again} <= {asked.stages[-1]} and len(again) <= 2


def events_that_keep(made: LongVideoPipeline) -> list[int]:
    """The numbers of events at which more is kept than at the one before, from 1; and one between each two of them."""
    counts = [0] + [made.store.written for _ in made.make()]
    grown = [number for number in range(1, len(counts)) if counts[number] > counts[number - 1]]
    return sorted({*grown, *(number + 1 for number in grown), 0, 1})


def stop_and_resume(cascade, plan, asked, after: int) -> str:
    """Closed behind event `after`, and gone on with by another film over what was kept."""
    kept = Memory()
    events = film(cascade, plan, kept, asked).make()
    for _ in range(after):
        next(events)
    events.close()
    made = film(cascade, plan, kept, asked)
    ended = finished(made)
    needed = {*made.keys, *(key for stage in asked.stages[1:] for key in made.window_keys(stage))}
    assert kept.keys() == needed and kept.written == len(needed), "a part was made twice, or one for nothing"
    return ended


@pytest.mark.parametrize("strategy", SLOW_BUT_ONE)
def test_whatever_event_it_is_stopped_at_the_same_frames_come_out_and_nothing_is_made_twice(extending, strategy):
    plan, asked = plan_of(3, strategy=strategy), small()
    whole = film(extending, plan, asked=asked)
    count = sum(1 for _ in whole.make())
    expected = frame_hash(whole)
    for after in range(count + 1):
        assert stop_and_resume(extending, plan, asked, after) == expected, after


@pytest.mark.parametrize(
    ("interpolate", "upscale", "segments"),
    [
        (True, True, 1),
        pytest.param(True, False, 6, marks=pytest.mark.slow),
        pytest.param(False, True, 5, marks=pytest.mark.slow),
    ],
)
def test_nor_within_later_stages(tiny_cascade, interpolate, upscale, segments):
    plan, asked = plan_of(segments), small(interpolate, upscale)
    whole = film(tiny_cascade, plan, asked=asked)
    stops = events_that_keep(whole)
    expected = frame_hash(whole)
    assert len(whole.store) >= segments + 2
    for after in stops:
        assert stop_and_resume(tiny_cascade, plan, asked, after) == expected, after


@pytest.mark.parametrize("strategy", SLOW_BUT_ONE)
def test_a_part_that_is_lost_between_others_is_made_alone(extending, strategy):
    kept = Memory()
    plan = plan_of(4, strategy=strategy)
    made = film(extending, plan, kept)
    expected = finished(made)
    for missing in range(4):
        lost = [made.keys[missing], made.window_keys(INTERPOLATION)[0], made.window_keys(SUPER_RESOLUTION)[missing]]
        for key in lost:
            del kept[key]
        kept.written = 0
        assert finished(film(extending, plan, kept)) == expected, missing
        assert kept.written == 3 and all(key in kept for key in lost), missing


def test_a_part_that_reads_as_lost_is_made_again(tiny_cascade):
    """A damaged file: said to be there until it is read."""

    class Damaged(Memory):
        damaged = None

        def __getitem__(self, key):
            if key == self.damaged:
                raise KeyError(key)
            return super().__getitem__(key)

        def __setitem__(self, key, part):
            self.damaged = None if key == self.damaged else self.damaged
            super().__setitem__(key, part)

    kept, asked = Damaged(), small()
    made = film(tiny_cascade, plan_of(4), kept, asked)
    expected = finished(made)
    kept.damaged, kept.written = made.keys[1], 0
    assert finished(film(tiny_cascade, plan_of(4), kept, asked)) == expected
    assert kept.written == 1
    kept.damaged = made.keys[3]
    with pytest.raises(StorageError, match="gone or damaged: start the job again"):
        list(made.frames())


@pytest.mark.parametrize("numbers", [[2], pytest.param([0, 3], marks=pytest.mark.slow)])
def test_a_change_makes_its_segment_anew_and_what_sees_it(tiny_cascade, numbers):
    kept = Memory()
    plan = plan_of(4)
    before = film(tiny_cascade, plan, kept)
    finished(before)
    for number in numbers:
        check_change(tiny_cascade, plan, number, before, Memory(kept))


def check_change(cascade, plan, number, before, kept):
    """Another prompt and seed for one segment."""
    segments = list(plan.segments)
    segments[number] = Segment("a green heart", seed=8)
    changed = replace(plan, segments=tuple(segments))
    after, anew = film(cascade, changed, kept), film(cascade, changed)
    assert [a == b for a, b in zip(before.keys, after.keys, strict=True)] == [place < number for place in range(4)]
    assert finished(after) == finished(anew), number
    for stage in STAGES[1:]:
        same = [a == b for a, b in zip(before.window_keys(stage), after.window_keys(stage), strict=True)]
        assert same == sorted(same, reverse=True) and not all(same), number
        assert any(same) == (number > 1)
    made = [after.keys, *map(after.window_keys, STAGES[1:])]
    gone = [before.keys, *map(before.window_keys, STAGES[1:])]
    assert kept.written == sum(len(set(a) - set(b)) for a, b in zip(made, gone, strict=True)), number


def test_what_a_later_stage_alone_depends_on_leaves_the_segments(tiny_cascade):
    keys = film(tiny_cascade, plan_of(3)).keys
    asked = small(True, True)
    other = replace(asked, interpolation=replace(asked.interpolation, sampling=Sampling("euler", 3)))
    changed, same = film(tiny_cascade, plan_of(3), asked=other), film(tiny_cascade, plan_of(3))
    assert changed.keys == keys
    for stage in STAGES[1:]:
        assert not set(changed.window_keys(stage)) & set(same.window_keys(stage))
    alone = film(tiny_cascade, plan_of(3), asked=small(False, True))
    assert alone.keys == keys
    assert not set(alone.window_keys(SUPER_RESOLUTION)) & set(same.window_keys(SUPER_RESOLUTION))


def test_steps_sampler_start_and_size_change_every_key(tiny_cascade):
    plan, asked = plan_of(2), request()
    films = [
        film(tiny_cascade, plan, asked=asked),
        film(tiny_cascade, plan, asked=replace(asked, base=Sampling("ddim", 3))),
        film(tiny_cascade, plan, asked=replace(asked, base=Sampling("euler", 2))),
        film(tiny_cascade, plan, asked=replace(asked, seed=8)),
        film(tiny_cascade, plan, asked=replace(asked, width=64)),
        film(tiny_cascade, plan, asked=asked, start=begun(3)),
        film(tiny_cascade, plan, asked=asked, start=begun(3) + 1),
        film(tiny_cascade, replace(plan, strategy=REPAINT), asked=asked),
    ]
    assert len({key for made in films for key in made.keys}) == 2 * len(films)


def test_prompts_that_are_cut_or_not_known_are_told_before_anything_runs(tiny_cascade):
    plan = SegmentPlan((Segment("a red star"), Segment("a flurb"), Segment("a flurb")))
    first, second = (event for event, _ in zip(film(tiny_cascade, plan).make(), range(2), strict=False))
    assert isinstance(first, Notice) and "“flurb”" in first.message
    assert isinstance(second, StageStarted)


def test_networks_that_have_nothing_left_to_do_are_not_loaded(tiny_bundle):
    kept = Memory()
    finished(film(Cascade.from_bundle(tiny_bundle, device="cpu"), plan_of(2), kept))
    fresh = Cascade.from_bundle(tiny_bundle, device="cpu")
    finished(film(fresh, plan_of(2), kept))
    assert fresh.loaded == ("super_resolution_vae",)


def test_what_is_left_open_is_decided_once(tiny_cascade, extending):
    asked = tiny_cascade.resolve(request(negative_prompt="a blue circle"))
    plan = resolve_plan(tiny_cascade, asked, plan_of(2))
    assert (plan.strategy, plan.seed, plan.negative_prompt) == (CORRECTED, 7, "a blue circle")
    assert (plan.window, plan.overlap, plan.anchored) == (4, 2, False)
    assert resolve_plan(tiny_cascade, asked, plan) == plan
    conditioned = resolve_plan(extending, asked, plan_of(2))
    assert (conditioned.strategy, conditioned.anchored) == (CONDITIONED, True)
    assert not resolve_plan(extending, asked, plan_of(2, anchored=False)).anchored
    assert resolve_plan(extending, asked, plan).strategy == CORRECTED
    assert resolve_plan(tiny_cascade, asked, plan_of(2, seed=9, overlap=1)).seed == 9
    assert resolve_plan(tiny_cascade, asked).segments == (Segment("a red star"),)


def test_what_cannot_be_made_is_refused_before_anything_runs(tiny_cascade):
    asked = tiny_cascade.resolve(request())
    with pytest.raises(BundleError, match="cannot run extension"):
        resolve_plan(tiny_cascade, asked, plan_of(1, strategy=CONDITIONED))
    with pytest.raises(BundleError, match="cannot run extension"):
        LongVideoPipeline(tiny_cascade, asked, plan_of(1, strategy=CONDITIONED, seed=1), None, {}, PROVENANCE)
    with pytest.raises(RequestError, match="frames is 1: a long video"):
        resolve_plan(tiny_cascade, replace(asked, frames=1), plan_of(1))
    kept = Memory()
    with pytest.raises(RequestError, match=r"codenoise.*continues none"):
        list(film(tiny_cascade, plan_of(2, strategy=CODENOISE), kept, start=begun(3)).make())
    assert not kept
