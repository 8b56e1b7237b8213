"""Latents are brought to mean 0 and deviation 1 without changing what the autoencoder does."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from lavie import vae as companion
from lavie.training.diffusion import normalise_latents, vae_loss


@pytest.fixture(scope="module")
def original() -> AutoencoderKL:
    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # units far from 0 and 1, different in every channel
        model.quant_conv.weight *= torch.tensor([0.1, 1.0, 5.0, 20.0] * 2)[:, None, None, None]
        model.quant_conv.bias += torch.tensor([1.0, -2.0, 3.0, 10.0, -6.0, -5.0, -4.0, -3.0])
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def batches() -> list[torch.Tensor]:
    pictures = torch.rand(12, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return list((pictures * torch.linspace(0.1, 1, 12)[:, None, None, None]).split(4))


@pytest.fixture
def normalised(original, batches) -> AutoencoderKL:
    model = copy.deepcopy(original)
    normalise_latents(model, iter(batches))
    return model


def _means(model, batches) -> torch.Tensor:
    return torch.cat([model.encode(batch).latent_dist.mean for batch in batches])


def test_every_channel_gets_mean_zero_and_deviation_one(original, normalised, batches):
    before, after = (_means(model, batches).transpose(0, 1).flatten(1) for model in (original, normalised))
    assert before.mean(1).abs().max() > 1
    torch.testing.assert_close(after.mean(1), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.std(1), torch.ones(4), atol=1e-3, rtol=0)


def test_encoding_and_decoding_together_stay_what_they_were(original, normalised, batches):
    for batch in batches:
        pictures = [model.decode(model.encode(batch).latent_dist.mode()).sample for model in (original, normalised)]
        torch.testing.assert_close(pictures[1], pictures[0], atol=2e-4, rtol=1e-4)


def test_draws_of_the_posterior_decode_to_what_they_did(original, normalised, batches):
    pictures = []
    for model in (original, normalised):
        posterior = model.encode(batches[0]).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(2))
        pictures.append(model.decode(posterior.mean + posterior.std * noise).sample)
    torch.testing.assert_close(pictures[1], pictures[0], atol=2e-4, rtol=1e-4)


def test_no_scaling_factor_is_needed_any_more(normalised, batches):
    assert normalised.config.scaling_factor == 1.0
    frames = batches[0][None].transpose(1, 2)
    latents = companion.encode(normalised, frames)
    torch.testing.assert_close(latents[0].transpose(0, 1), normalised.encode(batches[0]).latent_dist.mode())


def test_normalising_twice_changes_nothing_more(normalised, batches):
    again = copy.deepcopy(normalised)
    normalise_latents(again, iter(batches))
    torch.testing.assert_close(_means(again, batches), _means(normalised, batches), atol=1e-4, rtol=1e-4)


def test_the_loss_depends_on_the_step_alone(original, batches):
    loss_at = vae_loss(original, lambda step: batches[step % 3], seed=5)
    one, other, again = loss_at(1), loss_at(2), loss_at(1)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, vae_loss(original, lambda step: batches[step % 3], seed=6)(1))
