"""What a segment needs from those before it. Memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extensions.long_video.metrics import AFTER, BEFORE, join_between
from extensions.long_video.plan import Layout
from lavie.sampling import Denoised

SMALLEST_EIGENVALUE = 1e-3  # of the variance; those of a measured matrix may be zero or negative


def temporal_covariance(latents: Tensor) -> Tensor:
    """The stationary covariance over time of latents 1 C F h w: F F in float64 on the CPU.

    K[d] is the mean over channels, pixels and frames i of (z_i − μ_c)(z_{i+d} − μ_c). The Toeplitz matrix has its
    eigenvalues clamped to at least `SMALLEST_EIGENVALUE` of the variance.
    """
    clip = latents[0].double().cpu()
    clip = clip - clip.mean((1, 2, 3), keepdim=True)
    frames = clip.shape[1]
    lags = torch.stack([(clip[:, : frames - lag] * clip[:, lag:]).mean() for lag in range(frames)])
    places = torch.arange(frames)
    values, vectors = torch.linalg.eigh(lags[(places[:, None] - places[None]).abs()])
    floor = SMALLEST_EIGENVALUE * lags[0].clamp(min=torch.finfo(torch.float64).tiny)
    return vectors @ values.clamp(min=floor).diag() @ vectors.T


DEAD_BAND = 0.03  # smaller changes of a channel are content, not drift
CAP = 0.05  # largest change of a channel that one segment takes back
FREEZE = 0.5  # of the reference's motion; a segment with less has stopped
REBASE = 0.5  # share of the new scene where a prompt changes


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each latent channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, latents: Tensor) -> Statistics:
        """Measure latents 1 C F h w."""
        flat = latents[0].flatten(1).double().cpu()
        return cls(tuple(flat.mean(1).tolist()), tuple(flat.std(1, correction=0).tolist()))

    def rebase(self, scene: Statistics) -> Statistics:
        """The reference after a change of prompt: half the old one, half the new scene."""
        pairs = (self.mean, scene.mean), (self.std, scene.std)
        mean, std = (tuple((1 - REBASE) * a + REBASE * b for a, b in zip(*pair, strict=True)) for pair in pairs)
        return Statistics(mean, std)


def anchor(
    latents: Tensor, reference: Statistics, *, ramped: bool = True, dead_band: float = DEAD_BAND, cap: float = CAP
) -> tuple[Tensor, dict[str, Any]]:
    """Lead contrast and mean of each channel of new frames 1 C n h w back towards the reference.

    The change grows over the frames (frame j of n by (j + 1)/n), since a sudden one would be a seam itself.

    Returns the frames, and gain and offset of each channel at the last frame, as plain values.
    """
    found = Statistics.of(latents)
    gains, offsets = [], []
    for was, std, wanted_mean, wanted_std in zip(found.mean, found.std, reference.mean, reference.std, strict=True):
        gains.append(1 + _limit_change(wanted_std / std - 1 if std else 0.0, dead_band, cap))
        offsets.append(std * _limit_change((wanted_mean - was) / std if std else 0.0, dead_band, cap))
    mean, gain, offset = (
        torch.tensor(values, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (found.mean, gains, offsets)
    )
    count = latents.shape[2]
    ramp = torch.arange(1, count + 1, device=latents.device, dtype=latents.dtype)[:, None, None] / count
    change = (gain - 1) * (latents - mean) + offset
    return latents + (ramp if ramped else 1) * change, {"gain": gains, "offset": offsets}


def _limit_change(difference: float, dead_band: float, cap: float) -> float:
    return 0.0 if abs(difference) <= dead_band else max(-cap, min(cap, difference))


def measure_motion(latents: Tensor) -> float:
    """RMS difference from frame to frame of latents 1 C F h w; 0 for a single frame."""
    if latents.shape[2] < 2:
        return 0.0
    return latents.double().diff(dim=2).square().mean().sqrt().item()


RETRIED_WITH = (2, 1)  # known frames; with fewer a segment inherits less of a standstill


class Chain:
    """The last frames of a video, and measurements of its first clip.

    It depends only on the latents added, so a resumed chain equals one that was never interrupted.
    """

    def __init__(self, layout: Layout, start: Tensor | None, opening: Tensor | None = None) -> None:
        """start: 1 C N h w, frames that exist already. opening: 1 C F h w, the first window if it exists already."""
        self.layout = layout
        self._opening = opening
        self.tail: Tensor | None = None
        self._first: Tensor | None = None  # the first clip, at most a window long
        self._covariance: Tensor | None = None
        self._reference: Statistics | None = None
        if start is not None:
            self._append(start.float().cpu())
            self._begin(start[:, :, -layout.plan.window :].float().cpu())

    def _begin(self, clip: Tensor) -> None:
        """Measure the first clip. A copy is kept, so that the frames around it can be freed."""
        self._first, self._reference = clip.clone(), Statistics.of(clip)

    def _append(self, latents: Tensor) -> None:
        latents = latents if self.tail is None else torch.cat([self.tail, latents], dim=2)
        self.tail = latents[:, :, -max(self.layout.plan.overlap, BEFORE) :].clone()

    def opening(self, number: int) -> Tensor | None:
        """The first window of a segment if it exists already: 1 C F h w in float32 on the CPU."""
        return None if number or self._opening is None else self._opening.float().cpu()

    def add(self, number: int, latents: Tensor) -> None:
        """Append a segment's latents 1 C n h w."""
        self._append(latents)
        if self._reference is None:
            self._begin(latents[:, :, : self.layout.plan.window])
        elif self._is_new_scene(number):
            self._reference = self._reference.rebase(Statistics.of(latents))

    def _is_new_scene(self, number: int) -> bool:
        segments = self.layout.plan.segments
        return number > 0 and segments[number].prompt != segments[number - 1].prompt

    def covariance(
        self, begun: Tensor | None, free_clip: Callable[[], Generator[Denoised, None, Tensor]]
    ) -> Generator[Denoised, None, Tensor]:
        """The covariance of the first clip, F F.

        Args:
            begun: the first window of the first segment while that is being made.
            free_clip: makes a whole window from nothing, for a first clip shorter than a window.
        """
        if self._covariance is None:
            clip = begun if self._first is None else self._first
            if clip is None or clip.shape[2] < self.layout.plan.window:
                clip = yield from free_clip()
            self._covariance = temporal_covariance(clip)
        return self._covariance

    def anchor(self, number: int, latents: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The segment, anchored to the first clip if the plan asks for it; and facts."""
        if not self.layout.plan.anchored or self._reference is None or self._is_new_scene(number):
            return latents, {}
        latents, change = anchor(latents, self._reference)
        return latents, {"anchoring": change}

    def motion(self, latents: Tensor) -> float:
        """The motion of a segment including its join."""
        return measure_motion(latents if self.tail is None else torch.cat([self.tail[:, :, -1:], latents], dim=2))

    def seam(self, show: Callable[[Tensor], np.ndarray] | None, latents: Tensor) -> float:
        """The visibility of the join to new frames 1 C n h w (`metrics.Join.severity`); 0 without a join or `show`."""
        if self.tail is None or show is None:
            return 0.0
        before = self.tail[:, :, -BEFORE:]
        frames = show(torch.cat([before, latents[:, :, :AFTER]], dim=2))
        return join_between(frames[: before.shape[2]], frames[before.shape[2] :]).severity

    def retries(self) -> list[int]:
        """The overlaps with which a segment is made again if it stands still; empty if the plan is not guarded."""
        plan = self.layout.plan
        return [min(count, plan.overlap) for count in RETRIED_WITH] if plan.guarded and self._first is not None else []

    def stands_still(self, motion: float) -> bool:
        """Whether a segment moves less than `FREEZE` of the first clip."""
        return self._first is not None and motion < FREEZE * measure_motion(self._first)
