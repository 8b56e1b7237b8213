"""Windows cover a video of any length, each frame by one or two of them. How they are joined: test_latents."""

import pytest

from lavie.windows import Windows
from tests.test_latents import GRIDS, LENGTHS


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_every_frame_is_covered_by_one_or_two_windows_and_no_window_is_wasted(windows, frames):
    covering = [[s for s in windows.starts(frames) if s <= frame < s + windows.size] for frame in range(frames)]
    assert {len(starts) for starts in covering} <= {1, 2}
    numbers = [windows.covering(frame, frames) for frame in range(frames)]
    assert [[number * windows.stride for number in found] for found in numbers] == covering
    assert any(starts == [windows.starts(frames)[-1]] for starts in covering), "the last window adds no frame"


@pytest.mark.parametrize("windows", GRIDS, ids=str)
@pytest.mark.parametrize("frames", LENGTHS)
def test_a_window_past_the_end_is_shown_the_last_frame_again(windows, frames):
    for start in windows.starts(frames):
        shown = windows.frames(start, frames)
        assert len(shown) == windows.size
        assert shown == [min(start + place, frames - 1) for place in range(windows.size)]


@pytest.mark.parametrize("values", [(8, 3), (8, 9), (8, 4, 3), (8, 4, -1), (8, 0), (0, 0), (-2, -1)])
def test_a_grid_that_leaves_gaps_or_covers_a_frame_three_times_is_refused(values):
    with pytest.raises(ValueError, match="stride lies between"):
        Windows(*values)
