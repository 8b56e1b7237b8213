"""Latents → a small picture without a decoder: a linear map from latent channels to colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def preview(latents: Tensor, to_rgb: tuple[tuple[float, float, float], ...] | None) -> np.ndarray | None:
    """Clean latents 1 C F h w → uint8 F h w 3, or None where the bundle says no colours. to_rgb: C × 3 (see bundle)."""
    if to_rgb is None:
        return None
    matrix = torch.tensor(to_rgb, dtype=torch.float32, device=latents.device)
    colours = torch.einsum("cfhw,ck->fhwk", latents[0].float(), matrix[: latents.shape[1]])
    if len(matrix) > latents.shape[1]:
        colours = colours + matrix[-1]  # a constant, where the bundle gives one more row than there are channels
    return ((colours + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu().numpy()
