"""The same request gives the same pixels: after anything, in any order, in any chunks. Other seeds give others."""

import pytest
import torch

from lavie import Cascade, Sampling, vae
from lavie.events import INTERPOLATION, SUPER_RESOLUTION, StageDone, Step
from tests.cascades import clip, finish, small

WHOLE = {"interpolate": True, "upscale": True}


@pytest.fixture(scope="module")
def expected(one_level_cascade):
    return finish(one_level_cascade, small(**WHOLE)).video.frame_hash


def _hash(cascade: Cascade, **values) -> str:
    return finish(cascade, small(**{**WHOLE, **values})).video.frame_hash


def test_the_same_request_gives_the_same_frames_twice(one_level_cascade, expected):
    assert _hash(one_level_cascade) == expected


def test_a_fresh_cascade_gives_the_same_frames(one_level_bundle, expected):
    assert _hash(Cascade.from_bundle(one_level_bundle, device="cpu")) == expected


def test_requests_give_the_same_frames_in_any_order(one_level_cascade, expected):
    seeds = [1, 2, 3]
    forwards = [_hash(one_level_cascade, seed=seed) for seed in seeds]
    backwards = [_hash(one_level_cascade, seed=seed) for seed in reversed(seeds)]
    assert forwards == backwards[::-1]
    assert _hash(one_level_cascade) == expected
    assert len({expected, *forwards}) == 4


def test_requests_that_run_in_turns_do_not_disturb_each_other(one_level_cascade, expected):
    runs = [one_level_cascade.generate(small(**WHOLE, seed=seed)) for seed in (7, 8)]
    *_, lasts = zip(*runs, strict=True)
    assert [last.video.frame_hash for last in lasts] == [expected, _hash(one_level_cascade, seed=8)]


@pytest.mark.parametrize("stage", ["base", INTERPOLATION, SUPER_RESOLUTION])
def test_a_run_that_was_cancelled_in_the_middle_of_a_stage_leaves_no_trace(one_level_cascade, expected, stage):
    run = one_level_cascade.generate(small(**WHOLE, seed=99))
    for event in run:
        if isinstance(event, Step) and event.stage == stage:
            break
    run.close()
    assert _hash(one_level_cascade) == expected


def test_a_run_that_failed_leaves_no_trace(one_level_cascade, expected, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(vae, "to_uint8", broken)
        _hash(one_level_cascade)
    assert _hash(one_level_cascade) == expected


@pytest.mark.parametrize("kept", [["base"], [INTERPOLATION], ["base", INTERPOLATION], [SUPER_RESOLUTION]])
def test_going_on_from_kept_latents_gives_the_same_frames_and_runs_only_what_is_left(one_level_cascade, expected, kept):
    stages = ["base", INTERPOLATION, SUPER_RESOLUTION]
    whole = list(one_level_cascade.generate(small(**WHOLE)))
    latents = {event.stage: event.latents for event in whole if isinstance(event, StageDone)}
    resumed = list(one_level_cascade.generate(small(**WHOLE), done={stage: latents[stage] for stage in kept}))
    assert [event.stage for event in resumed if isinstance(event, StageDone)] == stages[stages.index(kept[-1]) + 1 :]
    assert resumed[-1].video.frame_hash == expected


def test_a_refined_source_goes_on_from_kept_latents_too(one_level_cascade):
    source = clip(5, 8, 16)
    whole = list(one_level_cascade.generate(small(**WHOLE), source))
    latents = {event.stage: event.latents for event in whole if isinstance(event, StageDone)}
    again = list(one_level_cascade.generate(small(**WHOLE), source, {INTERPOLATION: latents[INTERPOLATION]}))
    assert [event.stage for event in again if isinstance(event, StageDone)] == [SUPER_RESOLUTION]
    assert again[-1].video.frame_hash == whole[-1].video.frame_hash


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_global_generator_is_neither_used_nor_moved(one_level_bundle, sampler):
    """A fresh cascade: nor does loading draw from it."""
    hashes = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        cascade = Cascade.from_bundle(one_level_bundle, device="cpu")
        hashes.append(_hash(cascade, base=Sampling(sampler)))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert hashes[0] == hashes[1]


def test_another_seed_gives_other_frames_in_every_stage(one_level_cascade):
    source = clip(4, 8, 16)
    for stages in ({}, {"interpolate": True}, {"upscale": True}):
        given = source if stages else None
        hashes = {finish(one_level_cascade, small(**stages, seed=seed), given).video.frame_hash for seed in (1, 2)}
        assert len(hashes) == 2


def test_nothing_that_generate_leaves_behind_changes_the_callers_modes(one_level_cascade):
    run = one_level_cascade.generate(small())
    next(run)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    run.close()
