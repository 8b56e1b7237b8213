"""A bundle of the real classes at toy size with random weights: everything a studio does, in about a second."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from lavie.training.assemble import write_bundle
from lavie.training.nano.networks import build_text_model, build_tokenizer, start_places
from lavie.unet import ATTENTION_DOWN, ATTENTION_UP, BaseUNet, InterpolationUNet, SuperResolutionUNet

TEXT_WIDTH = 32
MANIFEST = {
    "name": "Tiny",
    "width": 32,
    "height": 16,
    "frames": 4,
    "fps": 8,
    "base": {"sampler": "ddim", "steps": 2, "guidance": 3.0, "preview": [[0.1, 0.2, 0.3]] * 4},
    "interpolation": {
        "sampler": "ddim",
        "steps": 2,
        "guidance": 1.0,
        "windows": {"size": 21, "stride": 12, "trim": 2},
    },
    "super_resolution": {
        "sampler": "ddim",
        "steps": 2,
        "guidance": 1.0,
        "noise_level": 20,
        "prediction_type": "v_prediction",
        "windows": {"size": 8, "stride": 4, "trim": 1},
    },
}


def build_networks(places: int = MANIFEST["frames"], levels: int = 2) -> dict[str, torch.nn.Module]:
    """Every component with seeded random weights.

    Args:
        places: That the text encoder knows; the published ones know none.
        levels: Of the three U-Nets. One level takes half the time of two.
    """
    torch.manual_seed(0)
    shared = {
        "sample_size": 4,
        "block_out_channels": (32,) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 1,
        "down_block_types": (ATTENTION_DOWN,) * levels,
        "up_block_types": (ATTENTION_UP,) * levels,
    }
    return {
        "base": BaseUNet(**shared),
        "interpolation": InterpolationUNet(**shared),
        "super_resolution": SuperResolutionUNet(
            **shared, only_cross_attention=(True, False)[:levels], num_class_embeds=1000
        ),
        "vae": _vae(levels=4),
        "super_resolution_vae": _vae(levels=3),
        "text_encoder": start_places(
            build_text_model(build_tokenizer(), width=TEXT_WIDTH, layers=1, heads=1, places=places)
        ),
    }


def _vae(levels: int) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
    )


def write_tiny_bundle(folder: Path, levels: int = 2) -> Path:
    write_bundle(folder, build_networks(levels=levels), build_tokenizer(), MANIFEST)
    return folder
