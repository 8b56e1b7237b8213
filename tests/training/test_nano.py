"""Nano's recipe at toy amounts: every stage runs, resumes as done, and leaves a bundle that the cascade plays."""

import numpy as np
import pytest
import torch

from lavie import Cascade, Finished, Interpolation, Request, SuperResolution
from lavie.training.nano import networks as nano
from lavie.training.nano.data import picture_batches, random_staging
from lavie.training.nano.recipe import Amounts, Recipe

MEGABYTES = 60
FEW = Amounts(
    vae_steps=2,
    upscaler_vae_steps=2,
    still_steps=2,
    video_steps=1,
    interpolation_steps=1,
    extension_steps=1,
    super_resolution_still_steps=1,
    super_resolution_steps=1,
    upscaler_decoder_steps=1,
    large_stills=8,
    stills=4,
    unseen=2,
    unseen_clips=1,
    clips=2,
    long_clips=1,
    endless_clips=1,
    large_clips=1,
)


def test_all_weights_fit_the_budget():
    networks = [
        nano.build_frame_vae(),
        nano.build_upscaler_vae(),
        nano.build_network(),
        nano.build_network(in_channels=9),
        nano.build_interpolation(),
        nano.build_super_resolution(),
    ]
    in_float16 = 2 * sum(p.numel() for network in networks for p in network.parameters())
    assert in_float16 <= MEGABYTES * 1e6


def test_an_inflated_network_begins_as_the_image_network_it_was():
    torch.manual_seed(0)
    network = nano.start_time_at_zero(nano.build_network()).eval()
    still, text = torch.randn(1, 4, 1, 8, 12), torch.randn(1, 5, nano.TEXT_WIDTH)
    frozen = still.expand(-1, -1, 3, -1, -1)  # a clip in which nothing moves has the still's statistics
    with torch.no_grad():
        moving, expected = network(frozen, 500, text), network(still, 500, text, image_frames=1)
    torch.testing.assert_close(moving, expected.expand_as(moving))


def test_new_input_channels_start_at_zero():
    parent, child = nano.build_network(), nano.build_network(in_channels=9)
    nano.inherit(child, parent.state_dict())
    noisy, beside = torch.randn(1, 4, 2, 8, 12), torch.randn(1, 5, 2, 8, 12)
    text = torch.randn(1, 5, nano.TEXT_WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(child(torch.cat([noisy, beside], 1), 9, text), parent(noisy, 9, text))


def test_pictures_depend_on_the_step_alone_and_end_with_whole_frames():
    batches = picture_batches(64, 96, crop=40, crops=3, whole=2, seed=1, only_whole_from=5)
    assert batches(1).shape == (3, 3, 40, 40)
    assert batches(6).shape == batches(7).shape == (2, 3, 64, 96)
    torch.testing.assert_close(batches(3), batches(3))
    assert batches(1).min() >= -1 and batches(1).max() <= 1


def test_nothing_held_out_is_in_a_training_clip():
    scenes = [random_staging(1, index, held_out=False).scene for index in range(200)]
    assert not any(scene.held_out for scene in scenes)
    assert any(random_staging(1, index, held_out=True).scene.held_out for index in range(50))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    recipe = Recipe(tmp_path_factory.mktemp("nano"), FEW, compiled=False)
    for stage in recipe.stages():
        assert [progress.step for progress in recipe.run(stage)][-1:] != []
    return recipe


@pytest.mark.slow
def test_a_stage_that_is_done_is_not_done_again(trained):
    assert list(trained.run("vae")) == []


@pytest.mark.slow
def test_a_stage_that_is_given_is_not_trained_and_stays_as_it_is(trained, tmp_path):
    recipe = Recipe(tmp_path / "work", FEW, given=trained.work, compiled=False)
    assert list(recipe.run("vae")) == [] and not (tmp_path / "work").exists()
    there = trained.work / "vae" / "model.safetensors"
    before = there.read_bytes()
    torch.testing.assert_close(
        recipe.load_autoencoder("vae").state_dict(), trained.load_autoencoder("vae").state_dict()
    )
    alone = Recipe(tmp_path / "work", FEW, given=tmp_path / "nothing", compiled=False)
    assert [progress.step for progress in alone.run("vae")]
    assert there.read_bytes() == before and (tmp_path / "work" / "vae" / "model.safetensors").is_file()


@pytest.mark.slow
def test_latents_are_white(trained):
    latents = trained.load_or_encode("stills", FEW.stills, clips=False).latents
    assert latents.shape == (FEW.stills, 4, 1, 8, 12)
    assert trained.load_autoencoder("vae").config.scaling_factor == 1.0


@pytest.mark.slow
def test_the_bundle_plays(trained, tmp_path):
    trained.write(tmp_path / "nano")
    cascade = Cascade.from_bundle(tmp_path / "nano", device="cpu")
    request = Request("a red star", seed=1, frames=2, interpolation=Interpolation(), super_resolution=SuperResolution())
    finished = next(event for event in _few_steps(cascade, request) if isinstance(event, Finished))
    assert finished.video.frames.shape == (5, 256, 384, 3)
    assert np.ptp(finished.video.frames) > 0


def _few_steps(cascade, request):
    from dataclasses import replace

    from lavie import Sampling

    few = Sampling(steps=1)
    return cascade.generate(
        replace(
            request, base=few, interpolation=Interpolation(few), super_resolution=SuperResolution(few, noise_level=20)
        )
    )
