"""Starts that already do the plain thing, so that training only has to learn what the plain thing misses.

An autoencoder begins as a box filter down and nearest neighbours up; a super-resolution network begins as passing the
small frames on. From random weights the ×4 autoencoder took 3 000 steps to 33.8 dB, nearly all of its error in flat
areas; from this start it takes 300, and 42 dB after 1 500.

The difficulty is the group norms on the way: they divide a signal by its own strength, so that a flat area's colour is
hard to keep exact. Two constant channels, +LOUD and −LOUD, beside each pair (x, −x) of a group hold its deviation still
whatever x is; and since silu(x) − silu(−x) = x, the activation behind the norm lets the pair through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models import AutoencoderKL
from torch import Tensor, nn

from lavie.unet import InterpolationUNet, SuperResolutionUNet

LOUD = 4.0  # against colours of at most 1: their square moves the deviation by a per cent or two
COLOURS = 3
CONSTANT = COLOURS  # the channel behind the colours, on the way to where groups are laid out


@torch.no_grad()
def start_as_resampling(vae: AutoencoderKL) -> AutoencoderKL:
    """Latent channels 0 … 2 begin as mean colours and decode to them; the last channel is free. In place."""
    half: Any
    block: Any
    for half, blocks, samplers in (
        (vae.encoder, vae.encoder.down_blocks, "downsamplers"),
        (vae.decoder, vae.decoder.up_blocks, "upsamplers"),
    ):
        _carry_in(half.conv_in, range(COLOURS))
        for block in blocks:
            _silence(block.resnets)
            _pass_shortcut(block.resnets[0].conv_shortcut, half.conv_norm_out, last=block is blocks[-1])
            for sampler in getattr(block, samplers) or []:
                _resample(sampler.conv)
        _silence(half.mid_block.resnets)
        _let_pairs_through(half.conv_norm_out)
        _read_pairs(half.conv_out, half.conv_norm_out, torch.eye(COLOURS))
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        assert convolution is not None
        for channel in range(min(convolution.in_channels, convolution.out_channels, COLOURS + 1)):
            _only(convolution, channel, channel)  # rows of the means; those of the deviations stay
    return vae


@torch.no_grad()
def start_as_passing_on(network: SuperResolutionUNet, small: Tensor, latents: Tensor) -> SuperResolutionUNet:
    """Begin as the linear map from small frames to latents that fits best, past all that is random. In place.

    The network is to predict clean latents (`sample`): any other target mixes in the noise, by a share that changes
    with the timestep and that no linear path can follow.

    Args:
        small: frames B 3 h w in -1 … 1. latents: B C h w, of the same frames enlarged.
    """
    known = torch.cat([small, torch.ones_like(small[:, :1])], dim=1).transpose(0, 1).flatten(1).T
    fitted = torch.linalg.lstsq(known, latents.transpose(0, 1).flatten(1).T).solution
    noisy = network.config["in_channels"] - COLOURS
    _carry_in(network.conv_in, range(noisy, noisy + COLOURS))
    level: Any
    for level in (*network.down_blocks, network.mid_block, *network.up_blocks):
        _silence(level.resnets, share=0.1)
    # The skip connection from the first convolution to the last residual block carries the small frames past the rest.
    last = level.resnets[-1].conv_shortcut
    _lay_out(last, network.conv_norm_out, first=last.in_channels - network.conv_in.out_channels)
    _let_pairs_through(network.conv_norm_out)
    network.conv_out.weight.zero_()
    _read_pairs(network.conv_out, network.conv_norm_out, fitted[:COLOURS].T, fitted[COLOURS])
    return network


@torch.no_grad()
def start_as_blending(network: InterpolationUNet) -> InterpolationUNet:
    """Begin by adding nothing to the straight blend of the key frames, and ignore the noisy latents. In place.

    Four key frames say what lies between them. Where noise is weak the noisy latents say it too, but they are a look at
    the answer, which the network does not get when it is used; a hook keeps their weights at zero.
    """
    heard = torch.ones_like(network.conv_in.weight)
    heard[:, : network.config["out_channels"]] = 0
    network.conv_in.weight.mul_(heard).register_hook(heard.mul)
    for parameter in network.conv_out.parameters():
        nn.init.zeros_(parameter)
    return network


def _carry_in(convolution: nn.Conv2d, sources: Iterable[int]) -> None:
    """Output channels 0 … 2 are these inputs, the next one is LOUD everywhere; others keep their random start."""
    for channel, source in enumerate(sources):
        _only(convolution, channel, source)
    _only(convolution, CONSTANT, None, bias=LOUD)


def _pass_shortcut(shortcut: nn.Conv2d | None, norm: nn.GroupNorm, last: bool) -> None:
    if shortcut is None:
        return
    if last:
        _lay_out(shortcut, norm)
    else:
        for channel in range(COLOURS + 1):
            _only(shortcut, channel, channel)


def _lay_out(shortcut: nn.Conv2d, norm: nn.GroupNorm, first: int = 0) -> None:
    """Group k of the norm begins with colour k, its negative, and the two constants; they come in from `first` on."""
    for colour, start in enumerate(_group_starts(norm)):
        for offset, (source, gain) in enumerate([(colour, 1), (colour, -1), (CONSTANT, 1), (CONSTANT, -1)]):
            _only(shortcut, start + offset, first + source, gain)


def _let_pairs_through(norm: nn.GroupNorm) -> None:
    """Undo the norm's division for the pairs: two constants in a group, free channels taken to have variance 1."""
    size = norm.num_channels // norm.num_groups
    deviation = ((2 * LOUD**2 + size - 4) / size) ** 0.5
    for start in _group_starts(norm):
        norm.weight[start : start + 2] = deviation


def _read_pairs(convolution: nn.Conv2d, norm: nn.GroupNorm, weights: Tensor, bias: Tensor | None = None) -> None:
    """Outputs as `weights` (outputs × colours) of the colours, each read as half of what its pair differs by."""
    for output, row in enumerate(weights):
        _only(convolution, output, None, bias=0.0 if bias is None else float(bias[output]))
        for start, weight in zip(_group_starts(norm), row, strict=True):
            convolution.weight[output, start, 1, 1] = weight
            convolution.weight[output, start + 1, 1, 1] = -weight


def _group_starts(norm: nn.GroupNorm) -> list[int]:
    return [colour * (norm.num_channels // norm.num_groups) for colour in range(COLOURS)]


def _only(convolution: nn.Conv2d, output: int, source: int | None, gain: float = 1.0, bias: float = 0.0) -> None:
    """Let an output channel be `gain` times an input channel, or nothing but its bias."""
    assert convolution.bias is not None
    convolution.weight[output] = 0
    convolution.bias[output] = bias
    if source is not None:
        centre = convolution.kernel_size[0] // 2
        convolution.weight[output, source, centre, centre] = gain


def _resample(convolution: nn.Conv2d) -> None:
    """The carried channels: the mean of 2×2 pixels where the convolution halves, themselves behind an enlargement."""
    for channel in range(COLOURS + 1):
        _only(convolution, channel, channel)
        if convolution.stride == (2, 2):
            convolution.weight[channel, channel] = 0
            convolution.weight[channel, channel, :2, :2] = 0.25


def _silence(blocks: Iterable[Any], share: float = 0.0) -> None:
    """Residual blocks begin by adding nothing, or `share` of what they would."""
    for block in blocks:
        block.conv2.weight *= share
        block.conv2.bias.zero_()
