"""What a segment needs to know of those before it, and no more: memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from extensions.long_video.metrics import AFTER, BEFORE, join_between
from extensions.long_video.plan import Layout
from extensions.long_video.strategies.covariance import temporal_covariance
from lavie.sampling import Denoised

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


RETRIED_WITH = (2, 1)  # known frames: the fewer, the less a segment inherits of a standstill


class Chain:
    """The last frames, and what was measured on the first clip.

    A function of the latents added to it: a resumed chain is the same as one that was never interrupted.
    """

    def __init__(self, layout: Layout, start: Tensor | None, opening: Tensor | None = None):
        """start: 1 C N h w, frames that are there already. opening: 1 C F h w, the first window where that is there."""
        self.layout = layout
        self._opening = opening
        self.tail: Tensor | None = None
        self._first: Tensor | None = None  # the first clip, at most a window long
        self._covariance: Tensor | None = None
        self._reference: Statistics | None = None
        if start is not None:
            self._append(start.float().cpu())
            self._begin(self._last(start.float().cpu(), layout.plan.window))

    def _begin(self, clip: Tensor) -> None:
        self._first, self._reference = clip, Statistics.of(clip)

    def _append(self, latents: Tensor) -> None:
        latents = latents if self.tail is None else torch.cat([self.tail, latents], dim=2)
        self.tail = self._last(latents, max(self.layout.plan.overlap, BEFORE))

    @staticmethod
    def _last(latents: Tensor, count: int) -> Tensor:
        """The last frames, without holding those before them in memory."""
        return latents[:, :, -count:].clone()

    def opening(self, number: int) -> Tensor | None:
        """The first window of a segment, where that is there, 1 C F h w in float32 on the CPU."""
        return None if number or self._opening is None else self._opening.float().cpu()

    def add(self, number: int, latents: Tensor) -> None:
        """Go on behind a segment's latents 1 C n h w."""
        self._append(latents)
        if self._first is None:
            self._begin(latents[:, :, : self.layout.plan.window].clone())
        elif self._is_new_scene(number):
            self._reference = self._reference.rebased(Statistics.of(latents))

    def _is_new_scene(self, number: int) -> bool:
        segments = self.layout.plan.segments
        return number > 0 and segments[number].prompt != segments[number - 1].prompt

    def covariance(
        self, begun: Tensor | None, free_clip: Callable[[], Generator[Denoised, None, Tensor]]
    ) -> Generator[Denoised, None, Tensor]:
        """K of the first clip, F F.

        begun: the first window of the first segment, where that is still being made. free_clip: makes a whole window
        that continues nothing, for a first clip that is shorter than one.
        """
        if self._covariance is None:
            clip = begun if self._first is None else self._first
            if clip.shape[2] < self.layout.plan.window:
                clip = yield from free_clip()
            self._covariance = temporal_covariance(clip)
        return self._covariance

    def anchored(self, number: int, latents: Tensor) -> tuple[Tensor, dict]:
        """The segment with contrast and brightness led back to the first clip's, where the plan says so; and facts."""
        if not self.layout.plan.anchored or self._reference is None or self._is_new_scene(number):
            return latents, {}
        latents, change = anchored(latents, self._reference)
        return latents, {"anchoring": change}

    def motion(self, latents: Tensor) -> float:
        """Motion energy of a segment, the join included."""
        return motion_energy(latents if self.tail is None else torch.cat([self.tail[:, :, -1:], latents], dim=2))

    def seam(self, show: Callable[[Tensor], np.ndarray] | None, latents: Tensor) -> float:
        """How much of the join to new frames 1 C n h w would be seen (`meters.Join.severity`); 0 where none is, and
        where nobody can look. show: see `model.Model`."""
        if self.tail is None or show is None:
            return 0.0
        before = self.tail[:, :, -BEFORE:]
        frames = show(torch.cat([before, latents[:, :, :AFTER]], dim=2))
        return join_between(frames[: before.shape[2]], frames[before.shape[2] :]).severity

    def retries(self) -> list[int]:
        """Known frames with which a segment that stands still is made again; none where nothing is made again."""
        plan = self.layout.plan
        return [min(count, plan.overlap) for count in RETRIED_WITH] if plan.guarded and self._first is not None else []

    def stands_still(self, motion: float) -> bool:
        """Whether a segment moves less than `FREEZE` of the first clip."""
        return self._first is not None and motion < FREEZE * motion_energy(self._first)
