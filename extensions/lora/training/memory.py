"""How much memory a training will take, told before it begins."""

from __future__ import annotations

import torch
from torch import nn

from extensions.lora.training.presets import Preset
from lavie.bundle import BASE, CLASSES, TEXT_ENCODER, VAE, Bundle

FLOAT = 4  # bytes
STATE = 5  # copies of a trained number: itself, its gradient, the average, two moments of the optimiser
KEPT = 2.0  # times a layer's output that stays for the backward pass: its input's other uses, attention and norms


def needed(bundle: Bundle, frames: int, trained: int, checkpointing: bool) -> int:
    """Bytes at the peak, about: weights in float32, what is trained, and what the backward pass needs.

    Args:
        frames: of all that a step shows. trained: numbers in all factors.
        checkpointing: whether levels are computed again in the backward pass.
    """
    weights = 2 * sum(bundle.size(component) for component in (BASE, TEXT_ENCODER, VAE))  # stored in float16
    kept = KEPT * FLOAT * _outputs(bundle, frames)
    return round(weights + STATE * FLOAT * trained + (kept / 4 if checkpointing else kept))


def frames_a_step(bundle: Bundle, preset: Preset) -> int:
    """Frames that a step shows, at most. The prior's clip and the media are in it together: their losses are added
    before the backward pass."""
    clips = preset.moved + bool(preset.prior)
    return preset.batch * (bundle.frames if preset.from_clips else 1) + clips * bundle.frames


def free(device: torch.device) -> int:
    """Bytes that this process may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


@torch.no_grad()
def _outputs(bundle: Bundle, frames: int) -> int:
    """How many numbers all layers together put out for one clip; counted by a run without memory."""
    with torch.device("meta"):
        network = CLASSES[BASE].from_config(bundle.config(BASE))
    counted = 0

    def count(layer: nn.Module, inputs: tuple, output) -> None:
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
