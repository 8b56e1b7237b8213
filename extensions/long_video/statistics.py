"""What keeps a chain of segments from drifting: contrast and brightness held at a reference, and a watch on motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEAD_BAND = 0.03  # a smaller change of a channel is content, not drift
CAP = 0.05  # at most this much of a channel is taken back in one segment
FREEZE = 0.5  # of the reference's motion; a segment with less has stopped
REBASE = 0.5  # share of the new scene where a prompt changes


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each latent channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, latents: Tensor) -> Statistics:
        """Of latents 1 C F h w."""
        flat = latents[0].flatten(1).double().cpu()
        return cls(tuple(flat.mean(1).tolist()), tuple(flat.std(1, correction=0).tolist()))

    def rebased(self, scene: Statistics) -> Statistics:
        """The reference behind a change of prompt: half of what it was, half of the new scene."""
        return Statistics(_between(self.mean, scene.mean), _between(self.std, scene.std))


def _between(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, ...]:
    return tuple((1 - REBASE) * a + REBASE * b for a, b in zip(old, new, strict=True))


def anchored(
    latents: Tensor, reference: Statistics, *, ramped: bool = True, dead_band: float = DEAD_BAND, cap: float = CAP
) -> tuple[Tensor, dict]:
    """New frames 1 C n h w with each channel's contrast and mean led back towards the reference.

    The change grows over the frames (frame j of n by (j + 1)/n): at once it would itself be a seam. dead_band and cap
    are shares of the contrast: a smaller difference is left alone, of a larger one so much is taken back.

    Returns:
        the frames; and gain and offset of each channel as at the last frame, plain values.
    """
    found = Statistics.of(latents)
    gains, offsets = [], []
    for mean, std, wanted_mean, wanted_std in zip(found.mean, found.std, reference.mean, reference.std, strict=True):
        gains.append(1 + _held(wanted_std / std - 1 if std else 0.0, dead_band, cap))
        offsets.append(std * _held((wanted_mean - mean) / std if std else 0.0, dead_band, cap))
    mean, gain, offset = (
        torch.tensor(values, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (found.mean, gains, offsets)
    )
    count = latents.shape[2]
    ramp = torch.arange(1, count + 1, device=latents.device, dtype=latents.dtype)[:, None, None] / count
    change = (gain - 1) * (latents - mean) + offset
    return latents + (ramp if ramped else 1) * change, {"gain": gains, "offset": offsets}


def _held(difference: float, dead_band: float, cap: float) -> float:
    return 0.0 if abs(difference) <= dead_band else max(-cap, min(cap, difference))


def motion_energy(latents: Tensor) -> float:
    """RMS difference from frame to frame of latents 1 C F h w; 0 for a single one."""
    if latents.shape[2] < 2:
        return 0.0
    return latents.double().diff(dim=2).square().mean().sqrt().item()
