"""What a training step draws at random: captions that are emptied, timesteps and noise, all keyed by the step."""

from __future__ import annotations

import torch
from torch import Tensor

from lavie.noise import derive_seed
from lavie.sampling import TRAIN_STEPS, add_noise

CAPTION_DROPOUT = 0.1  # share of captions that are emptied, so that guidance has an unconditional half to lean on
CENTRE = -0.4  # mean logit of central timesteps: shapes are decided around 400


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "training", step))


def drop_captions(tokens: Tensor, empty: Tensor, generator: torch.Generator, share: float = CAPTION_DROPOUT) -> Tensor:
    """Replace a share of the captions (B L) by the tokens of the empty prompt (L)."""
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], empty, tokens)


def noised(
    clean: Tensor, generator: torch.Generator, least: int = 0, tilt: float = 0, central: float = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents B C F H W with noise, at timesteps B (`least` … 999) drawn for each, and that noise, where `clean` is.

    tilt: timesteps t come by with a density of t^tilt: 0 is all alike, and with more strong noise is rather drawn.
    central: share of timesteps whose logit is normal instead (Esser et al., arXiv 2403.03206, section 3.1).
    Whatever the device, everything is drawn on the CPU: the same step sees the same noise everywhere.
    """
    share = torch.rand(len(clean), generator=generator) ** (1 / (1 + tilt))
    if central:
        logit = CENTRE + torch.randn(len(clean), generator=generator)
        share = torch.where(torch.rand(len(clean), generator=generator) < central, logit.sigmoid(), share)
    timestep = (least + (TRAIN_STEPS - least) * share).long().clamp(max=TRAIN_STEPS - 1).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    return add_noise(clean, noise, timestep), timestep, noise
