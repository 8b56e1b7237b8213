"""Frames and their rate as one value: the only kind of picture that crosses a package border. Needs numpy, no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lavie.errors import MediaError


@dataclass(frozen=True, eq=False)
class Video:
    """A clip. `frames` is uint8 F H W 3 (sRGB), `fps` its rate in frames a second."""

    frames: np.ndarray
    fps: float

    def __post_init__(self):
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            raise MediaError(
                f"a video is uint8 frames F H W 3, not {self.frames.dtype} {self.frames.shape}: convert it first"
            )
        if not len(self.frames) or not self.fps > 0:
            raise MediaError(f"a video has at least one frame and a positive rate, not {len(self)} at {self.fps} fps")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def height(self) -> int:
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        return self.frames.shape[2]

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    @property
    def frame_hash(self) -> str:
        """sha256 of the shape and the frames: two videos with the same hash show the same pixels."""
        digest = hashlib.sha256(repr(tuple(self.frames.shape)).encode())
        digest.update(np.ascontiguousarray(self.frames))
        return digest.hexdigest()
