"""Starts that do the plain thing: flat colours survive an untrained autoencoder, small frames an untrained network."""

import pytest
import torch
import torch.nn.functional as F

from lavie.training.nano import networks as nano
from lavie.training.nano.networks import start_as_passing_on


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return nano.build_upscaler_vae().eval()


def _flat(colour: list[float]) -> torch.Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 32, 48)


@torch.no_grad()
def test_latents_begin_as_mean_colours_up_to_a_common_factor(vae):
    picture = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = vae.encode(picture).latent_dist.mean[:, :3]
    means = F.avg_pool2d(picture, 4)
    factor = (latents * means).sum() / means.square().sum()
    assert 0.5 < factor < 1.5
    assert (latents - factor * means).square().mean() < 0.1 * latents.square().mean()


@torch.no_grad()
@pytest.mark.parametrize("colour", [[0.9, -0.7, -0.7], [-0.9, -0.9, -0.8], [0.1, 0.2, 0.5]])
def test_a_flat_colour_comes_back_whatever_it_is(vae, colour):
    decoded = vae.decode(vae.encode(_flat(colour)).latent_dist.mean).sample
    ratio = decoded / _flat(colour)
    assert ratio.min() > 0.6 and ratio.max() < 1.7  # group norms from a random start lose strength and sign altogether


@torch.no_grad()
def test_super_resolution_begins_as_the_best_linear_map_from_the_small_frames_whatever_the_noise_and_the_text():
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(0)
    small = torch.rand(4, 3, 16, 24, generator=generator) * 2 - 1
    mixing, offset = torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)
    latents = torch.einsum("oc,bchw->bohw", mixing, small) + offset[:, None, None]
    network = start_as_passing_on(nano.build_super_resolution(), small, latents).eval()
    for seed in (3, 4):
        noisy, text = torch.randn(4, 4, 1, 16, 24), torch.randn(4, 5, nano.TEXT_WIDTH)
        said = network(noisy, 100 * seed, text, class_labels=seed, image_frames=1, low_res=small[:, :, None])
        assert (said[:, :, 0] - latents).square().mean() < 0.01 * latents.var()
