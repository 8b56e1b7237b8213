"""A world whose true answer is known: each pixel is a Gaussian process over time. The ideal networks of that world
stand in for trained ones, so that a method's seams are the method's own.

The covariance has 60 % of a still picture, and motion as rough as makes independent clips ten times rougher at a join
than inside, in value and in velocity: the numbers of the research page's world.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lavie.manifest import EPSILON
from lavie.sampling import implied_prediction, training_alphas

PIXELS = (4, 16, 32)  # C h w: 2048 independent pixels
CHANNELS = PIXELS[0]


def covariance(frames: int, still: float = 0.6, rate: int = 1) -> Tensor:
    """F F in float64, variance 1: a still share, a smooth (Matérn 3/2) and a rough (exponential) one.

    rate: frames for one of the base stage's.
    """
    places = torch.arange(frames, dtype=torch.float64) / rate
    lag = (places[:, None] - places[None]).abs()
    return still + (1 - still) / 2 * ((1 + 0.23 * lag) * (-0.23 * lag).exp() + 0.982**lag)


def draw(frames: int, rate: int = 1, seed: int = 0) -> Tensor:
    """A true video of the world, 1 C F h w."""
    noise = torch.randn(*PIXELS, frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (noise @ torch.linalg.cholesky(covariance(frames, rate=rate)).T).permute(0, 3, 1, 2)[None].float()


def expectation(prior: Tensor, timestep: int, known: tuple[int, ...], noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Two matrices, F F and F o: E[clean | noisy, known] is the first on the noisy and the second on the known.

    prior: F F. known: which frames are told beside, with normal noise of so large a deviation.
    """
    alpha, identity = training_alphas()[timestep].double(), torch.eye(len(prior), dtype=torch.float64)
    column = prior[:, list(known)]
    told = column[list(known)] + noise**2 * torch.eye(len(known), dtype=torch.float64)
    regression = torch.linalg.solve(told, column.T).T
    left = prior - regression @ column.T
    gain = alpha.sqrt() * left @ torch.linalg.inv(alpha * left + (1 - alpha) * identity)
    return gain.float(), ((identity - alpha.sqrt() * gain) @ regression).float()


class GaussianDenoiser:
    """The ideal network: B C F h w, or with a mask and masked latents B 2C+1 F h w → E[clean | all it is shown].

    bias: gain and offset by which it errs in all frames it makes, as a trained network does.
    """

    def __init__(self, prediction_type: str = EPSILON, bias: tuple[float, float] = (1.0, 0.0), still: float = 0.6):
        self.prediction_type, self.bias, self.still = prediction_type, bias, still
        self.calls = 0
        self._matrices: dict[tuple, tuple[Tensor, Tensor]] = {}

    def __call__(self, sample: Tensor, timestep: Tensor, context=None) -> Tensor:
        self.calls += 1
        noisy, frames = sample[:, :CHANNELS], sample.shape[2]
        known = ()
        if sample.shape[1] > CHANNELS:
            known = tuple(place for place in range(frames) if sample[0, CHANNELS, place, 0, 0] == 0)
        from_noisy, from_known = self._expectation(round(float(timestep)), frames, known)
        clean = _over_time(from_noisy, noisy)
        if known:
            clean = clean + _over_time(from_known, sample[:, CHANNELS + 1 :, list(known)])
        gain, offset = self.bias
        return implied_prediction(noisy, gain * clean + offset, timestep, self.prediction_type)

    def _expectation(self, timestep: int, frames: int, known: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        key = (timestep, frames, known)
        if key not in self._matrices:
            self._matrices[key] = expectation(covariance(frames, self.still), timestep, known)
        return self._matrices[key]


@dataclass
class TellingPredictor:
    """The ideal predictor of a later stage: it is told some frames of its window, with noise. See `lavie.windows`.

    told: 1 C o h w, the frames `places`. rate: frames for one of the base stage's.
    """

    told: Tensor
    places: tuple[int, ...]
    noise: float = 0.0
    rate: int = 4

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        prior = covariance(sample.shape[2], rate=self.rate)
        from_noisy, from_told = expectation(prior, round(float(timestep)), self.places, self.noise)
        clean = _over_time(from_noisy, sample) + _over_time(from_told, self.told)
        return implied_prediction(sample, clean, timestep, EPSILON)


def _over_time(matrix: Tensor, frames: Tensor) -> Tensor:
    return torch.einsum("uk,bckhw->bcuhw", matrix, frames)


def seam(video: Tensor, joins: list[int], order: int = 1) -> float:
    """RMS difference of the given order at joins over that inside. joins: first new frames. video: 1 C F h w."""
    change = video.double().diff(n=order, dim=2).square().mean((0, 1, 3, 4))
    touched = {join - 1 - back for join in joins for back in range(order)}
    inside = [place for place in range(len(change)) if place not in touched]
    return (change[sorted(touched)].mean() / change[inside].mean()).sqrt().item()


def roughness(video: Tensor) -> Tensor:
    """RMS difference from each frame to the next, as multiples of the median."""
    change = video.double().diff(dim=2).square().mean((0, 1, 3, 4)).sqrt()
    return change / change.median()
