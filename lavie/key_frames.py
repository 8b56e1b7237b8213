"""Interpolation's frames and the key frames that each is made from. Knows tensors, no network.

What stands beside the noise depends on what the network was trained with (`conditioning`): `nearest`, as published, the
latents of one key frame; `neighbours`, those of the four around a frame, which say where things are on their way to.
With these the network predicts only what the straight blend of the two nearest misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lavie.latents import Latents

RATE = 4  # output frames for each step from one key frame to the next
NEAREST, NEIGHBOURS = "nearest", "neighbours"
CONDITIONINGS = (NEAREST, NEIGHBOURS)


@dataclass(frozen=True)
class Shown:
    """What the network works from, B c F h w each. beside: channels behind the noisy ones. onto: what its prediction is
    added to; None where it is the whole of it."""

    beside: Tensor
    onto: Tensor | None = None


def interpolated_frames(keys: int) -> int:
    return RATE * (keys - 1) + 1


def nearest_key(frame: int) -> int:
    """The key frame that an output frame is conditioned on: i → (i + 1) // 4, as published."""
    return (frame + 1) // RATE


def nearest_keys(frames: int) -> list[int]:
    """Those of the first `frames` output frames."""
    return list(map(nearest_key, range(frames)))


def keys_of(frame: int, keys: int, conditioning: str) -> list[int]:
    """The numbers of the key frames, of `keys`, that an output frame is made from; one may come more than once."""
    if conditioning == NEAREST:
        return [nearest_key(frame)]
    before = _key_before(frame, keys)
    return [min(max(key, 0), keys - 1) for key in range(before - 1, before + 3)]


def show(keys: Latents, frames: Sequence[int], conditioning: str) -> Shown:
    """What the network sees for these output frames."""
    numbers = zip(*(keys_of(frame, keys.frames, conditioning) for frame in frames), strict=True)
    latents = [keys.read(some) for some in numbers]
    if conditioning == NEAREST:
        return Shown(*latents)
    _, before, after, _ = latents
    phases = [frame / RATE - _key_before(frame, keys.frames) for frame in frames]
    phase = torch.tensor(phases, dtype=before.dtype, device=before.device)[:, None, None]
    blend = torch.lerp(before, after, phase)
    return Shown(torch.cat([blend, *latents, phase.expand_as(blend[:, :1])], dim=1), blend)


def beside_channels(conditioning: str, channels: int) -> int:
    """How many channels stand beside the noisy ones, of latents with `channels`."""
    return channels if conditioning == NEAREST else 5 * channels + 1


def _key_before(frame: int, keys: int) -> int:
    """The last key frame has none behind it: it is the end of the way from the one before."""
    return min(frame // RATE, max(keys - 2, 0))
