"""A clip as one value, frames and their rate. Imports neither numpy nor torch, so that commands start quickly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lavie.errors import MediaError

if TYPE_CHECKING:
    import numpy as np

UINT8 = "uint8"  # equals numpy's dtype of this name


@dataclass(frozen=True, eq=False)
class Video:
    """A clip: uint8 frames F H W 3 (sRGB), and their rate in frames a second."""

    frames: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        if self.frames.dtype != UINT8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            raise MediaError(
                f"a video is uint8 frames F H W 3, not {self.frames.dtype} {self.frames.shape}: convert it first"
            )
        if not len(self.frames) or not self.fps > 0:
            raise MediaError(f"a video has at least one frame and a positive rate, not {len(self)} at {self.fps} fps")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def height(self) -> int:
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    @property
    def frame_hash(self) -> str:
        """sha256 of the shape and the pixels."""
        digest = FrameHash(self.frames.shape)
        for frame in self.frames:
            digest.add(frame)
        return digest.hexdigest()


class FrameHash:
    """Computes `Video.frame_hash` frame by frame."""

    def __init__(self, shape: tuple[int, ...]):
        """shape: F H W 3 of the whole video."""
        self._shape, self._added = tuple(map(int, shape)), 0
        self._digest = hashlib.sha256(repr(self._shape).encode())

    def add(self, frame: np.ndarray) -> None:
        """Add the next frame, uint8 H W 3. Raises MediaError for a frame that does not fit the shape."""
        if frame.dtype != UINT8 or frame.shape != self._shape[1:] or self._added == self._shape[0]:
            raise MediaError(
                f"frame {self._added + 1} is {frame.dtype} {frame.shape}, of a video uint8 {self._shape}: hash one "
                "video at a time, with its own shape"
            )
        self._digest.update(frame.tobytes())
        self._added += 1

    def hexdigest(self) -> str:
        """Raises MediaError while frames are missing."""
        if self._added != self._shape[0]:
            raise MediaError(f"{self._added} of {self._shape[0]} frames were hashed: add all of them first")
        return self._digest.hexdigest()
