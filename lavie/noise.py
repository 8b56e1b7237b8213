"""Noise as a pure function of a key (seed, stage, purpose, frame, step).

The hash of the key seeds a fresh generator on the CPU for the noise of one frame. So a frame gets the same noise in any
window, order, resumed run and on any device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

INITIAL, CONDITION, STEP = "initial", "condition", "step"


def derive_seed(seed: int, *key: str | int) -> int:
    """A seed of 63 bits for one use of a request's seed. torch's CPU generator uses only the lower 32 bits."""
    return int.from_bytes(_digest(seed, key, size=8), "big") >> 1


def frame_noise(seed: int, key: Sequence[str | int], frames: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise 1 C F H W in float32 on the CPU, each frame from its own counter-based generator (Philox).

    Args:
        seed: the request's seed.
        key: stage, purpose and further parts, such as the step's number.
        frames: absolute numbers of the frames in the whole video.
        shape: C H W of one frame.
    """
    drawn = [_generator(seed, (*key, frame)).standard_normal(shape, dtype=np.float32) for frame in frames]
    return torch.from_numpy(np.stack(drawn, axis=1))[None]


def _generator(seed: int, key: Sequence[str | int]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, key, size=16), "big")))


def _digest(seed: int, key: Sequence[str | int], size: int) -> bytes:
    """BLAKE2b of the seed and the key's parts, joined by slashes."""
    return hashlib.blake2b("/".join(map(str, (seed, *key))).encode(), digest_size=size).digest()
