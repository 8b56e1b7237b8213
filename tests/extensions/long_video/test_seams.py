"""The strategies in a world whose answer is known (`tests.oracle`): no seam, no drift; and what must fail does fail."""

import pytest
import torch

from extensions.long_video.plan import CONDITIONED, CORRECTED, REPAINT
from extensions.long_video.strategies import conditioned, corrected
from extensions.long_video.strategies.conditioned import denoise_around
from extensions.long_video.strategies.window_model import Window
from tests.extensions.long_video.videos import embed, ideal_model, plan_of, returned, video
from tests.oracle import GaussianDenoiser, draw, seam

SEGMENTS = 16


def kept_contrast(made: torch.Tensor) -> float:
    """Standard deviation of the last segment over that of the first clip."""
    return (made[:, :, -12:].std() / made[:, :, :16].std()).item()


@pytest.mark.parametrize(("overlap", "velocity"), [(1, 1.30), (2, 1.15), (4, 1.10), (8, 1.10)])
def test_a_network_that_is_told_known_frames_continues_them_without_a_seam(overlap, velocity):
    made, joins = video(plan_of(SEGMENTS, CONDITIONED, overlap=overlap))
    assert 0.95 <= seam(made, joins) <= 1.08
    assert seam(made, joins, order=2) <= velocity
    assert kept_contrast(made) >= 0.90


@pytest.mark.parametrize(("overlap", "velocity"), [(1, 1.30), (2, 1.12), (4, 1.12), (8, 1.12)])
def test_the_plain_network_corrected_by_the_first_clips_covariance_has_no_seam_either(overlap, velocity):
    made, joins = video(plan_of(SEGMENTS, CORRECTED, overlap=overlap))
    assert 0.93 <= seam(made, joins) <= 1.10
    assert seam(made, joins, order=2) <= velocity
    assert kept_contrast(made) >= 0.90


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
@pytest.mark.parametrize(("sampler", "kind"), [("dpm++", "v_prediction"), ("unipc", "sample"), ("euler", "epsilon")])
def test_no_sampler_and_no_kind_of_prediction_makes_one(strategy, sampler, kind):
    made, joins = video(plan_of(8, strategy), ideal_model(GaussianDenoiser(kind), sampler))
    assert 0.93 <= seam(made, joins) <= 1.10
    assert kept_contrast(made) >= 0.90


def test_repainting_is_a_fallback_with_a_small_seam():
    made, joins = video(plan_of(8, REPAINT))
    assert 1.3 <= seam(made, joins) <= 1.65


def test_replacing_the_known_frames_alone_leaves_a_hard_seam(monkeypatch):
    """The control: what `corrected` would be without its correction."""
    monkeypatch.setattr(corrected.KnownFrames, "_correction", lambda self, covariance, guess, alpha: 0)
    made, joins = video(plan_of(SEGMENTS, CORRECTED))
    assert seam(made, joins) > 2.5


def test_independent_clips_do_not_belong_together():
    """The control: nothing is known of the clip before."""
    model = ideal_model()
    made = []
    for number in range(SEGMENTS):
        window = Window(range(16 * number, 16 * number + 16), embed("a"), 5)
        made.append(returned(corrected.fill_frames(model, window, {}, None)))
    assert seam(torch.cat(made, dim=2), [16 * number for number in range(1, SEGMENTS)]) > 8


def test_a_correction_by_less_than_the_covariance_says_costs_continuity():
    """Why its strength is 1 unless moving things leave ghosts."""
    made, joins = video(plan_of(8, CORRECTED, strength=0.7))
    assert seam(made, joins) > 1.15


def test_a_steady_bias_of_the_network_does_not_add_up(monkeypatch):
    """Contrast 2 % too low in every guess: the overlap shows it, and it is taken out of the new frames."""
    biased = ideal_model(GaussianDenoiser(bias=(0.98, 0.0)))
    made, joins = video(plan_of(SEGMENTS, CONDITIONED), biased)
    monkeypatch.setattr(conditioned, "overlap_calibration", lambda made, known: ([1.0] * 4, [0.0] * 4))
    monkeypatch.setattr(conditioned, "CARRY", 0.0)
    left, _ = video(plan_of(SEGMENTS, CONDITIONED), biased)
    assert seam(made, joins) <= 1.05 < seam(left, joins)
    assert kept_contrast(made) > kept_contrast(left) + 0.04


def test_a_transition_is_filled_in_between_two_frames_without_a_seam_at_either():
    model, true = ideal_model(), draw(16)
    window = Window(range(16), embed("a"), 5)
    made = returned(denoise_around(model, window, {0: true[:, :, 0], 15: true[:, :, 15]})).latents
    joined = torch.cat([true[:, :, :1], made[:, :, 1:15], true[:, :, 15:]], dim=2)
    assert 0.9 <= seam(joined, [1, 15]) <= 1.1
