"""Windows cover a video of any length, agree with each other, and never change what was made before."""

import pytest
import torch

from lavie.windows import Windows

GRIDS = [
    Windows(16, 16),
    Windows(61, 32, 4),
    Windows(21, 12, 2),
    Windows(8, 4, 1),
    Windows(8, 7),
    Windows(9, 5, 2),
    Windows(1, 1),
]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 20, 21, 24, 33, 61, 62, 93, 94, 150]


def _blended(windows: Windows, made: list[torch.Tensor], frames: int) -> torch.Tensor:
    return torch.cat(list(windows.blend(made, frames)), dim=2)


def _filled(windows: Windows, frames: int, value_at) -> list[torch.Tensor]:
    """Each window as a tensor B C size H W; `value_at` maps the absolute frame and the window's number to a value."""
    made = []
    for number, start in enumerate(windows.starts(frames)):
        values = [value_at(start + place, number) for place in range(windows.size)]
        made.append(torch.tensor(values, dtype=torch.float64).view(1, 1, -1, 1, 1).expand(2, 3, -1, 2, 2))
    return made


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_every_frame_is_covered_by_one_or_two_windows_and_no_window_is_wasted(windows, frames):
    covering = [[s for s in windows.starts(frames) if s <= frame < s + windows.size] for frame in range(frames)]
    assert {len(starts) for starts in covering} <= {1, 2}
    assert any(starts == [windows.starts(frames)[-1]] for starts in covering), "the last window adds no frame"


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_windows_that_agree_are_joined_unchanged(windows, frames):
    """So weights sum to one at every frame, none is lost, none comes twice, and order is kept."""
    joined = _blended(windows, _filled(windows, frames, lambda frame, number: frame), frames)
    assert joined.shape == (2, 3, frames, 2, 2)
    torch.testing.assert_close(joined[1, 2, :, 1, 0], torch.arange(frames, dtype=torch.float64))


@pytest.mark.parametrize("windows", GRIDS, ids=str)
def test_between_two_windows_the_weight_rises_from_zero_to_one_over_the_overlap_less_the_trims(windows):
    frames = windows.stride + windows.size
    weights = _blended(windows, _filled(windows, frames, lambda frame, number: number), frames)[0, 0, :, 0, 0].tolist()
    first, both, second = (
        weights[: windows.stride],
        weights[windows.stride : windows.size],
        weights[windows.size :],
    )
    assert set(first) == {0.0}
    assert set(second) <= {1.0}
    assert both == sorted(both)
    assert both[: windows.trim] == [0.0] * windows.trim
    assert both[len(both) - windows.trim :] == [1.0] * windows.trim
    inner = both[windows.trim : len(both) - windows.trim]
    assert inner == pytest.approx([1 - weight for weight in reversed(inner)])
    assert all(0 < weight < 1 for weight in inner)


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("more", [1, 5, 40])
def test_a_longer_video_begins_with_the_shorter_one_up_to_its_last_overlap(windows, frames, more):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, 2, windows.size, 1, 1, generator=generator) for _ in windows.starts(frames + more)]
    short = _blended(windows, made[: len(windows.starts(frames))], frames)
    long = _blended(windows, made, frames + more)
    settled = min(frames, windows.starts(frames)[-1] + windows.stride)
    assert torch.equal(short[:, :, :settled], long[:, :, :settled])


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_a_window_past_the_end_is_shown_the_last_frame_again(windows, frames):
    for start in windows.starts(frames):
        shown = windows.frames(start, frames)
        assert len(shown) == windows.size
        assert shown == [min(start + place, frames - 1) for place in range(windows.size)]


def test_pieces_come_as_soon_as_their_frames_are_settled():
    """Blending is lazy: a long video is never held as a whole."""
    windows, asked = Windows(8, 4), []

    def made():
        for number in range(4):
            asked.append(number)
            yield torch.zeros(1, 1, 8, 1, 1)

    pieces = windows.blend(made(), 20)
    assert next(pieces).shape[2] == 4
    assert asked == [0]
    assert [piece.shape[2] for piece in pieces] == [4, 4, 8]


def test_too_few_windows_for_the_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        _blended(Windows(8, 4), [torch.zeros(1, 1, 8, 1, 1)], 20)


@pytest.mark.parametrize("values", [(8, 3), (8, 9), (8, 4, 3), (8, 4, -1), (8, 0), (0, 0), (-2, -1)])
def test_a_grid_that_leaves_gaps_or_covers_a_frame_three_times_is_refused(values):
    with pytest.raises(ValueError, match="stride lies between"):
        Windows(*values)
