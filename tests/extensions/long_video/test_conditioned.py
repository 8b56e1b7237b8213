"""What a frame-conditioned network is shown, and what is learned from the frames that it makes again."""

import pytest
import torch

from extensions.long_video.strategies.conditioned import (
    calibrate,
    colour_step,
    conditioning_channels,
    fill_frames,
    overlap_calibration,
)
from extensions.long_video.strategies.window_model import Window
from lavie.sampling import Denoised
from lavie.unet import BaseUNet
from tests.extensions.long_video.videos import ideal_model, returned
from tests.tiny import TEXT_WIDTH

SHAPE = (4, 3, 5)
WINDOW = Window(range(8, 24), torch.zeros(1, 2, 3), seed=5)


def test_the_channels_are_the_published_ones_mask_then_masked_latents():
    """SEINE: 0 where a frame is given; a grey picture's latents, not zeros, where none is."""
    grey = torch.full((1, 4, 1, 3, 5), 0.25)
    model = ideal_model(shape=SHAPE)
    model = type(model)(**{**vars(model), "grey": grey})
    given = {place: torch.full((1, 4, 3, 5), float(place)) for place in (0, 1, 15)}
    beside = conditioning_channels(model, WINDOW, given)
    assert beside.shape == (1, 5, 16, 3, 5)
    assert beside[0, 0, :, 0, 0].tolist() == [0, 0] + [1] * 13 + [0]
    assert beside[0, 1:, 1].eq(1).all() and beside[0, 1:, 15].eq(15).all()
    assert beside[0, 1:, 2:15].eq(0.25).all()


def test_the_known_frames_are_kept_as_they_are():
    known = torch.randn(1, *SHAPE[:1], 4, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    made, _ = returned(fill_frames(ideal_model(shape=SHAPE, steps=3), WINDOW, dict(enumerate(known.unbind(2)))))
    assert torch.equal(made[:, :, :4], known)
    assert made.shape == (1, 4, 16, 3, 5)


def test_a_real_network_with_nine_channels_takes_them():
    torch.manual_seed(0)
    network = BaseUNet(
        in_channels=9,
        block_out_channels=(32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=1,
        down_block_types=("CrossAttnDownBlock3D",) * 2,
        up_block_types=("CrossAttnUpBlock3D",) * 2,
    )
    model = ideal_model(network, steps=2, guidance=3.0, shape=(4, 4, 4))
    text = torch.randn(2, 16, 5, TEXT_WIDTH, generator=torch.Generator().manual_seed(0))  # a prompt a frame
    with torch.inference_mode():
        given = dict.fromkeys((0, 1), torch.ones(1, 4, 4, 4))
        made, facts = returned(fill_frames(model, Window(range(16), text, 5), given))
    assert made.shape == (1, 4, 16, 4, 4) and made.isfinite().all()
    assert len(facts["gain"]) == 4


def test_a_gain_and_an_offset_are_found_for_each_channel():
    known = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([0.95, 1.0, 1.03, 1.08]), torch.tensor([0.1, 0.0, -0.2, 0.3])
    made = known * wanted[0].view(1, 4, 1, 1, 1) + wanted[1].view(1, 4, 1, 1, 1)
    for found, expected in zip(overlap_calibration(made, known), wanted, strict=True):
        assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_is_no_colour_bias_is_left_alone():
    known = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    other = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert overlap_calibration(other, known) == ([1.0] * 4, [0.0] * 4)
    assert overlap_calibration(known, torch.zeros_like(known)) == ([1.0] * 4, [0.0] * 4)


def test_what_was_wrong_at_the_last_known_frame_is_taken_out_of_the_next_ones():
    """A spot that the network gets wrong from the fourth frame on, less and less: the join does not show it."""
    true = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2)).repeat(1, 1, 16, 1, 1)
    wrong = true.clone()
    wrong[:, :, 3:, 2, 5] += 0.2
    given = {place: true[:, :, place] for place in range(4)}
    made, _ = calibrate(Denoised(0, wrong, wrong), given)
    assert (made[:, :, :4] == true[:, :, :4]).all()
    left = (made - true)[0, 0, :, 2, 5]
    assert left[4] < 0.1 and left[15] > 0.15  # it fades in, frame by frame
    assert (left.diff()[4:] < 0.06).all()


def test_a_step_of_the_whole_picture_is_taken_out_and_what_moves_is_left():
    frames = torch.zeros(1, 4, 16, 8, 8)
    frames[:, :, 4:] += torch.tensor([0.1, -0.2, 0.0, 0.05]).view(1, 4, 1, 1, 1)
    for frame in range(16):
        frames[:, :, frame, 2:4, frame % 8] += 1  # a subject
    assert colour_step(frames, 4) == pytest.approx([0.1, -0.2, 0.0, 0.05], abs=1e-6)
    steady = torch.arange(16.0).view(1, 1, 16, 1, 1) * 0.1 + torch.zeros(1, 4, 16, 8, 8)
    assert colour_step(steady, 4) == pytest.approx([0.0] * 4, abs=1e-6)  # goes on as it did
    assert colour_step(frames, 1) == colour_step(frames, 16) == [0.0] * 4
