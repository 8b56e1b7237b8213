"""Where randomness comes from: noise as a pure function of its key, so that a result never depends on what ran before.

A key is (seed, stage, purpose, frame, step): its hash seeds a fresh generator on the CPU for one frame's noise. So the
same frame gets the same noise in whatever window, chunk, order or resumed run it is made, and on whatever device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

INITIAL, CONDITION, STEP = "initial", "condition", "step"


def derive_seed(seed: int, *key: str | int) -> int:
    """A seed of 63 bits for one use of a request's seed: BLAKE2b of the seed and the key's parts, joined by slashes."""
    text = "/".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def frame_noise(seed: int, key: Sequence[str | int], frames: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise 1 C F H W in float32 on the CPU, each frame from its own generator.

    Args:
        seed: the request's seed.
        key: stage, purpose and what else tells this noise from another, such as the step's number.
        frames: absolute numbers of the frames in the whole video, whatever window is being made.
        shape: C H W of one frame.
    """
    drawn = [
        torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(seed, *key, frame))) for frame in frames
    ]
    return torch.stack(drawn, dim=1)[None]
