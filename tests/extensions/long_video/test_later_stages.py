"""Interpolation and super-resolution over any length, by lavie's own windows, in the world of `tests.oracle`."""

from pathlib import Path

import pytest
import torch

from lavie.bundle import Bundle
from lavie.events import INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import RATE
from lavie.latents import whole
from lavie.manifest import StageDefaults
from lavie.request import Sampling
from lavie.stages.windowed import Run, denoise_windows
from lavie.windows import Windows
from tests.extensions.long_video.videos import returned
from tests.oracle import PIXELS, TellingPredictor, draw, roughness

NANO = Path(__file__).parents[3] / "assets/nano"
HAZE = 0.2  # deviation of the noise on the small frames


def _made(frames: int, windows: Windows, predictor_at) -> torch.Tensor:
    shape = (PIXELS[0], frames, *PIXELS[1:])
    defaults = StageDefaults(Sampling(), windows=windows)
    run = Run(torch.zeros(1, 1, 1), Sampling("ddim", 50, 1.0), defaults, seed=3)
    return whole(returned(denoise_windows("x", predictor_at, shape, run, torch.device("cpu"))))


def _is_interpolated(windows: Windows) -> float:
    """The roughest place of 181 frames made from every fourth."""
    keys = draw(181, rate=RATE)

    def predictor_at(start, shown):
        places = tuple(place for place, frame in enumerate(shown) if frame % RATE == 0 and frame == start + place)
        return TellingPredictor(keys[:, :, [shown[place] for place in places]], places, rate=RATE)

    return roughness(_made(181, windows, predictor_at)).max().item()


def _refined(windows: Windows) -> float:
    """The roughest place of 64 frames made from hazy ones."""
    true = draw(64)
    hazy = true + HAZE * torch.randn(true.shape, generator=torch.Generator().manual_seed(9))

    def predictor_at(start, shown):
        return TellingPredictor(hazy[:, :, list(shown)], tuple(range(len(shown))), HAZE, rate=1)

    return roughness(_made(64, windows, predictor_at)).max().item()


@pytest.mark.parametrize("windows", [Windows(61, 40, 4), Windows(61, 48, 2)], ids=str)
def test_interpolation_in_windows_has_no_seam(windows):
    assert _is_interpolated(windows) <= 1.10


@pytest.mark.parametrize("windows", [Windows(8, 4, 1), Windows(16, 8, 2), Windows(16, 12, 1)], ids=str)
def test_super_resolution_in_windows_has_no_seam(windows):
    assert _refined(windows) <= 1.10


def test_nor_has_nano_in_its_own():
    defaults = Bundle(NANO).defaults
    assert _is_interpolated(defaults[INTERPOLATION].windows) <= 1.10
    assert _refined(defaults[SUPER_RESOLUTION].windows) <= 1.10


def test_a_longer_video_begins_with_the_bits_of_the_shorter_one():
    true, windows = draw(64), Windows(8, 4, 1)

    def predictor_at(start, shown):
        return TellingPredictor(true[:, :, list(shown)], tuple(range(len(shown))), HAZE, rate=1)

    short, long = (_made(frames, windows, predictor_at) for frames in (24, 40))
    assert torch.equal(short[:, :, :20], long[:, :, :20])  # up to the last overlap


def test_hard_chunks_do():
    """The controls: windows that do not overlap, as published."""
    assert _is_interpolated(Windows(61, 61)) > 1.8
    assert _refined(Windows(8, 8)) > 1.8
