"""What interpolation's network sees of the key frames, and what its prediction is added to."""

import pytest
import torch

from lavie.key_frames import beside_channels, interpolated_frames, keys_of, nearest_key, show
from lavie.latents import Whole
from lavie.manifest import CONDITIONINGS, NEAREST, NEIGHBOURS, SAMPLE, StageDefaults
from lavie.request import Sampling
from lavie.stages.interpolation import interpolate
from lavie.stages.windowed import Run
from lavie.training.tuning.task import run_stage
from lavie.windows import Windows


def _line(frames: int, every: int = 1) -> torch.Tensor:
    """1 4 F 2 3, frame f being f in all channels: what moves evenly."""
    return torch.arange(0.0, frames, every).view(1, 1, -1, 1, 1).expand(1, 4, -1, 2, 3).clone()


def test_the_nearest_key_is_the_published_one():
    assert [nearest_key(frame) for frame in range(13)] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert [nearest_key(frame) for frame in (59, 60)] == [15, 15]
    assert [interpolated_frames(keys) for keys in (1, 2, 16)] == [1, 5, 61]
    assert [keys_of(frame, 4, NEAREST) for frame in range(13)] == [[nearest_key(frame)] for frame in range(13)]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [(0, [0, 0, 1, 2]), (3, [0, 0, 1, 2]), (4, [0, 1, 2, 3]), (11, [1, 2, 3, 3]), (12, [1, 2, 3, 3])],
)
def test_neighbours_are_two_on_either_side_as_far_as_there_are_any(frame, expected):
    assert keys_of(frame, 4, NEIGHBOURS) == expected


def test_of_a_single_key_frame_it_is_its_own_neighbour():
    assert keys_of(0, 1, NEIGHBOURS) == [0] * 4
    assert torch.equal(show(Whole(_line(1)), [0], NEIGHBOURS).residual_base, _line(1))


def test_the_straight_blend_of_what_moves_evenly_is_right_everywhere():
    shown = show(Whole(_line(61, 4)), range(61), NEIGHBOURS)
    torch.testing.assert_close(shown.residual_base, _line(61))
    blend, *four, phase = shown.beside.split([4, 4, 4, 4, 4, 1], dim=1)
    assert torch.equal(blend, shown.residual_base)
    for place, latents in enumerate(four):
        expected = [4 * keys_of(frame, 16, NEIGHBOURS)[place] for frame in range(61)]
        assert latents[0, 0, :, 0, 0].tolist() == expected
    assert phase[0, 0, :, 1, 2].tolist() == [*(frame % 4 / 4 for frame in range(60)), 1]


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_what_a_frame_sees_does_not_hang_on_the_others_of_its_window(conditioning):
    keys = Whole(torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(0)))
    all_of_them, some = (show(keys, frames, conditioning) for frames in (range(17), [2, 9, 16, 16]))
    assert torch.equal(all_of_them.beside[:, :, [2, 9, 16, 16]], some.beside)
    assert all_of_them.beside.shape[1] == beside_channels(conditioning, 4)


class Silent(torch.nn.Module):
    """A network that adds nothing, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.samples = []

    def forward(self, sample, timestep, text, **conditions):
        self.samples.append(sample)
        return torch.zeros_like(sample[:, :4])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_network_that_adds_nothing_leaves_the_straight_blend(guidance):
    network, keys = Silent(), _line(29, 4) / 29
    defaults = StageDefaults(Sampling(), SAMPLE, windows=Windows(21, 12, 2), conditioning=NEIGHBOURS)
    text = torch.zeros(1 if guidance == 1 else 2, 1, 1)
    made = interpolate(network, Whole(keys), Run(text, Sampling("ddim", 3, guidance), defaults, seed=5))
    torch.testing.assert_close(run_stage(made), _line(interpolated_frames(8)) / 29)
    assert {sample.shape[1] for sample in network.samples} == {4 + beside_channels(NEIGHBOURS, 4)}
