"""Which frames extension is given: SEINE's layout of the nine channels, and its masks."""

import pytest
import torch

from lavie.training.diffusion import ALL_MADE, beside_noise, draw_mask, frame_mask, seam_weights


@pytest.mark.parametrize(
    ("kind", "mask"),
    [("all", [1, 1, 1, 1, 1, 1]), ("first 2", [0, 0, 1, 1, 1, 1]), ("onelast 1", [0, 1, 1, 1, 1, 0])],
)
def test_a_mask_is_0_where_a_frame_is_given(kind, mask):
    assert frame_mask(kind, 6).tolist() == mask


def test_what_is_not_given_is_grey_and_the_mask_comes_first():
    clean, grey = torch.randn(2, 4, 3, 2, 2), torch.randn(4, 2, 2)
    beside = beside_noise(clean, grey, torch.stack([frame_mask("first 1", 3), frame_mask("all", 3)]))
    assert beside.shape == (2, 5, 3, 2, 2)
    assert beside[:, 0, :, 0, 0].tolist() == [[0, 1, 1], [1, 1, 1]]
    torch.testing.assert_close(beside[0, 1:, 0], clean[0, :, 0])
    for clip, frame in [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]:
        torch.testing.assert_close(beside[clip, 1:, frame], grey)


def test_new_frames_beside_given_ones_count_most():
    assert seam_weights(frame_mask("all", 5)).tolist() == [1, 1, 1, 1, 1]
    shares = seam_weights(frame_mask("first 2", 6))
    assert (shares / shares[-1]).tolist() == pytest.approx([0.25, 0.25, 3, 2, 1, 1])
    shares = seam_weights(frame_mask("onelast 1", 7))
    assert (shares / shares[3]).tolist() == pytest.approx([0.25, 3, 2, 1, 2, 3, 0.25])
    assert float(shares.mean()) == pytest.approx(1)


@pytest.mark.parametrize("frames", [2, 3, 4, 16])
def test_masks_are_drawn_of_every_kind_and_leave_half_to_be_made(frames):
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(draw_mask(frames, generator).tolist()) for _ in range(400)]
    assert all(2 * sum(mask) >= frames and len(mask) == frames for mask in drawn)
    given_nothing = sum(sum(mask) == frames for mask in drawn) / len(drawn)
    assert given_nothing == pytest.approx(ALL_MADE, abs=0.08)
    kinds = {tuple(frame_mask(f"first {count}", frames).tolist()) for count in (1, 2, 4, 8) if 2 * count <= frames}
    if frames >= 4:
        kinds.add(tuple(frame_mask("onelast 1", frames).tolist()))
    assert set(drawn) == kinds | {(1.0,) * frames}
