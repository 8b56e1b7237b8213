"""What each stage hands its network: the right key frame, and noise that knows its absolute frame."""

import pytest
import torch

from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Step
from lavie.key_frames import interpolated_frames
from lavie.latents import Whole, preview, whole
from lavie.manifest import VELOCITY, StageDefaults
from lavie.noise import CONDITION, INITIAL, frame_noise
from lavie.request import Sampling
from lavie.stages.base import sample_base
from lavie.stages.interpolation import interpolate
from lavie.stages.super_resolution import noised_low_res, super_resolve
from lavie.stages.windowed import Run
from lavie.windows import Windows

ONE_STEP = Sampling("ddim", 1, 1.0)
TEXT = torch.zeros(1, 77, 8)
LEVEL = 30


class Network:
    """Predicts nothing and remembers what it was shown."""

    config = type("Config", (), {"out_channels": 4})

    def __init__(self):
        self.samples, self.conditions = [], []

    def __call__(self, sample, timestep, context, **conditions):
        self.samples.append(sample)
        self.conditions.append(conditions)
        return torch.zeros_like(sample[:, :4])


def _defaults(*windows: int, prediction_type: str = "epsilon") -> StageDefaults:
    return StageDefaults(Sampling(), prediction_type=prediction_type, windows=Windows(*windows))


def _result(generator):
    """The steps and the returned latents of a stage."""
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as end:
            return steps, end.value


def _noise(stage: str, frames, purpose: str = INITIAL, channels: int = 4) -> torch.Tensor:
    return frame_noise(5, (stage, purpose), frames, (channels, 2, 3))


def test_the_base_stage_starts_from_the_noise_of_its_frames():
    network = Network()
    steps, latents = _result(sample_base(network, TEXT, (4, 6, 2, 3), ONE_STEP, _defaults(8, 8), seed=5))
    assert torch.equal(network.samples[0], _noise(BASE, range(6)))
    assert latents.shape == (1, 4, 6, 2, 3)
    assert steps == [Step(BASE, 1, 1)]


@pytest.mark.parametrize("windows", [(61, 32, 4), (21, 12, 2), (16, 16), (9, 5, 1)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_every_window_of_the_interpolation_sees_its_absolute_key_frames_and_noise(windows, count):
    network, defaults = Network(), _defaults(*windows)
    keys = torch.arange(count, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 4, -1, 2, 3)
    frames = interpolated_frames(count)
    steps, latents = _result(interpolate(network, Whole(keys), Run(TEXT, ONE_STEP, defaults, seed=5)))
    starts = defaults.windows.starts(frames)
    assert len(network.samples) == len(steps) == len(starts)
    for start, sample in zip(starts, network.samples, strict=True):
        shown = range(start, start + defaults.windows.size)
        assert torch.equal(sample[:, :4], _noise(INTERPOLATION, shown))
        expected = [(min(frame, frames - 1) + 1) // 4 for frame in shown]
        assert sample[0, 4, :, 0, 0].tolist() == expected
    assert whole(latents).shape == (1, 4, frames, 2, 3)


@pytest.mark.parametrize("count", [3, 8, 13])
def test_every_window_of_super_resolution_sees_its_absolute_frames_and_their_noise(count):
    network, defaults = Network(), _defaults(8, 4, 1, prediction_type=VELOCITY)
    frames = torch.rand(1, 3, count, 2, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    _, latents = _result(super_resolve(network, Whole(frames), LEVEL, Run(TEXT, ONE_STEP, defaults, seed=5)))
    for start, sample, given in zip(defaults.windows.starts(count), network.samples, network.conditions, strict=True):
        numbers = range(start, start + 8)
        assert torch.equal(sample, _noise(SUPER_RESOLUTION, numbers))
        window = frames[:, :, defaults.windows.frames(start, count)]
        expected = noised_low_res(window, _noise(SUPER_RESOLUTION, numbers, CONDITION, 3), LEVEL)
        torch.testing.assert_close(given["low_res"], expected)
        assert given["class_labels"].tolist() == [LEVEL]
    assert whole(latents).shape == (1, 4, count, 2, 3)


def test_small_frames_are_noised_by_the_upscalers_own_schedule():
    """√ᾱ of scaled-linear betas 1e-4 … 2e-2, at level 0 almost nothing."""
    betas = torch.linspace(1e-4**0.5, 2e-2**0.5, 1000) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    frames, noise = torch.randn(2, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for level in (0, 50, 350):
        expected = alphas[level].sqrt() * frames + (1 - alphas[level]).sqrt() * noise
        torch.testing.assert_close(noised_low_res(frames, noise, level), expected)


def test_clips_of_a_batch_may_have_levels_of_their_own():
    frames, noise = torch.randn(2, 2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    both = noised_low_res(frames, noise, torch.tensor([10, 300]))
    for clip, level in enumerate((10, 300)):
        torch.testing.assert_close(both[clip], noised_low_res(frames[[clip]], noise[[clip]], level)[0])


def test_a_preview_maps_channels_to_colours_and_clamps():
    latents = torch.zeros(1, 4, 2, 1, 2)
    latents[0, 0, 1, 0, 1], latents[0, 1, 1, 0, 1] = 1.0, -9.0
    rows = ((0.5, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    picture = preview(latents, rows)
    assert picture.shape == (2, 1, 2, 3)
    assert picture[1, 0, 1].tolist() == [191, 0, 127]
    assert picture[0, 0, 0].tolist() == [127, 127, 127]
    assert preview(latents, (*rows, (1.0, -1.0, 0.0)))[0, 0, 0].tolist() == [255, 0, 127]
    assert preview(latents, None) is None
