"""Latents of a video of any length that are read frame by frame, so that memory does not grow with the length.

Frames count from 0 and are best read in order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lavie.windows import Windows

HELD = 2  # parts or windows in memory at once; no frame needs more


class Latents(Protocol):
    """Latents that can be read. frames: their number."""

    frames: int

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Some frames, 1 C n h w, on any device. A number may come more than once."""
        ...


def whole(latents: Latents) -> Tensor:
    """All frames of a clip, 1 C F h w."""
    return latents.read(range(latents.frames))


class Whole:
    """Latents in memory, 1 C F h w."""

    def __init__(self, latents: Tensor):
        self._latents, self.frames = latents, int(latents.shape[2])

    def read(self, numbers: Sequence[int]) -> Tensor:
        return self._latents[:, :, list(numbers)]


class Parts:
    """Consecutive pieces of a video."""

    def __init__(self, parts: Sequence[tuple[int, Callable[[], Tensor]]]):
        """parts: the number of frames of each, and a function that reads its latents 1 C n h w."""
        self._ends = list(accumulate((count for count, _ in parts), initial=0))
        self.frames = self._ends[-1]
        self._part = lru_cache(HELD)(lambda number: parts[number][1]())

    def read(self, numbers: Sequence[int]) -> Tensor:
        return torch.stack([self._frame(number) for number in numbers], dim=2)

    def _frame(self, frame: int) -> Tensor:
        number = bisect_right(self._ends, frame) - 1
        return self._part(number)[:, :, frame - self._ends[number]]


class Blended:
    """Windows on the absolute grid, joined. Where two cover a frame, the first fades into the second."""

    def __init__(self, windows: Windows, made: Mapping[int, Tensor], frames: int):
        """made: number of a window → its latents 1 C size h w, read when one of its frames is."""
        self._windows, self.frames = windows, frames
        self._window = lru_cache(HELD)(made.__getitem__)

    def read(self, numbers: Sequence[int]) -> Tensor:
        return torch.stack([self._frame(number) for number in numbers], dim=2)

    def _frame(self, frame: int) -> Tensor:
        *before, last = self._windows.covering(frame, self.frames)
        place = frame - last * self._windows.stride
        if not before:
            return self._window(last)[:, :, place]
        old = self._window(last - 1)[:, :, place + self._windows.stride]
        new = self._window(last)[:, :, place]
        return old + self._windows.fade(new)[place] * (new - old)


def preview(latents: Tensor, to_rgb: tuple[tuple[float, float, float], ...] | None) -> np.ndarray | None:
    """Clean latents 1 C F h w → small pictures uint8 F h w 3, or None without `to_rgb` (see `StageDefaults`)."""
    if to_rgb is None:
        return None
    matrix = torch.tensor(to_rgb, dtype=torch.float32, device=latents.device)
    colours = torch.einsum("cfhw,ck->fhwk", latents[0].float(), matrix[: latents.shape[1]])
    if len(matrix) > latents.shape[1]:
        colours = colours + matrix[-1]  # a row more than there are channels is a constant
    return ((colours + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu().numpy()
