"""A video that the conditioned network goes on with opens with the base stage's own clip."""

from dataclasses import replace

import pytest
import torch

from extensions.long_video.base_frames import SegmentDone
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import CONDITIONED, CORRECTED, Segment, SegmentPlan
from extensions.long_video.resolve import resolve
from lavie import Cascade
from lavie.errors import RequestError
from lavie.events import BASE, StageDone, Step
from lavie.request import Sampling
from tests.cascades import request, with_extension
from tests.extensions.long_video.films import PROVENANCE, Memory, begun, finished, plan_of

GUIDED = Sampling(steps=3, guidance=4.0)


def film_of(
    cascade: Cascade, plan: SegmentPlan, kept=None, start=None, provenance=PROVENANCE, **values
) -> LongVideoPipeline:
    return LongVideoPipeline(
        cascade, *resolve(cascade, request(**values), plan), start, {} if kept is None else kept, provenance
    )


def first_segment(made: LongVideoPipeline) -> torch.Tensor:
    return next(event.latents for event in made.make() if isinstance(event, SegmentDone))


def base_clip(cascade: Cascade, **values) -> torch.Tensor:
    done = (event for event in cascade.generate(request(**values)) if isinstance(event, StageDone))
    return next(event.latents for event in done if event.stage == BASE).float().cpu()


@pytest.mark.parametrize("sampling", [Sampling(), GUIDED])
def test_the_first_segment_is_the_clip_of_the_base_stage_bit_for_bit(extending, sampling):
    values = {"base": sampling, "negative_prompt": "a blue circle"}
    made = first_segment(film_of(extending, plan_of(2), **values))
    assert torch.equal(made, base_clip(extending, **values))


def test_a_first_segment_of_several_windows_begins_with_that_clip(extending):
    made = first_segment(film_of(extending, SegmentPlan((Segment("a red star", frames=7),))))
    clip = base_clip(extending)
    assert made.shape[2] == 7 and torch.equal(made[:, :, : clip.shape[2]], clip)


def test_guidance_is_the_one_asked_for_else_the_base_networks_own(extending):
    own = extending.bundle.defaults[BASE].sampling.guidance
    _, plan = resolve(extending, request(), plan_of(2))
    assert (plan.strategy, plan.opening) == (CONDITIONED, own)
    asked, guided = resolve(extending, request(base=GUIDED), plan_of(2))
    assert (asked.base.guidance, guided.opening) == (4.0, 4.0)
    assert resolve(extending, asked, plan)[1] == plan  # what is decided stays
    assert resolve(extending, request(), plan_of(2, strategy=CORRECTED))[1].opening is None


def test_a_plan_that_says_no_opening_is_made_by_one_network(extending):
    asked, plan = resolve(extending, request(), plan_of(2))
    made = LongVideoPipeline(extending, asked, replace(plan, opening=None), None, {}, PROVENANCE)
    assert made.base_frames.opening is None
    assert not torch.equal(first_segment(made), base_clip(extending))


def test_frames_that_are_continued_need_no_opening(extending):
    made = film_of(extending, plan_of(2), start=begun(3))
    assert made.base_frames.opening is None
    list(made.make())
    assert extending.bundle.defaults[BASE].sampling.guidance == made.plan.opening  # decided, and of no use here


@pytest.mark.parametrize("start", [None, 3])
def test_steps_are_counted_to_the_last(extending, start):
    made = film_of(extending, plan_of(3), start=start and begun(start))
    steps = [event for event in made.make() if isinstance(event, Step)]
    assert [step.index for step in steps] == list(range(1, steps[-1].steps + 1))


def test_what_is_kept_is_gone_on_from_without_the_base_network(tiny_bundle, tmp_path):
    folder = with_extension(tiny_bundle, tmp_path / "extending")
    kept = Memory()
    whole = finished(film_of(Cascade.from_bundle(folder, device="cpu"), plan_of(3), kept))
    del kept[film_of(Cascade.from_bundle(folder, device="cpu"), plan_of(3)).keys[1]]
    fresh = Cascade.from_bundle(folder, device="cpu")
    assert finished(film_of(fresh, plan_of(3), kept)) == whole
    assert BASE not in fresh.loaded


def test_keys_stand_on_the_weights_of_both_networks(extending):
    def keys_with(folder: str, start=None) -> list[str]:
        weights = {f"{folder}/weights.safetensors": "other"}
        return film_of(extending, plan_of(2), start=start, provenance={**PROVENANCE, "weights": weights}).keys

    plain = film_of(extending, plan_of(2)).keys
    for folder in (BASE, "extension"):
        assert not set(keys_with(folder)) & set(plain)
    continued = film_of(extending, plan_of(2), start=begun(3)).keys
    assert keys_with(BASE, begun(3)) == continued


def test_guidance_of_the_opening_has_limits():
    for wrong in (-1, 51, float("nan"), "2"):
        with pytest.raises(RequestError, match="opening"):
            plan_of(2, opening=wrong)
