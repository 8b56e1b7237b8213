"""The transformer block of each network, and the levels that hold the blocks.

Parameter names follow the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from lavie.layers import (
    Attention,
    CrossAttention,
    FirstAndPreviousFrameAttention,
    ResnetBlock,
    SelfAttention,
    TemporalAttention,
    TemporalResnetBlock,
    TextContext,
    VideoGroupNorm,
)

TEMPORAL_NORM_GROUPS = 32  # of the convolutional temporal modules; the published network does not configure it
CACHED_ELEMENTS = 2**14  # activations that a CPU passes at a time through a feed-forward layer, which widens them ×8


class TransformerBlock(nn.Module):
    """Space, text, time, feed-forward: the base network's block, from which the others differ."""

    TIME = "temp"  # in the names of what mixes time, as published
    POSITIONS = True  # whether attention over time knows the order of frames

    def __init__(self, channels: int, heads: int, text_channels: int, only_cross_attention: bool = False):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = self._spatial_attention(channels, heads, text_channels if only_cross_attention else None)
        self.attn2 = CrossAttention(channels, heads, text_channels)
        self.ff = FeedForward(channels, activation_fn="geglu")
        self.add_module(f"norm_{self.TIME}", nn.LayerNorm(channels))
        self.add_module(f"attn_{self.TIME}", TemporalAttention(channels, heads, self.POSITIONS))

    @staticmethod
    def _spatial_attention(channels: int, heads: int, text_channels: int | None) -> Attention:
        kind = SelfAttention if text_channels is None else CrossAttention
        return kind(channels, heads, text_channels)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """Residual. Without gradients a CPU passes tokens in pieces, so that the hidden layer stays in its cache."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return x + self.ff(self.norm3(x))
        pieces = x.flatten(0, 1).split(max(1, CACHED_ELEMENTS // x.shape[-1]))
        return torch.cat([piece + self.ff(self.norm3(piece)) for piece in pieces]).view_as(x)

    def _over_time(self, x: Tensor, frames: int, image_frames: int) -> Tensor:
        """Residual temporal attention that leaves the last `image_frames` frames of each clip unchanged."""
        if image_frames == frames:
            return x
        norm, attention = getattr(self, f"norm_{self.TIME}"), getattr(self, f"attn_{self.TIME}")
        if image_frames == 0:
            return x + attention(norm(x), frames)
        clip, images = x.unflatten(0, (-1, frames)).split([frames - image_frames, image_frames], dim=1)
        clip = clip + attention(norm(clip.flatten(0, 1)), frames - image_frames).view_as(clip)
        return torch.cat([clip, images], dim=1).flatten(0, 1)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        x = x + self.attn1(self.norm1(x), context, frames)
        x = x + self.attn2(self.norm2(x), context, frames)
        return self._feed_forward(self._over_time(x, frames, image_frames))


class InterpolationTransformerBlock(TransformerBlock):
    """Space (attending to the first and the previous frame), text, feed-forward, then time without positions."""

    POSITIONS = False

    @staticmethod
    def _spatial_attention(channels: int, heads: int, text_channels: int | None) -> Attention:
        return FirstAndPreviousFrameAttention(channels, heads)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        x = x + self.attn1(self.norm1(x), context, frames)
        x = x + self.attn2(self.norm2(x), context, frames)
        return self._over_time(self._feed_forward(x), frames, image_frames)


class SuperResolutionTransformerBlock(TransformerBlock):
    """Text (twice, or space and text on the last level), time, feed-forward."""

    TIME = "temporal"


@dataclass(frozen=True)
class BlockConfig:
    """Settings that all blocks of a network share."""

    transformer: type[TransformerBlock]
    heads: int
    text_channels: int
    time_channels: int
    norm_groups: int
    norm_eps: float
    linear_projection: bool
    temporal_convolutions: bool


class Transformer(nn.Module):
    """Pixels to tokens, one transformer block, tokens to pixels, around a shortcut."""

    def __init__(self, config: BlockConfig, channels: int, only_cross_attention: bool):
        super().__init__()
        if config.temporal_convolutions:
            groups = math.gcd(TEMPORAL_NORM_GROUPS, channels)
            self.resblock_temporal = TemporalResnetBlock(channels, None, groups, config.norm_eps, kernels=(3, 3))
        self.norm = VideoGroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = self._projection(config, channels)
        block = config.transformer(channels, config.heads, config.text_channels, only_cross_attention)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = self._projection(config, channels)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        """x: (B F) C H W → the same shape."""
        if hasattr(self, "resblock_temporal") and image_frames == 0:
            x = self.resblock_temporal(x, None, frames)
        tokens = self.norm(x)
        if isinstance(self.proj_in, nn.Linear):
            tokens = self.proj_in(tokens.flatten(2).transpose(1, 2))
        else:
            tokens = self.proj_in(tokens).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, frames, image_frames)
        if isinstance(self.proj_out, nn.Linear):
            return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))

    @staticmethod
    def _projection(config: BlockConfig, channels: int) -> nn.Module:
        return nn.Linear(channels, channels) if config.linear_projection else nn.Conv2d(channels, channels, 1)


class TemporalModule(nn.Module):
    """Convolutions over five frames, then over space, added through a 1×1 convolution (LaVie, section 4.3)."""

    def __init__(self, config: BlockConfig, channels: int):
        super().__init__()
        groups, eps, time = math.gcd(TEMPORAL_NORM_GROUPS, channels), config.norm_eps, config.time_channels
        self.resblocks_3d_t = TemporalResnetBlock(channels, time, groups, eps, kernels=(5, 3))
        self.resblocks_3d_s = ResnetBlock(channels, channels, time, groups, eps)
        self.shift_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor, frames: int) -> Tensor:
        h = self.resblocks_3d_s(self.resblocks_3d_t(x, time, frames), time, frames)
        return x + self.shift_conv(h)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by a transformer where the level attends."""

    def __init__(self, config: BlockConfig, widths: list[tuple[int, int]], attends: bool, only_cross_attention: bool):
        """widths: input and output channels of each residual block."""
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(a, b, config.time_channels, config.norm_groups, config.norm_eps) for a, b in widths
        )
        if attends:
            self.attentions = nn.ModuleList(Transformer(config, b, only_cross_attention) for _, b in widths)

    def layer(
        self, index: int, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int
    ) -> Tensor:
        x = self.resnets[index](x, time, frames)
        if hasattr(self, "attentions"):
            x = self.attentions[index](x, context, frames, image_frames)
        return x


class MiddleLevel(Level):
    """Residual block, transformer, residual block, at the lowest resolution."""

    def __init__(self, config: BlockConfig, channels: int):
        super().__init__(config, [(channels, channels)], attends=True, only_cross_attention=False)
        last = ResnetBlock(channels, channels, config.time_channels, config.norm_groups, config.norm_eps)
        self.resnets.append(last)

    def layer(
        self, index: int, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int
    ) -> Tensor:
        x = super().layer(index, x, time, context, frames, image_frames)
        return self.resnets[1](x, time, frames)
