"""A plan becomes segments: the same bits in one go or in many, cancelled or resumed, from nothing or from frames."""

import weakref
from dataclasses import replace

import pytest
import torch

from extensions.long_video.base_frames import SegmentDone
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, REPAINT, STRATEGIES, Segment, SegmentPlan
from extensions.long_video.strategies.extend import extend
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.noise import INITIAL, frame_noise
from lavie.request import Sampling
from lavie.sampling import denoise
from tests.extensions.long_video.videos import embed, ideal_model, plan_of, segments, video
from tests.oracle import GaussianDenoiser, draw, seam

FEW = 6  # steps
CHAINS = [CONDITIONED, CORRECTED, REPAINT]


def few(**values):
    return ideal_model(steps=FEW, **values)


def same(one: list[SegmentDone], other: list[SegmentDone]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.number == b.number and torch.equal(a.latents, b.latents) and a.facts == b.facts for a, b in pairs)


@pytest.mark.parametrize("strategy", CHAINS)
@pytest.mark.parametrize("begun", [0, 1, 40])
@pytest.mark.parametrize("extra", [{}, {"anchored": True, "guarded": True, "ramp": 3}], ids=["plain", "watched"])
def test_four_segments_and_four_more_are_the_eight_at_once_bit_for_bit(strategy, begun, extra):
    prompts = [Segment(prompt) for prompt in ("a", "a", "bb", "bb", "bb", "ccc", "a", "a")]
    start = draw(begun) if begun else None
    whole = SegmentPlan(tuple(prompts), seed=5, strategy=strategy, **extra)
    at_once = segments(whole, few(), start=start)
    first = segments(replace(whole, segments=whole.segments[:4]), few(), start=start)
    more = segments(whole, few(), start=start, done=[segment.latents for segment in first])
    assert same(first + more, at_once)


@pytest.mark.parametrize("strategy", CHAINS)
@pytest.mark.parametrize("there", [1, 2, 3])
def test_a_resumed_video_is_the_uninterrupted_one(strategy, there):
    plan = SegmentPlan((Segment("a", frames=5), Segment("bb", seed=9), Segment("bb", frames=30), Segment("c")), 5)
    plan = replace(plan, strategy=strategy)
    whole = segments(plan, few())
    rest = segments(plan, few(), done=(segment.latents for segment in whole[:there]))
    assert same(whole[:there] + rest, whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_step_is_told_and_each_segment_is_as_long_as_planned(strategy):
    plan = SegmentPlan((Segment("a"), Segment("b", frames=20), Segment("c", frames=1)), 5, strategy=strategy)
    events = list(extend(few(), plan))
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.index for step in steps] == list(range(1, steps[-1].steps + 1))
    done = [event for event in events if isinstance(event, SegmentDone)]
    assert [segment.number for segment in done] == [0, 1, 2]
    assert [segment.latents.shape[2] for segment in done] == [16, 20, 1]
    assert all(segment.latents.dtype == torch.float32 for segment in done)
    assert isinstance(events[-1], SegmentDone)


def test_the_first_segment_is_the_clip_that_the_base_stage_makes_of_the_seed():
    model = few()
    noise = frame_noise(5, (BASE, INITIAL), range(16), model.shape)
    clip = list(denoise(model.guided(embed("a")), noise, model.scheduler("cpu")))[-1].latents
    assert torch.equal(segments(plan_of(1), model)[0].latents, clip)


@pytest.mark.parametrize("strategy", CHAINS)
def test_whoever_stops_asking_has_cancelled(strategy):
    network = GaussianDenoiser()
    events = extend(few(network=network), plan_of(3, strategy))
    for _ in range(FEW + 3):
        next(events)
    calls = network.calls
    events.close()
    assert network.calls == calls <= FEW + 2 * 4


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
@pytest.mark.parametrize("begun", [16, 40])
def test_footage_is_continued_without_a_seam(strategy, begun):
    start = draw(begun, seed=3)
    made, _ = video(plan_of(4, strategy), start=start)
    whole = torch.cat([start, made], dim=2)
    assert made.shape[2] == 4 * 12
    assert 0.90 <= seam(whole, [begun + 12 * number for number in range(4)]) <= 1.12


@pytest.mark.parametrize("strategy", CHAINS)
def test_a_single_picture_is_continued(strategy):
    start = draw(1)
    made, _ = video(plan_of(2, strategy), ideal_model(), start=start)
    assert made.shape[2] == 24
    assert (made[:, :, 0] - start[:, :, 0]).square().mean().sqrt() < 0.35


def test_another_seed_changes_its_own_segment_and_those_behind_it():
    plan = plan_of(4)
    other = replace(plan, segments=(*plan.segments[:2], Segment("a", seed=8), plan.segments[3]))
    one, two = segments(plan, few()), segments(other, few())
    assert [torch.equal(a.latents, b.latents) for a, b in zip(one, two, strict=True)] == [True, True, False, False]


class Mixing(GaussianDenoiser):
    """Each frame shows a little of what all frames of its window read."""

    def __call__(self, sample, timestep, context=None):
        return super().__call__(sample, timestep, context) + 0.1 * context.embeddings.mean()


@pytest.mark.parametrize("strategy", CHAINS)
def test_a_segment_shorter_than_a_window_does_not_read_the_prompt_behind_it(strategy):
    """Its window shows frames that are thrown away, but the network makes all of them together."""
    plan = SegmentPlan((Segment("a", frames=5), Segment("bbbb")), 5, strategy=strategy)
    other = replace(plan, segments=(plan.segments[0], Segment("c")))
    network = Mixing()
    first, second, alone = (
        segments(one, few(network=network)) for one in (plan, other, replace(plan, segments=plan.segments[:1]))
    )
    assert torch.equal(first[0].latents, alone[0].latents)
    assert same(first[:1], second[:1]) and not same(first[1:], second[1:])


class Frozen(GaussianDenoiser):
    """Stands still as soon as it is told more than one frame: what a network does that has learned to copy."""

    def __call__(self, sample, timestep, context=None):
        known = int((sample[0, 4, :, 0, 0] == 0).sum()) if sample.shape[1] > 4 else 0
        self.still = 0.999 if known > 1 else 0.6
        self._matrices.clear()
        return super().__call__(sample, timestep, context)


def test_a_segment_that_stands_still_is_made_again_with_fewer_known_frames():
    plan = plan_of(2, CONDITIONED, guarded=True)
    _, segment = segments(plan, ideal_model(Frozen()))
    assert segment.facts["attempt"] == 2 and segment.facts["overlap"] == 1
    assert segment.facts["motions"][0] < 0.5 * segment.facts["motions"][2]
    alone = segments(replace(plan, guarded=False), ideal_model(Frozen()))[1]
    assert alone.facts["motions"] == segment.facts["motions"][:1]


def test_memory_does_not_grow_with_what_is_done():
    """Latents that are done are read one at a time, and none is kept."""
    read = []

    def stored():
        for _ in range(100):
            latents = draw(12 if read else 16)
            read.append(weakref.ref(latents))
            yield latents
            del latents

    events = extend(few(), plan_of(101), done=stored())
    assert isinstance(next(events), Step)
    assert len(read) == 100
    assert sum(latents() is not None for latents in read) <= 1


REFUSED = [
    ({"plan": plan_of(1, seed=None)}, ["seed is None", "draw one"]),
    ({"plan": plan_of(1, CODENOISE), "start": draw(4)}, ["'codenoise'", "continues none"]),
    ({"start": torch.zeros(1, 4, 0, 16, 32)}, ["shape (1, 4, 0, 16, 32)", "1 × 4 × frames × 16 × 32"]),
    ({"start": torch.zeros(1, 4, 3, 8, 8)}, ["shape (1, 4, 3, 8, 8)"]),
    ({"done": [torch.zeros(1, 4, 15, 16, 32)]}, ["segment 1 has latents of shape (1, 4, 15, 16, 32)", "anew"]),
    ({"model": ideal_model(sampler="ddpm")}, ["'corrected' cannot use the sampler 'ddpm'", "ddim"]),
    ({"plan": plan_of(1, REPAINT), "model": ideal_model(sampler="unipc")}, ["'repaint'", "'unipc'", "ddim"]),
    ({"plan": plan_of(1, CODENOISE), "model": ideal_model(sampler="dpm++")}, ["'codenoise'", "'dpm++'"]),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_what_cannot_be_made_is_refused_before_anything_is_computed(values, words):
    model = values.get("model", ideal_model())
    arguments = {"model": model, "plan": plan_of(2), **values}
    with pytest.raises(RequestError) as caught:
        next(extend(**arguments))
    assert all(word in str(caught.value) for word in words)
    assert model.network.calls == 0
    assert model.sampling != Sampling()
