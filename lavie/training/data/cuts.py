"""Decoded frames → clips of one length and size. Knows no files, and no latents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps


class Unusable(Exception):
    """A medium that gives no clip. kind: the reason as faults are counted by; detail: what more is known."""

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(kind)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Cut:
    """How clips are cut. frames: of a clip; stride: every how-manieth of the source is taken; width, height: in pixels.

    most: clips that one source gives, one behind the other. enlarge: whether a source smaller than that is taken.
    """

    frames: int
    width: int
    height: int
    stride: int = 1
    most: int = 4
    enlarge: bool = True

    def clips(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        """As many whole clips, uint8 F H W 3, as the source's frames (uint8 h w 3) give; at least one.

        Reads no further than it needs to. Raises Unusable: there are too few frames, or they are too small.
        """
        # The last frame of a clip is followed by no gap: a source of exactly that length is long enough.
        taken = itertools.islice(frames, 0, self.frames * self.most * self.stride, self.stride)
        fitted = [self.fit(frame) for frame in taken]
        if len(fitted) < self.frames:
            every = f" at every {self.stride}. frame" if self.stride > 1 else ""
            raise Unusable("it is too short", f"{len(fitted)} of {self.frames} frames{every}")
        whole = len(fitted) // self.frames
        return [np.stack(fitted[i * self.frames : (i + 1) * self.frames]) for i in range(whole)]

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """The largest centred piece of the wanted shape, resized to the wanted size."""
        height, width = frame.shape[:2]
        if not self.enlarge and (width < self.width or height < self.height):
            raise Unusable("it is too small", f"{width}×{height}, {self.width}×{self.height} or more are needed")
        if (width, height) == (self.width, self.height):
            return frame
        return np.asarray(ImageOps.fit(Image.fromarray(frame), (self.width, self.height), Image.Resampling.LANCZOS))
