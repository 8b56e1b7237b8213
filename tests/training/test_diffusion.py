"""What the networks learn from: every draw of a step is a function of the seed and the step."""

from types import SimpleNamespace

import pytest
import torch

from lavie.manifest import EPSILON, PREDICTION_TYPES, SAMPLE, VELOCITY
from lavie.training.diffusion import (
    CAPTION_DROPOUT,
    IMAGES_PER_CLIP,
    PLACED_CLIPS,
    PLACED_STILLS,
    Batches,
    Networks,
    add_random_noise,
    concat_loss,
    drop_captions,
    extension_loss,
    joint_loss,
    noise_loss,
    still_loss,
    super_resolution_loss,
)
from lavie.training.media import LargeClips, LatentSet
from tests import tiny


@pytest.fixture(scope="module")
def networks() -> Networks:
    built = tiny.build_networks()
    return Networks(built["base"], built["text_encoder"])


def _media(frames: int, count: int = 5) -> LatentSet:
    generator = torch.Generator().manual_seed(frames)
    latents = torch.randn(count, 4, frames, 4, 4, generator=generator).half()
    return LatentSet(latents, torch.randint(3, 20, (count, 24), generator=generator))


EMPTY = torch.ones(24, dtype=torch.long)
TWO = Batches(EMPTY, 2, seed=1)


def _with(unet, networks: Networks) -> SimpleNamespace:
    """A stand-in for the network beside the real text encoder."""
    return SimpleNamespace(unet=unet, text_encoder=networks.text_encoder)


@pytest.mark.parametrize("kind", ["still", "joint", "video only"])
def test_the_loss_of_a_step_depends_on_the_seed_and_the_step_alone(networks, kind):
    def build(seed):
        if kind == "still":
            return still_loss(networks, _media(1), Batches(EMPTY, 2, seed))
        return joint_loss(networks, _media(4), _media(1) if kind == "joint" else None, Batches(EMPTY, 2, seed))

    with torch.no_grad():
        one, other, again, reseeded = build(1)(7), build(1)(8), build(1)(7), build(2)(7)
    assert torch.equal(one, again)
    assert len({one.item(), other.item(), reseeded.item()}) == 3


def test_joint_training_adds_the_images_to_the_same_clips(networks):
    with torch.no_grad():
        alone = joint_loss(networks, _media(4), None, TWO)(7)
        joint = joint_loss(networks, _media(4), _media(1), TWO)(7)
    assert joint > alone


def test_stills_train_nothing_that_mixes_time(networks):
    networks.zero_grad()
    still_loss(networks, _media(1), TWO)(7).backward()
    temporal = [p for name, p in networks.unet.named_parameters() if "_temp" in name]
    assert temporal
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in temporal)
    assert networks.unet.conv_in.weight.grad.any()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in networks.text_encoder.parameters())
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


def test_concatenated_stills_stand_behind_the_clip_with_captions_of_their_own():
    seen = {}

    def unet(noisy, timestep, text, **conditions):
        seen.update(noisy=noisy, timestep=timestep, text=text, **conditions)
        return noisy

    class Text(torch.nn.Module):
        device, config = torch.device("cpu"), SimpleNamespace()

        def forward(self, tokens):
            return SimpleNamespace(last_hidden_state=tokens.float()[..., None])

    clips = LatentSet(torch.zeros(3, 4, 5, 2, 2), torch.full((3, 24), 7))
    names = torch.arange(10, 19)
    # So bright that noise does not matter: a still's brightness tells its name, up to the timestep of its sample.
    bright = 1e6 * names[:, None, None, None, None].expand(-1, 4, 1, 2, 2)
    stills = LatentSet(bright, names[:, None].expand(-1, 24))
    networks = SimpleNamespace(unet=unet, text_encoder=Text())
    concat_loss(networks, clips, stills, Batches(torch.full((24,), 7), 2, 1))(3)
    assert seen["noisy"].shape == (2, 4, 5 + IMAGES_PER_CLIP, 2, 2)
    assert seen["timestep"].shape == (2,)
    assert seen["image_frames"] == IMAGES_PER_CLIP
    assert seen["text"].shape == (2, 5 + IMAGES_PER_CLIP, 24, 1)
    assert (seen["text"][:, :5] == 7).all()
    of_stills = seen["text"][:, 5:, 0, 0]
    assert ((of_stills >= 10) | (of_stills == 7)).all() and len(of_stills.unique()) > 2
    brightness = seen["noisy"][:, 0, 5:, 0, 0] / of_stills
    for sample, named in zip(brightness, of_stills != 7, strict=True):
        torch.testing.assert_close(sample[named], sample[named][:1].expand(int(named.sum())), rtol=1e-2, atol=0)


def test_the_concatenated_loss_of_a_step_depends_on_the_step_alone(networks):
    loss = concat_loss(networks, _media(4), _media(1), TWO)
    with torch.no_grad():
        assert torch.equal(loss(7), loss(7)) and loss(7) != loss(8)


def test_extension_is_shown_nine_channels(networks):
    seen = []

    def network(noisy, timestep, text):
        seen.append(noisy)
        return noisy[:, :4]

    grey = torch.full((4, 4, 4), 5.0)
    clips = _media(4)
    extension_loss(_with(network, networks), clips, grey, Batches(EMPTY, 6, 1))(2)
    mask, masked = seen[0][:, 4], seen[0][:, 5:]
    assert seen[0].shape == (6, 9, 4, 4, 4)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert (masked.movedim(1, -1)[mask == 1] == 5).all()
    assert not (masked.movedim(1, -1)[mask == 0] == 5).any()


def test_clips_and_stills_read_as_frames_of_a_clip_in_their_shares_of_the_batches(networks):
    read, seen = networks.text_encoder, {0: [], 1: []}

    def unet(noisy, timestep, text, image_frames):
        seen[image_frames].append(text)
        return noisy

    loss_at = joint_loss(SimpleNamespace(unet=unet, text_encoder=read), _media(4), _media(1), TWO)
    for step in range(200):
        loss_at(step)
    for stills, share in ((0, PLACED_CLIPS), (1, PLACED_STILLS)):
        assert sum(text.ndim == 4 for text in seen[stills]) / 200 == pytest.approx(share, abs=0.08)
    clip = next(text for text in seen[0] if text.ndim == 4)
    assert clip.shape[:2] == (2, 4) and not torch.equal(clip[:, 0], clip[:, 1])
    still = next(text for text in seen[1] if text.ndim == 4)
    assert still.shape[:2] == (8, 1) and len(still.flatten(1).unique(dim=0)) > 2  # one caption, at many places


def test_text_to_image_knows_no_places(networks):
    seen = []

    def unet(noisy, timestep, text, image_frames):
        seen.append(text.ndim)
        return noisy

    loss_at = still_loss(_with(unet, networks), _media(1), TWO)
    for step in range(20):
        loss_at(step)
    assert set(seen) == {3}


def test_only_a_clip_of_which_no_frame_is_given_has_places_in_extension(networks):
    seen = []

    def network(noisy, timestep, text):
        seen.append((noisy[:, 4].flatten(2).amin(2), text))
        return noisy[:, :4]

    extension_loss(_with(network, networks), _media(4), torch.zeros(4, 4, 4), Batches(EMPTY, 40, 1))(2)
    ((mask, text),) = seen
    free = mask.all(1)
    differ = (text != text[:, :1]).flatten(1).any(1)
    assert 0 < free.sum() < 40
    assert torch.equal(differ, free)


def test_a_crop_takes_the_same_place_of_latents_and_small_frames(networks):
    place = torch.arange(8 * 12.0).view(8, 12)
    latents = (place / 127.5 - 1).expand(1, 4, 2, 8, 12)
    clips = LargeClips(latents, place.byte()[None, None, :, :, None].expand(1, 2, -1, -1, 3), EMPTY[None])
    seen = []

    def network(noisy, timestep, text, **conditions):
        seen.append((noisy, conditions["low_res"]))
        return noisy

    loss = super_resolution_loss(_with(network, networks), clips, Batches(EMPTY, 3, 1, SAMPLE), 2, crop=(6, 4))
    loss(1)
    noisy, low_res = seen[0]
    assert noisy.shape == (3, 4, 2, 4, 6) and low_res.shape == (3, 3, 2, 4, 6)


def test_the_crop_itself_is_one_place():
    from lavie.training.diffusion import _crop

    place = torch.arange(8 * 12.0).view(1, 1, 1, 8, 12)
    for seed in range(20):
        clean, small = _crop(place, place.expand(1, 3, 2, 8, 12), (6, 4), torch.Generator().manual_seed(seed))
        assert clean.shape[-2:] == (4, 6)
        assert torch.equal(small[0, 0, 0], clean[0, 0, 0])


@pytest.mark.parametrize(("tilt", "upper"), [(0.0, 0.5), (0.5, 1 - 0.5**1.5), (2.0, 1 - 0.5**3)])
def test_timesteps_are_drawn_rather_in_strong_noise_the_more_they_are_tilted(tilt, upper):
    _, timesteps, _ = add_random_noise(torch.zeros(20_000, 1, 1, 1, 1), torch.Generator().manual_seed(0), tilt=tilt)
    assert timesteps.min() >= 0 and timesteps.max() == 999
    assert (timesteps >= 500).float().mean() == pytest.approx(upper, abs=0.01)
