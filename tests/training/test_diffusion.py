"""What the networks learn from: every draw of a step is a function of the seed and the step."""

import pytest
import torch
from torch import nn

from lavie.sampling import EPSILON, PREDICTION_TYPES, SAMPLE, VELOCITY
from lavie.training.diffusion import CAPTION_DROPOUT, LatentSet, drop_captions, joint_loss, noise_loss, still_loss
from tests import tiny


@pytest.fixture(scope="module")
def networks() -> nn.ModuleDict:
    built = tiny.build_networks()
    return nn.ModuleDict({"unet": built["base"], "text_encoder": built["text_encoder"]})


def _media(frames: int, count: int = 5) -> LatentSet:
    generator = torch.Generator().manual_seed(frames)
    latents = torch.randn(count, 4, frames, 4, 4, generator=generator).half()
    return LatentSet(latents, torch.randint(3, 20, (count, 24), generator=generator))


EMPTY = torch.ones(24, dtype=torch.long)


@pytest.mark.parametrize("kind", ["still", "joint", "video only"])
def test_the_loss_of_a_step_depends_on_the_seed_and_the_step_alone(networks, kind):
    def build(seed):
        if kind == "still":
            return still_loss(networks, _media(1), EMPTY, 2, seed)
        return joint_loss(networks, _media(4), _media(1) if kind == "joint" else None, EMPTY, 2, seed)

    with torch.no_grad():
        one, other, again, reseeded = build(1)(7), build(1)(8), build(1)(7), build(2)(7)
    assert torch.equal(one, again)
    assert len({one.item(), other.item(), reseeded.item()}) == 3


def test_joint_training_adds_the_images_to_the_same_clips(networks):
    with torch.no_grad():
        alone = joint_loss(networks, _media(4), None, EMPTY, 2, 1)(7)
        joint = joint_loss(networks, _media(4), _media(1), EMPTY, 2, 1)(7)
    assert joint > alone


def test_stills_train_nothing_that_mixes_time(networks):
    networks.zero_grad()
    still_loss(networks, _media(1), EMPTY, 2, 1)(7).backward()
    temporal = [p for name, p in networks["unet"].named_parameters() if "_temp" in name]
    assert temporal
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in temporal)
    assert networks["unet"].conv_in.weight.grad.any()
    assert any(
        parameter.grad is not None and parameter.grad.any() for parameter in networks["text_encoder"].parameters()
    )
    networks.zero_grad()


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_a_network_that_knows_the_clean_latents_has_no_loss(kind):
    """Driven with clean latents of zero the noisy sample is √(1−ᾱ) · noise, and the velocity √ᾱ · noise."""
    from lavie.sampling import training_alphas

    def oracle(noisy, timestep, text):
        alpha = training_alphas()[timestep].view(-1, 1, 1, 1, 1)
        noise = noisy / (1 - alpha).sqrt()
        return {EPSILON: noise, VELOCITY: alpha.sqrt() * noise, SAMPLE: torch.zeros_like(noise)}[kind]

    clean = torch.zeros(3, 4, 2, 4, 4)
    loss = noise_loss(oracle, clean, None, torch.Generator().manual_seed(0), kind)
    assert loss.item() == pytest.approx(0, abs=1e-9)


def test_channels_beside_the_noise_come_behind_it():
    seen = []
    beside = torch.full((2, 4, 1, 4, 4), 9.0)

    def network(noisy, timestep, text, **conditions):
        seen.append((noisy, conditions))
        return noisy[:, :4]

    noise_loss(network, torch.zeros(2, 4, 1, 4, 4), None, torch.Generator(), beside=beside, class_labels=3)
    noisy, conditions = seen[0]
    assert torch.equal(noisy[:, 4:], beside)
    assert conditions == {"class_labels": 3}


def test_a_tenth_of_the_captions_is_emptied():
    tokens = torch.full((20_000, 24), 5)
    dropped = (drop_captions(tokens, EMPTY, torch.Generator().manual_seed(0)) == EMPTY).all(1)
    assert dropped.float().mean().item() == pytest.approx(CAPTION_DROPOUT, abs=0.01)


def test_media_are_drawn_with_their_own_captions_as_float32():
    media = LatentSet(torch.arange(50.0).view(50, 1, 1, 1, 1).half(), torch.arange(50).view(50, 1))
    latents, tokens = media.draw(200, torch.Generator().manual_seed(0))
    assert latents.dtype == torch.float32
    assert torch.equal(latents.flatten().long(), tokens.flatten())
    assert len(set(tokens.flatten().tolist())) > 40
