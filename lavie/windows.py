"""Overlapping windows on an absolute grid, for networks that see a few frames of a video of any length.

Windows start at multiples of the stride, and a frame's value depends only on the one or two windows that cover it. So a
result does not depend on chunks, order or restarts, and a longer video begins with the shorter one (up to its last
overlap).
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

if typing.TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """A grid of windows.

    Args:
        size: frames of a window.
        stride: frames between two starts, size / 2 … size.
        trim: frames at both ends of an overlap in which only the other window counts, since a window is worst at its
            ends. Between the trims the two fade linearly.
    """

    size: int
    stride: int
    trim: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.size / 2 <= self.stride <= self.size or not 0 <= 2 * self.trim <= self.overlap:
            raise ValueError(f"{self}: the stride lies between size / 2 and size, and two trims within the overlap")

    @property
    def overlap(self) -> int:
        return self.size - self.stride

    def starts(self, frames: int) -> range:
        return range(0, max(frames - self.overlap, 1), self.stride)

    def frames(self, start: int, frames: int) -> list[int]:
        """The absolute frames of a window; past the end the last frame repeats."""
        return [min(frame, frames - 1) for frame in range(start, start + self.size)]

    def covering(self, frame: int, frames: int) -> list[int]:
        """The numbers of the one or two windows that cover a frame. frames: of the whole video."""
        last = min(frame // self.stride, len(self.starts(frames)) - 1)
        return [last - 1, last] if last and frame - last * self.stride < self.overlap else [last]

    def fade(self, like: Tensor) -> Tensor:
        """The weight 0 … 1 of the later window at each frame of an overlap, with the type and device of `like`."""
        import torch  # the rest needs none

        place = torch.arange(self.overlap, device=like.device, dtype=like.dtype)
        weight = (place - self.trim + 1) / (self.overlap - 2 * self.trim + 1)
        return weight.clamp(0, 1)
