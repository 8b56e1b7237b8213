"""Frames and latents: the same numbers whatever the slice, and never a draw."""

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor

from lavie import vae


def build(attention: bool) -> AutoencoderKL:
    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
        mid_block_add_attention=attention,
    )
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def model():
    return vae.prepare(build(attention=True))


def _frames(count: int, height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.rand(1, 3, count, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("at_once", [1, 7, 60, 1000])
def test_chunked_attention_equals_plain_attention_inside_the_autoencoder(monkeypatch, at_once):
    """60 tokens at 6×10 latents: chunks of 1 query, chunks that do not divide, all at once, and more than there are."""
    plain, chunked = build(attention=True), vae.prepare(build(attention=True))
    plain.set_attn_processor(AttnProcessor())
    called = []
    attend = vae.attend_in_chunks
    monkeypatch.setattr(vae, "ATTENTION_CHUNKED_FROM", 16)
    monkeypatch.setattr(vae, "SCORES_AT_ONCE", 60 * at_once)
    monkeypatch.setattr(vae, "attend_in_chunks", lambda *heads: called.append(heads[0].shape) or attend(*heads))
    pixels = _frames(2)[0].transpose(0, 1)
    latents = plain.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(chunked.encode(pixels).latent_dist.mode(), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chunked.decode(latents).sample, plain.decode(latents).sample, atol=1e-5, rtol=1e-5)
    assert called == [(2, 1, 60, 16)] * 2


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("limit", [2, 10**6], ids=["in chunks", "at once"])
def test_attention_is_softmax_of_the_scaled_scores(monkeypatch, heads, limit):
    monkeypatch.setattr(vae, "ATTENTION_CHUNKED_FROM", limit)
    monkeypatch.setattr(vae, "SCORES_AT_ONCE", 7 * 4)
    queries, keys, values = torch.randn(3, 2, heads, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = (queries @ keys.transpose(2, 3) / 5**0.5).softmax(-1) @ values
    torch.testing.assert_close(vae.attend_in_chunks(queries, keys, values), expected)


def test_chunks_hold_no_more_scores_than_allowed(monkeypatch):
    monkeypatch.setattr(vae, "ATTENTION_CHUNKED_FROM", 1)
    monkeypatch.setattr(vae, "SCORES_AT_ONCE", 100)
    seen, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda self, dim: seen.append(self.numel()) or softmax(self, dim))
    queries, keys, values = torch.randn(3, 1, 1, 40, 4, generator=torch.Generator().manual_seed(0))
    vae.attend_in_chunks(queries, keys, values)
    assert sum(seen) == 40 * 40
    assert max(seen) <= 100


@pytest.mark.parametrize("attention", [True, False])
def test_preparing_changes_no_weight(attention):
    before, after = build(attention).state_dict(), vae.prepare(build(attention)).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("part", [slice(0, 1), slice(2, 5), slice(6, 7)])
def test_a_frames_latents_are_the_same_bits_whatever_frames_are_beside_it(model, part):
    whole = vae.encode(model, _frames(7))
    assert whole.shape == (1, 4, 7, 6, 10)
    assert torch.equal(vae.encode(model, _frames(7)[:, :, part]), whole[:, :, part])


@pytest.mark.parametrize("part", [slice(0, 1), slice(2, 5), slice(6, 7)])
def test_a_decoded_frame_is_the_same_bits_whatever_frames_are_beside_it(model, part):
    latents = vae.encode(model, _frames(7))
    frames = torch.cat(list(vae.decode(model, latents)))
    assert frames.shape == (7, 3, 12, 20)
    assert torch.equal(torch.cat(list(vae.decode(model, latents[:, :, part]))), frames[part])


def test_decoding_makes_one_frame_at_a_time(model, monkeypatch):
    asked, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda part: asked.append(len(part)) or decode(part))
    pieces = vae.decode(model, torch.zeros(1, 4, 5, 6, 10))
    next(pieces)
    assert asked == [1]


def test_encoding_takes_the_posteriors_mode_and_never_a_draw(model):
    frames = _frames(2)
    posterior = model.encode(frames[0].transpose(0, 1)).latent_dist
    latents = vae.encode(model, frames)
    torch.testing.assert_close(latents[0].transpose(0, 1), posterior.mean * 0.5)
    assert posterior.std.min() > 1e-3
    state = torch.random.get_rng_state()
    assert torch.equal(vae.encode(model, frames), latents)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_scaling_factor_is_taken_in_on_the_way_in_and_out_on_the_way_back(model):
    latents = torch.randn(1, 4, 1, 6, 10, generator=torch.Generator().manual_seed(0))
    (decoded,) = vae.decode(model, latents)
    torch.testing.assert_close(decoded, model.decode(latents[:, :, 0] / 0.5).sample.clamp(-1, 1))


def test_clips_of_a_batch_are_encoded_each_for_itself(model):
    both = torch.cat([_frames(3), -_frames(3)])
    alone = torch.cat([vae.encode(model, clip[None]) for clip in both])
    torch.testing.assert_close(vae.encode(model, both), alone, atol=1e-6, rtol=1e-6)


def test_decoded_frames_stay_within_the_range_of_pixels(model):
    (decoded,) = vae.decode(model, torch.full((1, 4, 1, 6, 10), 100.0))
    assert decoded.abs().max() <= 1


def test_every_byte_survives_the_way_to_floats_and_back():
    """The way in is Cascade's: byte / 127.5 − 1."""
    bytes_ = torch.arange(256, dtype=torch.uint8)
    frames = (bytes_.float() / 127.5 - 1).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert torch.equal(vae.to_uint8(frames)[1, :, :, 2].flatten(), bytes_)


@pytest.mark.parametrize(
    ("value", "byte"),
    [(-1.0, 0), (1.0, 255), (-7.0, 0), (7.0, 255), (0.0, 128), (0.6 / 127.5 - 1, 1), (0.4 / 127.5 - 1, 0)],
)
def test_values_are_rounded_to_the_nearest_byte_and_clamped(value, byte):
    frames = vae.to_uint8(torch.full((1, 3, 2, 4), value))
    assert frames.dtype == torch.uint8
    assert frames.shape == (1, 2, 4, 3)
    assert set(frames.flatten().tolist()) == {byte}
