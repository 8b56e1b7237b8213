"""Latents are read where they are needed: the right frames, joined as windows are, and few in memory."""

import weakref

import pytest
import torch

from lavie.latents import HELD, Blended, Parts, Whole, whole
from lavie.stages.super_resolution import Decoded
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


def numbered(frames: range) -> torch.Tensor:
    """Latents 1 2 F 2 2 whose values are the frames' numbers."""
    return torch.tensor(frames, dtype=torch.float64).view(1, 1, -1, 1, 1).expand(1, 2, -1, 2, 2)


def blended(windows: Windows, made, frames: int) -> torch.Tensor:
    return whole(Blended(windows, made, frames))


def filled(windows: Windows, frames: int, value_at) -> dict[int, torch.Tensor]:
    """Each window 1 C size H W by its number; `value_at` maps the absolute frame and the window's number to a value."""
    made = {}
    for number, start in enumerate(windows.starts(frames)):
        values = [value_at(start + place, number) for place in range(windows.size)]
        made[number] = torch.tensor(values, dtype=torch.float64).view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2)
    return made


class Counting(dict):
    """Remembers what was asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.asked = []

    def __getitem__(self, number):
        self.asked.append(number)
        return super().__getitem__(number)


def test_latents_that_are_there_are_read_by_their_numbers():
    latents = Whole(numbered(range(9)))
    assert latents.read([3, 3, 8])[0, 0, :, 0, 0].tolist() == [3, 3, 8]
    assert torch.equal(whole(latents), numbered(range(9)))


def test_parts_follow_each_other_and_are_read_only_when_needed():
    asked = []

    def part(begin, end):
        return end - begin, lambda: asked.append(begin) or numbered(range(begin, end))

    parts = Parts([part(0, 16), part(16, 17), part(17, 29), part(29, 41)])
    assert parts.frames == 41 and asked == []
    assert parts.read([15, 16, 16, 17, 28])[0, 0, :, 0, 0].tolist() == [15, 16, 16, 17, 28]
    assert asked == [0, 16, 17]
    assert parts.read(range(17, 29)).shape == (1, 2, 12, 2, 2)
    assert asked == [0, 16, 17]
    assert torch.equal(whole(parts), numbered(range(41)))


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_windows_that_agree_are_joined_unchanged(windows, frames):
    """So weights sum to one at every frame, none is lost, none comes twice, and order is kept."""
    joined = blended(windows, filled(windows, frames, lambda frame, number: frame), frames)
    assert joined.shape == (1, 3, frames, 2, 2)
    torch.testing.assert_close(joined[0, 2, :, 1, 0], torch.arange(frames, dtype=torch.float64))


@pytest.mark.parametrize("windows", GRIDS, ids=str)
def test_between_two_windows_the_weight_rises_from_zero_to_one_over_the_overlap_less_the_trims(windows):
    frames = windows.stride + windows.size
    weights = blended(windows, filled(windows, frames, lambda frame, number: number), frames)[0, 0, :, 0, 0].tolist()
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
    short, long = blended(windows, made, frames), blended(windows, made, frames + more)
    settled = min(frames, windows.starts(frames)[-1] + windows.stride)
    assert torch.equal(short[:, :, :settled], long[:, :, :settled])


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_frame_by_frame_they_are_the_bits_of_windows_joined_in_whole_pieces(windows, frames):
    """As clips were joined before there were long videos: what was made then can be made again."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, 2, windows.size, 3, 5, generator=generator) for _ in windows.starts(frames)]
    assert torch.equal(blended(windows, made, frames), _in_pieces(windows, made, frames))


def _in_pieces(windows: Windows, made: list[torch.Tensor], frames: int) -> torch.Tensor:
    pieces, tail, starts = [], None, windows.starts(frames)
    for start, window in zip(starts, made, strict=True):
        if tail is not None:
            head = window[:, :, : windows.overlap]
            mixed = tail + windows.fade(window)[:, None, None] * (head - tail)
            window = torch.cat([mixed, window[:, :, windows.overlap :]], dim=2)
        last = start == starts[-1]
        tail = window[:, :, windows.stride :]
        pieces.append(window[:, :, : frames - start] if last else window[:, :, : windows.stride])
    return torch.cat(pieces, dim=2)


def test_a_window_is_read_once_where_frames_come_in_order():
    windows = Windows(8, 4, 1)
    made = Counting(filled(windows, 200, lambda frame, number: frame))
    joined = Blended(windows, made, 200)
    assert joined.read([0, 1]).shape[2] == 2 and made.asked == [0]
    for first in range(0, 200, 5):
        joined.read(range(first, first + 5))
    assert made.asked == list(range(len(windows.starts(200))))


def test_a_window_that_was_not_made_is_missed():
    windows = Windows(8, 4)
    with pytest.raises(KeyError):
        blended(windows, {0: torch.zeros(1, 1, 8, 1, 1)}, 20)


def test_frames_are_decoded_once_for_windows_in_order_and_none_is_kept_for_long():
    decoded = []

    def decode(latents):
        decoded.extend(latents[0, 0, :, 0, 0].int().tolist())
        return (10 * frame for frame in latents.unbind(2))

    frames, windows = Decoded(Whole(numbered(range(30))), decode), Windows(8, 4, 1)
    for start in windows.starts(30):
        shown = windows.frames(start, 30)
        assert frames.read(shown)[0, 1, :, 0, 1].tolist() == [10 * number for number in shown]
        assert len(frames._held) <= windows.size
    assert decoded == list(range(30))


def test_two_parts_are_in_memory_at_most():
    alive = []

    def read():
        latents = torch.zeros(1, 1, 4, 1, 1)
        alive.append(weakref.ref(latents))
        return latents

    parts = Parts([(4, read)] * 50)
    for frame in range(200):
        parts.read([frame])
        assert sum(latents() is not None for latents in alive) <= HELD
    assert len(alive) == 50
