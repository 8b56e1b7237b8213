"""Data on the published weights: the shape of each network and companion, and the settings of each stage.

Sources: the code and configs of Vchitect/LaVie and Vchitect/SEINE, the configs of CompVis/stable-diffusion-v1-4 and
stabilityai/stable-diffusion-x4-upscaler; LaVie (arXiv 2309.15103), SEINE (arXiv 2310.20700).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.manifest import (
    EPSILON,
    EXTENSION,
    TEXT_ENCODER,
    TOKENIZER,
    UPSCALER_TEXT,
    UPSCALER_TOKENIZER,
    UPSCALER_VAE,
    VAE,
    VELOCITY,
)
from lavie.unet import ATTENTION_DOWN, ATTENTION_UP, PLAIN_DOWN, PLAIN_UP


@dataclass(frozen=True)
class Published:
    """A family of published files: `config.json` and `tokenizer_config.json` by component.

    manifest: `cascade.json` without the format, with all stages that may exist.
    """

    manifest: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]
    tokenizers: Mapping[str, Mapping[str, Any]]


# Preview colours: red, green and blue for each of the four latent channels, as fitted by users of Stable Diffusion 1.4
# and of the ×4 upscaler.
SMALL_PREVIEW = [[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]]
LARGE_PREVIEW = [
    [-0.2340, -0.3863, -0.3257],
    [0.0994, 0.0885, -0.0908],
    [-0.2833, -0.2349, -0.3741],
    [0.2523, -0.0055, -0.1651],
]
MANIFEST = {
    "name": "LaVie",
    "width": 512,
    "height": 320,
    "frames": 16,
    "fps": 8,
    "examples": [
        "a corgi walking in the park at sunrise, oil painting style",
        "a teddy bear walking in the park, oil painting style, high quality",
        "a panda taking a selfie, 2k, high quality",
        "a polar bear playing drum kit in New York Times Square, 4k, high resolution",
    ],
    BASE: {
        "sampler": "ddpm",
        "steps": 50,
        "guidance": 7.5,
        "prediction_type": EPSILON,
        "preview": SMALL_PREVIEW,
    },
    # SEINE was published with 250 steps of DDPM; long videos use 100 of DDIM at the same guidance.
    EXTENSION: {
        "sampler": "ddim",
        "steps": 100,
        "guidance": 8.0,
        "prediction_type": EPSILON,
        "preview": SMALL_PREVIEW,
    },
    INTERPOLATION: {
        "sampler": "ddim",
        "steps": 50,
        "guidance": 4.0,
        "prediction_type": EPSILON,
        "prompt_suffix": ", 4k.",
        "negative_prompt": "None",  # the word itself, as in the published run
        "windows": {"size": 61, "stride": 40, "trim": 4},
        "preview": SMALL_PREVIEW,
    },
    # The published run used chunks of 8 without overlap, which leaves seams.
    SUPER_RESOLUTION: {
        "sampler": "ddim",
        "steps": 50,
        "guidance": 5.0,
        "noise_level": 50,
        "prediction_type": VELOCITY,
        "negative_prompt": "blur, worst quality",
        "windows": {"size": 8, "stride": 6, "trim": 0},
        "preview": LARGE_PREVIEW,
    },
}

_SMALL = {
    "_class_name": "BaseUNet",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": [ATTENTION_DOWN] * 3 + [PLAIN_DOWN],
    "up_block_types": [PLAIN_UP] + [ATTENTION_UP] * 3,
    "only_cross_attention": False,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,  # really the number of heads
    "use_linear_projection": False,
}
_LARGE = {
    "_class_name": "SuperResolutionUNet",
    "sample_size": 128,
    "in_channels": 7,
    "down_block_types": [PLAIN_DOWN] + [ATTENTION_DOWN] * 3,
    "up_block_types": [ATTENTION_UP] * 3 + [PLAIN_UP],
    "only_cross_attention": [True, True, True, False],
    "block_out_channels": [256, 512, 512, 1024],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "num_class_embeds": 1000,
}


def _autoencoder(widths: list[int], sample_size: int, scaling_factor: float) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "block_out_channels": widths,
        "layers_per_block": 2,
        "act_fn": "silu",
        "latent_channels": 4,
        "norm_num_groups": 32,
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
    }


def _text_model(width: int, layers: int, heads: int, activation: str, projection: int) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
        "hidden_act": activation,
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "projection_dim": projection,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _tokenizer(padding: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": padding,
    }


PUBLISHED = Published(
    MANIFEST,
    {
        BASE: _SMALL,
        EXTENSION: _SMALL | {"in_channels": 9},
        INTERPOLATION: _SMALL | {"_class_name": "InterpolationUNet", "in_channels": 8},
        SUPER_RESOLUTION: _SMALL | _LARGE,
        VAE: _autoencoder([128, 256, 512, 512], 512, 0.18215),
        UPSCALER_VAE: _autoencoder([128, 256, 512], 256, 0.08333),
        TEXT_ENCODER: _text_model(768, 12, 12, "quick_gelu", 768),
        UPSCALER_TEXT: _text_model(1024, 23, 16, "gelu", 512),
    },
    {TOKENIZER: _tokenizer("<|endoftext|>"), UPSCALER_TOKENIZER: _tokenizer("!")},
)
