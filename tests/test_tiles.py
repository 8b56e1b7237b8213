"""Pieces cover a picture, and put together they are that picture."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from lavie import vae
from lavie.bundle import Bundle
from lavie.layers import TextContext
from lavie.manifest import UPSCALER_VAE
from lavie.stages.super_resolution import InPieces
from lavie.tiles import in_pieces, largest, spans
from tests.test_vae import build

LENGTHS = [1, 15, 16, 17, 31, 32, 33, 64, 100, 128, 320, 500, 512, 2048]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("tile", "multiple"), [(16, 1), (16, 2), (64, 8), (128, 8), (100, 8), (512, 1)])
def test_pieces_are_of_one_size_cover_everything_and_overlap(length, tile, multiple):
    found = spans(length, tile, multiple)
    if length <= tile:
        assert found == [(0, length)]
        return
    assert found[0][0] == 0 and found[-1][1] == length
    assert {end - start for start, end in found} == {largest(length, tile, multiple)}
    assert largest(length, tile, multiple) <= -(-tile // multiple) * multiple
    assert all(before[1] > after[0] >= before[0] for before, after in itertools.pairwise(found))
    if length % multiple == 0:
        assert all(start % multiple == 0 == (end - start) % multiple for start, end in found)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("size", [(40, 64), (33, 17), (16, 90)])
def test_pieces_of_what_looks_at_single_pixels_are_the_whole_picture(size, scale):
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))

    def compute(rows, columns):
        return picture[..., rows, columns].repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    whole = compute(slice(None), slice(None))
    torch.testing.assert_close(in_pieces(size, 16, compute, scale=scale), whole, atol=1e-6, rtol=1e-6)


def test_one_piece_is_computed_once_and_handed_on_untouched():
    given = torch.rand(1, 3, 8, 12, dtype=torch.float64)
    called = []

    def compute(rows, columns):
        called.append((rows, columns))
        return given

    assert in_pieces((8, 12), 12, compute) is given
    assert called == [(slice(None), slice(None))]


def test_where_two_pieces_disagree_the_one_fades_into_the_other():
    levels = iter([0.0, 1.0])
    joined = in_pieces((4, 28), 16, lambda rows, columns: torch.full((4, columns.stop - columns.start), next(levels)))
    row = joined[0]
    assert row[0] == 0 and row[-1] == 1
    steps = row.diff()
    assert (steps >= 0).all() and steps.max() < 0.5 and ((row > 0) & (row < 1)).sum() >= 2


def _local(module: torch.nn.Module) -> torch.nn.Module:
    """The same without normalisation, which looks at a whole picture: what is left sees a few pixels around each."""
    for name, child in list(module.named_children()):
        if isinstance(child, torch.nn.GroupNorm):
            setattr(module, name, torch.nn.Identity())
        else:
            _local(child)
    return module


@pytest.fixture(scope="module")
def autoencoder():
    return vae.prepare(build(attention=True))


def _smooth(height: int, width: int) -> torch.Tensor:
    """Latents 1 4 1 h w that change slowly."""
    down, across = torch.linspace(0, 6, height)[:, None], torch.linspace(0, 9, width)
    waves = [down.sin() + 0 * across, 0 * down + across.cos(), (down + across).sin(), down.cos() * across.sin()]
    return 0.2 * torch.stack(waves)[None, :, None]


def test_in_pieces_an_autoencoder_decodes_smooth_content_as_at_once():
    local, latents = _local(build(attention=False)), _smooth(64, 96)
    (whole,), (pieces,) = vae.decode(local, latents), vae.decode(local, latents, tile=64)
    assert pieces.shape == whole.shape and not torch.equal(pieces, whole)
    assert (pieces - whole).abs().mean() < 1e-3
    assert (pieces - whole).abs().max() < 0.02


def test_normalised_by_piece_a_trained_autoencoder_still_shows_the_same_picture():
    trained = Bundle("assets/nano").load(UPSCALER_VAE, torch.float32)
    down, across = torch.linspace(-0.8, 0.8, 128)[:, None], torch.linspace(-0.8, 0.8, 192)
    picture = torch.stack([down + 0 * across, 0 * down + across, down * across])[None, :, None]
    with torch.inference_mode():
        latents = vae.encode(trained, picture)
        (whole,), (pieces,) = vae.decode(trained, latents), vae.decode(trained, latents, tile=64)
    assert (whole - picture[:, :, 0]).abs().mean() < 0.02
    assert (pieces - picture[:, :, 0]).abs().mean() < 0.05


def test_a_piece_that_covers_the_frame_decodes_the_same_bits(autoencoder):
    latents = _smooth(20, 32)
    assert torch.equal(next(vae.decode(autoencoder, latents, tile=64)), next(vae.decode(autoencoder, latents)))


def test_decoding_sees_no_more_than_a_piece_at_once(autoencoder, monkeypatch):
    seen, decode = [], autoencoder.decode
    monkeypatch.setattr(autoencoder, "decode", lambda part: seen.append(tuple(part.shape[2:])) or decode(part))
    list(vae.decode(autoencoder, _smooth(64, 96), tile=64))
    assert len(seen) > 4 and max(map(max, seen)) <= 32


class _Blur:
    """Called like the super-resolution network; each pixel is the mean of those around it."""

    config = SimpleNamespace(block_out_channels=(1, 1))

    def __init__(self):
        self.seen = []

    def __call__(self, sample, timestep, context, *, low_res, class_labels):
        self.seen.append(tuple(sample.shape[3:]))
        assert sample.shape[3:] == low_res.shape[3:] and class_labels == 20
        both = sample + low_res.mean(1, keepdim=True)
        return torch.nn.functional.avg_pool3d(both, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)


def test_super_resolution_in_pieces_is_super_resolution_at_once():
    latents = _smooth(32, 48).expand(2, 4, 3, 32, 48)
    blur = _Blur()
    given = {"low_res": latents[:, :3], "class_labels": 20}
    (whole, pieces) = (called(latents, 0, None, **given) for called in (blur, InPieces(blur, 16)))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
    assert blur.seen[0] == (32, 48) and len(blur.seen) > 4
    assert max(map(max, blur.seen[1:])) <= 16


def test_a_piece_that_covers_the_frames_denoises_to_the_same_bits(tiny_cascade):
    latents, text = _smooth(16, 24).expand(1, 4, 3, 16, 24), torch.zeros(1, 5, 32)
    given = {"low_res": latents[:, :3], "class_labels": torch.tensor([20])}
    with tiny_cascade.residency.on_device("super_resolution") as network, torch.inference_mode():
        calls = (
            called(latents, torch.tensor(500), TextContext(text), **given)
            for called in (network, InPieces(network, 24))
        )
        whole, pieces = calls
    assert torch.equal(whole, pieces)
