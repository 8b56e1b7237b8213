"""Training the autoencoder between frames and latents.

Rombach et al. 2022 (latent diffusion), section 3.1, with the reconstruction as squared and absolute error and a slight
KL penalty. There is no adversary: the procedural world has no texture that a critic would have to bring back. What is
added is a pull of the latents' covariance over channels towards the identity: without it four channels soon say the
same (measured: correlations of 0.99 between pairs after 2 000 steps), and colours have no room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from lavie.noise import derive_seed

KL_WEIGHT = 1e-4
WHITENING_WEIGHT = 0.02


def vae_loss(
    vae: AutoencoderKL, batch_at: Callable[[int], Tensor], seed: int, whitening: float = WHITENING_WEIGHT
) -> Callable[[int], Tensor]:
    """The loss of a step. `batch_at(step)` gives frames B C H W in -1 … 1."""

    def loss_at(step: int) -> Tensor:
        frames = batch_at(step)
        generator = torch.Generator().manual_seed(derive_seed(seed, "autoencoder", step))
        posterior = vae.encode(frames).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = vae.decode(posterior.mean + posterior.std * noise).sample.float() - frames
        penalty = KL_WEIGHT * posterior.kl().mean() / error[0].numel() + whitening * _colouring(posterior.mean)
        return error.square().mean() + 0.2 * error.abs().mean() + penalty

    return loss_at


def _colouring(latents: Tensor) -> Tensor:
    """How far latents B C H W are from white: squared distance of their mean from 0 and their covariance from 1."""
    values = latents.float().transpose(0, 1).flatten(1)
    mean = values.mean(1, keepdim=True)
    covariance = (values - mean) @ (values - mean).T / values.shape[1]
    return mean.square().sum() + (covariance - torch.eye(len(values), device=values.device)).square().sum()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, batches: Iterable[Tensor]) -> None:
    """Give every latent channel mean 0 and deviation 1, in place: the networks then need no scaling factor.

    The change of units goes into the two 1×1 convolutions around the latents, so that encoding and decoding together
    stay what they were. batches: frames B C H W to measure the latents on.
    """
    measured = torch.cat([vae.encode(batch).latent_dist.mean for batch in batches]).transpose(0, 1).flatten(1)
    mean, deviation = measured.mean(1), measured.std(1)
    channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
