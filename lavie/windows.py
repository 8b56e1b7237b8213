"""Overlapping windows on an absolute grid: how a network that sees a few frames works on a video of any length.

Windows start at multiples of the stride, whatever the length, and a frame's value depends only on the one or two
windows that cover it. So a result does not depend on chunks, order or restarts, and a longer video begins with the
shorter one (up to its last overlap). Knows tensors, no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """size: frames a window sees. stride: frames between two starts, size / 2 … size.

    trim: frames at both ends of an overlap in which only the other window counts, since a window knows least at its
    ends; between the trims the two are faded linearly.
    """

    size: int
    stride: int
    trim: int = 0

    def __post_init__(self):
        if not 0 < self.size / 2 <= self.stride <= self.size or not 0 <= 2 * self.trim <= self.overlap:
            raise ValueError(f"{self}: the stride lies between size / 2 and size, and two trims within the overlap")

    @property
    def overlap(self) -> int:
        return self.size - self.stride

    def starts(self, frames: int) -> range:
        """Where windows begin so that `frames` frames are covered."""
        return range(0, max(frames - self.overlap, 1), self.stride)

    def frames(self, start: int, frames: int) -> list[int]:
        """The absolute frames that a window shows the network: past the end, the last one stands in again."""
        return [min(frame, frames - 1) for frame in range(start, start + self.size)]

    def covering(self, frame: int, frames: int) -> list[int]:
        """The numbers of the windows that make a frame of `frames`: one, or two that overlap there."""
        last = min(frame // self.stride, len(self.starts(frames)) - 1)
        return [last - 1, last] if last and frame - last * self.stride < self.overlap else [last]

    def fade(self, like: Tensor) -> Tensor:
        """The later window's weight at each frame of an overlap, 0 … 1, of the type and device of `like`."""
        place = torch.arange(self.overlap, device=like.device, dtype=like.dtype)
        weight = (place - self.trim + 1) / (self.overlap - 2 * self.trim + 1)
        return weight.clamp(0, 1)
