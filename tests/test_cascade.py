"""What the cascade tells and makes, for every subset of its stages."""

import numpy as np
import pytest
import torch

from lavie import Cascade, Interpolation, Sampling, SuperResolution, vae
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Finished, Notice, StageDone, StageStarted, Step
from lavie.request import SAMPLERS
from tests.cascades import finish, request

SUBSETS = [
    # interpolation, super-resolution, frames out, scale, rate
    (False, False, 4, 1, 1),
    (True, False, 13, 1, 4),
    (False, True, 4, 4, 1),
    (True, True, 13, 4, 4),
]


def test_without_a_folder_it_opens_nano_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Cascade.from_bundle(device="cpu").bundle.name == "Nano"


@pytest.mark.parametrize(("interpolate", "upscale", "frames", "scale", "rate"), SUBSETS)
def test_events_come_in_order_and_the_video_has_the_promised_shape(
    tiny_cascade, interpolate, upscale, frames, scale, rate
):
    events = list(tiny_cascade.generate(request(interpolate, upscale)))
    stages = [BASE] + [INTERPOLATION] * interpolate + [SUPER_RESOLUTION] * upscale
    expected = []
    for stage in stages:
        windows = 3 if stage == SUPER_RESOLUTION and interpolate else 1  # 8 frames each, 4 apart: 13 frames need 3
        expected += [(StageStarted, stage, 2 * windows)]
        expected += [(Step, stage, 2 * windows)] * 2 * windows
        expected += [(StageDone, stage, None)]
    told = [(type(event), event.stage, getattr(event, "steps", None)) for event in events[:-1]]
    assert told == expected
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.video.frames.shape == (frames, 16 * scale, 32 * scale, 3)
    assert finished.video.fps == 8 * rate
    assert finished.seconds > 0


def test_steps_are_counted_from_one_over_all_windows(tiny_cascade):
    events = tiny_cascade.generate(request(True, True))
    steps = [event for event in events if isinstance(event, Step) and event.stage == SUPER_RESOLUTION]
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6]


def test_a_preview_is_a_small_picture_of_every_frame_or_none_where_the_bundle_has_no_colours(tiny_cascade):
    steps = [event for event in tiny_cascade.generate(request(True, False)) if isinstance(event, Step)]
    assert steps[0].preview.shape == (4, 2, 4, 3)
    assert steps[0].preview.dtype == np.uint8
    assert steps[-1].preview is None


def test_latents_of_a_stage_are_handed_out_on_the_cpu(tiny_cascade):
    done = {e.stage: e.latents for e in tiny_cascade.generate(request(True, True)) if isinstance(e, StageDone)}
    assert {stage: tuple(latents.shape) for stage, latents in done.items()} == {
        BASE: (1, 4, 4, 2, 4),
        INTERPOLATION: (1, 4, 13, 2, 4),
        SUPER_RESOLUTION: (1, 4, 13, 16, 32),
    }
    assert all(latents.dtype == torch.float32 and latents.isfinite().all() for latents in done.values())


def test_a_video_is_the_decoded_latents_of_the_last_stage(tiny_cascade):
    *_, done, finished = tiny_cascade.generate(request(False, False))
    pieces = [vae.to_uint8(piece) for piece in vae.decode(tiny_cascade.bundle.load("vae", torch.float32), done.latents)]
    assert np.array_equal(torch.cat(pieces).numpy(), finished.video.frames)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_a_clip_of_its_own_twice_the_same(tiny_cascade, sampler):
    one, again, plain = (finish(tiny_cascade, request(base=Sampling(name, 3))) for name in (sampler, sampler, "ddim"))
    assert one.video.frame_hash == again.video.frame_hash
    assert (one.video.frame_hash == plain.video.frame_hash) == (sampler == "ddim")
    assert one.request.base == Sampling(sampler, 3, 3.0)


@pytest.mark.parametrize("sampler", ["euler", "dpm++", "unipc"])
def test_windowed_stages_run_with_every_sampler_allowed_for_them(tiny_cascade, sampler):
    sampling = Sampling(sampler, 2)
    asked = request(interpolation=Interpolation(sampling), super_resolution=SuperResolution(sampling))
    assert len(finish(tiny_cascade, asked).video) == 13


def test_guidance_and_negative_prompt_and_rescale_change_the_clip(tiny_cascade):
    asked = [
        request(),
        request(base=Sampling(guidance=1.0)),
        request(base=Sampling(guidance=9.0)),
        request(base=Sampling(rescale=0.7)),
        request(negative_prompt="a blue circle"),
        request(prompt="a blue circle"),
    ]
    assert len({finish(tiny_cascade, one).video.frame_hash for one in asked}) == len(asked)


def test_the_noise_level_changes_the_enlarged_clip(tiny_cascade):
    levels = [SuperResolution(noise_level=level) for level in (None, 20, 300)]
    hashes = [finish(tiny_cascade, request(super_resolution=level)).video.frame_hash for level in levels]
    assert hashes[0] == hashes[1] != hashes[2]


def test_interpolation_goes_on_from_the_latents_and_not_from_pictures(tiny_cascade, monkeypatch):
    calls = []
    for name in ("encode", "decode"):
        real = getattr(vae, name)
        monkeypatch.setattr(vae, name, lambda *a, real=real, name=name, **k: calls.append(name) or real(*a, **k))
    for event in tiny_cascade.generate(request(True, False)):
        if isinstance(event, StageDone) and event.stage == INTERPOLATION:
            assert calls == []
    assert set(calls) == {"decode"}


def test_words_that_were_cut_or_are_not_known_are_told_before_anything_runs(tiny_cascade):
    events = tiny_cascade.generate(request(prompt="a flurb " + "red " * 30, negative_prompt="a glarb"))
    first, second, third, fourth = (next(events) for _ in range(4))
    assert isinstance(first, Notice)
    assert "34 tokens of 24" in first.message
    assert "“flurb” in the prompt" in second.message
    assert "“glarb” in the negative prompt" in third.message
    assert isinstance(fourth, StageStarted)
