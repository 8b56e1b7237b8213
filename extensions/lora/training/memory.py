"""Estimates the memory of a training before it begins."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from extensions.lora.training.settings import Preset
from lavie.bundle import BASE, CLASSES, Bundle
from lavie.manifest import TEXT_ENCODER, VAE

FLOAT = 4  # bytes
STATE = 5  # copies of a trained number: itself, its gradient, the average, two moments of the optimiser
KEPT = 2.0  # copies of a layer's output kept for the backward pass, with attention and norms


def estimate_bytes(bundle: Bundle, frames: int, trained: int, checkpointing: bool) -> int:
    """Estimated bytes at the peak: weights in float32, trained numbers, and the backward pass.

    Args:
        frames: that a step shows.
        trained: numbers in all factors.
        checkpointing: whether levels are computed again in the backward pass.
    """
    weights = 2 * sum(bundle.size(component) for component in (BASE, TEXT_ENCODER, VAE))  # stored in float16
    kept = KEPT * FLOAT * _outputs(bundle, frames)
    return round(weights + STATE * FLOAT * trained + (kept / 4 if checkpointing else kept))


def frames_a_step(bundle: Bundle, preset: Preset) -> int:
    """The most frames that a step shows, the prior's clip included: all losses are added before the backward pass."""
    clips = preset.moved + bool(preset.prior)
    return preset.batch * (bundle.frames if preset.from_clips else 1) + clips * bundle.frames


def free_bytes(device: torch.device) -> int:
    """Bytes that this process may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


@torch.no_grad()
def _outputs(bundle: Bundle, frames: int) -> int:
    """The numbers that all layers output for one clip, counted by a run on the meta device."""
    with torch.device("meta"):
        network = CLASSES[BASE].from_config(bundle.config(BASE))
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal counted
        counted += output.numel() if isinstance(output, torch.Tensor) else 0

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    factor, config = bundle.halvings(VAE), network.config
    sample = (1, config.in_channels, frames, bundle.height // factor, bundle.width // factor)
    text = (1, bundle.text_encoder(BASE).limit, config.cross_attention_dim)
    network(torch.empty(sample, device="meta"), torch.empty(1, device="meta"), torch.empty(text, device="meta"))
    return counted
