"""How strongly a pixel at one frame tells what it is at another, measured on one clip: all that `corrected` adds to
the network's own knowledge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_EIGENVALUE = 1e-3  # of the variance; a measured matrix may have none or negative ones


def temporal_covariance(latents: Tensor) -> Tensor:
    """The stationary covariance over time of latents 1 C F h w, F F in float64 on the CPU.

    K[d] is the mean over channels, pixels and frames i of (z_i − μ_c)(z_{i+d} − μ_c): a Toeplitz matrix, its
    eigenvalues held above `SMALLEST_EIGENVALUE` of the variance.
    """
    clip = latents[0].double().cpu()
    clip = clip - clip.mean((1, 2, 3), keepdim=True)
    frames = clip.shape[1]
    lags = torch.stack([(clip[:, : frames - lag] * clip[:, lag:]).mean() for lag in range(frames)])
    places = torch.arange(frames)
    values, vectors = torch.linalg.eigh(lags[(places[:, None] - places[None]).abs()])
    floor = SMALLEST_EIGENVALUE * lags[0].clamp(min=torch.finfo(torch.float64).tiny)
    return vectors @ values.clamp(min=floor).diag() @ vectors.T


def carry_over(covariance: Tensor, alpha: float, known: Sequence[int]) -> Tensor:
    """How the known frames' errors are carried to the unknown ones at noise level ᾱ: (F − o) o, both in their order.

    known: o places of the F. Σ = (K⁻¹ + ᾱ/(1 − ᾱ)·1)⁻¹ is the covariance of a pixel's clean values given its noisy
    ones, Σ_uk Σ_kk⁻¹ the regression of the unknown on the known. In high noise it is near 1 for what stands still, in
    low noise near 0: the layout is inherited, the motion is the network's.
    """
    known = list(known)
    unknown = [place for place in range(len(covariance)) if place not in known]
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance) + alpha / (1 - alpha) * identity)
    told = posterior[known]
    return torch.linalg.solve(told[:, known], told[:, unknown]).T
