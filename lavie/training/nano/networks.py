"""Nano's networks from scratch: the classes of the published cascade at the smallest useful size."""

from __future__ import annotations

import shutil

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lavie.key_frames import beside_channels
from lavie.manifest import NEIGHBOURS
from lavie.stages.super_resolution import SCALE
from lavie.training.nano.start import start_as_resampling
from lavie.unet import (
    ATTENTION_DOWN,
    ATTENTION_UP,
    PLAIN_DOWN,
    PLAIN_UP,
    BaseUNet,
    InterpolationUNet,
    SuperResolutionUNet,
    VideoUNet,
)

HEIGHT, WIDTH, FRAMES, FPS = 64, 96, 16, 8
TEXT_WIDTH = 128
WIDTHS, INTERPOLATION_WIDTHS = (128, 128), (64, 128, 128)
VAE_WIDTHS, UPSCALER_VAE_WIDTHS = (32, 64, 128, 128), (16, 32, 64)
LATENT_CHANNELS = 4
SHAPES_COMPILED = 256  # of a block: widths, sizes, with and without gradients, stills and clips


def build_vae(widths: tuple[int, ...], size: int) -> AutoencoderKL:
    """An autoencoder that halves the size len(widths) − 1 times, with 4 latent channels and no attention.

    It begins as plain resampling (see `start`), for which each of its four groups holds a colour's pair and two
    constants. Its posterior starts narrow (deviation 0.05): started at 1, as by default, it drowns what the encoder
    first says, and the encoder learns to say one thing in all four channels.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=size,
        mid_block_add_attention=False,
    )
    start_as_resampling(vae)
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0
        vae.quant_conv.bias[LATENT_CHANNELS:] = -6
    return vae


def build_network(
    kind: type[VideoUNet] = BaseUNet, in_channels: int = LATENT_CHANNELS, widths: tuple[int, ...] = WIDTHS
) -> VideoUNet:
    """A base network or, by `in_channels`, an extension network; `kind` and `widths` for others of this layout."""
    return kind(
        sample_size=HEIGHT // 8,
        in_channels=in_channels,
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        down_block_types=(ATTENTION_DOWN,) * len(widths),
        up_block_types=(ATTENTION_UP,) * len(widths),
    )


def build_interpolation() -> InterpolationUNet:
    """It sees four key frames around each frame, and their straight blend."""
    channels = LATENT_CHANNELS + beside_channels(NEIGHBOURS, LATENT_CHANNELS)
    return build_network(InterpolationUNet, channels, INTERPOLATION_WIDTHS)


def build_frame_vae() -> AutoencoderKL:
    """The ×8 autoencoder, of the base network's frames.

    Its last level keeps its width, so that there is no shortcut to lay the groups out in: it begins less plainly.
    """
    return build_vae(VAE_WIDTHS, HEIGHT)


def build_upscaler_vae() -> AutoencoderKL:
    """The ×4 autoencoder, of the large frames."""
    return build_vae(UPSCALER_VAE_WIDTHS, SCALE * HEIGHT)


def build_super_resolution() -> SuperResolutionUNet:
    """Narrow, since it works on sixty-four times as many pixels as the base network."""
    return SuperResolutionUNet(
        sample_size=HEIGHT,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=1,
        down_block_types=(PLAIN_DOWN, ATTENTION_DOWN, ATTENTION_DOWN),
        up_block_types=(ATTENTION_UP, ATTENTION_UP, PLAIN_UP),
        only_cross_attention=(True, True, False),
    )


def start_time_at_zero(network: VideoUNet) -> VideoUNet:
    """Zero the output of all that mixes time, so that an inflated network begins as the image network it was."""
    for name, module in network.named_modules():
        if name.endswith(("attn_temp.to_out.0", "attn_temporal.to_out.0", "shift_conv")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        if name.endswith("relative_attention_bias"):
            nn.init.normal_(module.weight, std=0.02)
        if name.endswith("resblock_temporal"):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return network


def inherit(network: VideoUNet, parent: dict[str, torch.Tensor]) -> VideoUNet:
    """Start from the weights of another network, where names are the same; new input channels start at 0."""
    own = network.state_dict()
    for name, value in own.items():
        if name == "conv_in.weight":
            value.zero_()
            value[:, : parent[name].shape[1]] = parent[name]
        elif name in parent:
            value.copy_(parent[name])
    return network


def quick_attention():
    """For training on a CPU: Nano's sequences are so short that plain attention's backward pass beats the fused one."""
    return sdpa_kernel(SDPBackend.MATH)


def compiled(network: VideoUNet) -> VideoUNet:
    """Compile the repeated blocks for training, in place; where there is no C++ compiler, leave them as they are.

    Each shape is compiled for itself, and kept in the compiler's cache on disk for the next start.
    """
    if shutil.which("g++"):
        torch._dynamo.config.recompile_limit = SHAPES_COMPILED
        for module in network.modules():
            if type(module).__name__ in network._repeated_blocks:
                module.compile(dynamic=False)
    return network
