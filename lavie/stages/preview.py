"""Small pictures of latents without a decoder, by a linear map from channels to colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def preview(latents: Tensor, to_rgb: tuple[tuple[float, float, float], ...] | None) -> np.ndarray | None:
    """Clean latents 1 C F h w → uint8 F h w 3, or None without `to_rgb` (C × 3, see `StageDefaults`)."""
    if to_rgb is None:
        return None
    matrix = torch.tensor(to_rgb, dtype=torch.float32, device=latents.device)
    colours = torch.einsum("cfhw,ck->fhwk", latents[0].float(), matrix[: latents.shape[1]])
    if len(matrix) > latents.shape[1]:
        colours = colours + matrix[-1]  # a row more than there are channels is a constant
    return ((colours + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu().numpy()
