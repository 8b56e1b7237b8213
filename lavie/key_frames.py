"""The key frames that interpolation makes each frame from.

The channels beside the noise depend on the network's training (`conditioning`). `nearest`, as published, gives the
latents of one key frame. `neighbours` gives those of the four key frames around a frame, and the network predicts only
the difference from a linear blend of the two nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lavie.latents import Latents
from lavie.manifest import NEAREST

RATE = 4  # output frames for each step from one key frame to the next


@dataclass(frozen=True)
class Shown:
    """Inputs of the network, B c F h w each.

    beside: channels behind the noisy ones. residual_base: added to the prediction, where it is not None.
    """

    beside: Tensor
    residual_base: Tensor | None = None


def interpolated_frames(keys: int) -> int:
    return RATE * (keys - 1) + 1


def nearest_key(frame: int) -> int:
    """The key frame of an output frame: i → (i + 1) // 4, as published."""
    return (frame + 1) // RATE


def keys_of(frame: int, keys: int, conditioning: str) -> list[int]:
    """The numbers of the key frames for an output frame, with repeats at both ends. keys: how many there are."""
    if conditioning == NEAREST:
        return [nearest_key(frame)]
    before = _key_before(frame, keys)
    return [min(max(key, 0), keys - 1) for key in range(before - 1, before + 3)]


def show(keys: Latents, frames: Sequence[int], conditioning: str) -> Shown:
    """The inputs of the network for these output frames."""
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
    """The number of channels beside the noisy ones. channels: of the latents."""
    return channels if conditioning == NEAREST else 5 * channels + 1


def _key_before(frame: int, keys: int) -> int:
    """The key frame before an output frame; for the last key frame the one before it."""
    return min(frame // RATE, max(keys - 2, 0))
