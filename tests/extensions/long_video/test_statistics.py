"""Contrast and brightness are led back to a reference, slowly enough not to be seen."""

import math
from functools import partial

import pytest
import torch

from extensions.long_video.plan import CONDITIONED
from extensions.long_video.strategies import chain
from extensions.long_video.strategies.chain import CAP, DEAD_BAND, Statistics, anchor, measure_motion
from tests.extensions.long_video.videos import plan_of, video
from tests.oracle import draw, seam

PLAIN = Statistics((0.0,) * 4, (1.0,) * 4)


def _changed(std: float, mean: float) -> torch.Tensor:
    """Latents of exactly this contrast and mean in every channel."""
    latents = torch.randn(1, 4, 12, 16, 32, generator=torch.Generator().manual_seed(0))
    latents = latents - latents.mean((0, 2, 3, 4), keepdim=True)
    return latents / latents.std((0, 2, 3, 4), keepdim=True, correction=0) * std + mean


def _footage_after(anchoring, monkeypatch) -> tuple[torch.Tensor, list[int]]:
    """Footage of twice the world's contrast, and brighter, continued by 16 segments that would relax from it."""
    if anchoring is not None:
        monkeypatch.setattr(chain, "anchor", partial(anchor, **anchoring))
    start = 2 * draw(16) + 1
    made, _ = video(plan_of(16, CONDITIONED, anchored=anchoring is not None), start=start)
    return torch.cat([start, made], dim=2), [16 + 12 * number for number in range(16)]


def test_anchoring_holds_contrast_and_makes_no_seam(monkeypatch):
    held, joins = _footage_after({}, monkeypatch)
    left, _ = _footage_after(None, monkeypatch)
    assert seam(held, joins) <= 1.05
    assert held[:, :, -12:].std() > left[:, :, -12:].std() + 0.1
    assert held[:, :, -12:].mean() > left[:, :, -12:].mean() + 0.2


def test_unramped_it_is_itself_a_seam(monkeypatch):
    """The control: each segment forced to the reference at once."""
    forced, joins = _footage_after({"ramped": False, "cap": math.inf, "dead_band": 0.0}, monkeypatch)
    assert seam(forced, joins) > 2


def test_a_small_difference_is_left_alone():
    latents = _changed(1 + 0.9 * DEAD_BAND, 0.9 * DEAD_BAND)
    made, change = anchor(latents, PLAIN)
    assert torch.equal(made, latents)
    assert change == {"gain": [1.0] * 4, "offset": [0.0] * 4}


def test_of_a_large_one_a_little_is_taken_back_and_more_from_frame_to_frame():
    latents = _changed(1.5, 0.0)
    made, change = anchor(latents, PLAIN)
    assert change["gain"] == pytest.approx([1 - CAP / 1] * 4)
    ratios = (made.std((0, 1, 3, 4)) / latents.std((0, 1, 3, 4))).tolist()
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(1 - CAP / 12, abs=2e-3) and ratios[-1] == pytest.approx(1 - CAP, abs=2e-3)


def test_a_flat_channel_stays_flat():
    latents = torch.zeros(1, 4, 12, 16, 32)
    made, _ = anchor(latents, PLAIN)
    assert torch.equal(made, latents)


def test_behind_a_change_of_prompt_the_reference_is_half_the_new_scene():
    assert PLAIN.rebase(Statistics((1.0,) * 4, (3.0,) * 4)) == Statistics((0.5,) * 4, (2.0,) * 4)


def test_motion_is_the_difference_from_frame_to_frame():
    latents = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 4, 5, 2, 2)
    assert measure_motion(latents) == 1.0
    assert measure_motion(latents[:, :, :1]) == 0.0
