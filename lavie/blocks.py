"""What the networks are made of between the leaf layers and the skeleton: each network's own transformer block, and
the levels that hold them. Parameter names follow the published checkpoints.
"""

from __future__ import annotations

import math
import typing

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

if typing.TYPE_CHECKING:
    from lavie.unet import VideoUNet

TEMPORAL_NORM_GROUPS = 32  # of the convolutional temporal modules: fixed in the published network, whatever the config
CACHED_ELEMENTS = 2**14  # activations a CPU takes at a time through a feed-forward layer, which widens them eightfold


class TransformerBlock(nn.Module):
    """Attention over space, text and time, and a feed-forward layer. Each network has its own order of them."""

    def __init__(self, channels: int, heads: int, text_channels: int, only_cross_attention: bool = False):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = self._spatial_attention(channels, heads, text_channels if only_cross_attention else None)
        self.attn2 = CrossAttention(channels, heads, text_channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    @staticmethod
    def _spatial_attention(channels: int, heads: int, text_channels: int | None) -> Attention:
        kind = SelfAttention if text_channels is None else CrossAttention
        return kind(channels, heads, text_channels)

    def _feed_forward(self, x: Tensor) -> Tensor:
        """Residual. Without gradients a CPU takes the tokens in pieces: the hidden layer then stays in its cache."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return x + self.ff(self.norm3(x))
        pieces = x.flatten(0, 1).split(max(1, CACHED_ELEMENTS // x.shape[-1]))
        return torch.cat([piece + self.ff(self.norm3(piece)) for piece in pieces]).view_as(x)

    @staticmethod
    def _over_time(
        attention: TemporalAttention, norm: nn.LayerNorm, x: Tensor, frames: int, image_frames: int
    ) -> Tensor:
        """Residual temporal attention that leaves the last `image_frames` frames of each clip as they are."""
        if image_frames == frames:
            return x
        if image_frames == 0:
            return x + attention(norm(x), frames)
        clip, images = x.unflatten(0, (-1, frames)).split([frames - image_frames, image_frames], dim=1)
        clip = clip + attention(norm(clip.flatten(0, 1)), frames - image_frames).view_as(clip)
        return torch.cat([clip, images], dim=1).flatten(0, 1)


class BaseTransformerBlock(TransformerBlock):
    """Space, text, time, feed-forward."""

    def __init__(self, channels: int, heads: int, text_channels: int, only_cross_attention: bool = False):
        super().__init__(channels, heads, text_channels, only_cross_attention)
        self.norm_temp = nn.LayerNorm(channels)
        self.attn_temp = TemporalAttention(channels, heads)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        x = x + self.attn1(self.norm1(x), context, frames)
        x = x + self.attn2(self.norm2(x), context, frames)
        x = self._over_time(self.attn_temp, self.norm_temp, x, frames, image_frames)
        return self._feed_forward(x)


class InterpolationTransformerBlock(TransformerBlock):
    """Space with eyes on the first and the previous frame, text, feed-forward; then time, without positions."""

    def __init__(self, channels: int, heads: int, text_channels: int, only_cross_attention: bool = False):
        super().__init__(channels, heads, text_channels, only_cross_attention)
        self.norm_temp = nn.LayerNorm(channels)
        self.attn_temp = TemporalAttention(channels, heads, positions=False)

    @staticmethod
    def _spatial_attention(channels: int, heads: int, text_channels: int | None) -> Attention:
        return FirstAndPreviousFrameAttention(channels, heads)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        x = x + self.attn1(self.norm1(x), context, frames)
        x = x + self.attn2(self.norm2(x), context, frames)
        x = self._feed_forward(x)
        return self._over_time(self.attn_temp, self.norm_temp, x, frames, image_frames)


class SuperResolutionTransformerBlock(TransformerBlock):
    """Text (twice, or space and text on the last level), time, feed-forward."""

    def __init__(self, channels: int, heads: int, text_channels: int, only_cross_attention: bool = False):
        super().__init__(channels, heads, text_channels, only_cross_attention)
        self.norm_temporal = nn.LayerNorm(channels)
        self.attn_temporal = TemporalAttention(channels, heads)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        x = x + self.attn1(self.norm1(x), context, frames)
        x = x + self.attn2(self.norm2(x), context, frames)
        x = self._over_time(self.attn_temporal, self.norm_temporal, x, frames, image_frames)
        return self._feed_forward(x)


class Transformer(nn.Module):
    """Pixels to tokens, one transformer block, tokens to pixels, around a shortcut."""

    def __init__(self, net: VideoUNet, channels: int, only_cross_attention: bool):
        super().__init__()
        config = net.config
        linear = config.use_linear_projection
        if net.TEMPORAL_CONVOLUTIONS:
            groups = math.gcd(TEMPORAL_NORM_GROUPS, channels)
            self.resblock_temporal = TemporalResnetBlock(channels, None, groups, config.norm_eps, kernels=(3, 3))
        self.norm = VideoGroupNorm(config.norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        block = net.BLOCK(channels, config.attention_head_dim, config.cross_attention_dim, only_cross_attention)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        """x: (B F) C H W → the same shape."""
        if hasattr(self, "resblock_temporal") and image_frames == 0:
            x = self.resblock_temporal(x, None, frames)
        tokens = self._tokens(self.norm(x), self.proj_in)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, frames, image_frames)
        return x + self._pixels(tokens, self.proj_out, x.shape[2:])

    @staticmethod
    def _tokens(x: Tensor, projection: nn.Module) -> Tensor:
        if isinstance(projection, nn.Linear):
            return projection(x.flatten(2).transpose(1, 2))
        return projection(x).flatten(2).transpose(1, 2)

    @staticmethod
    def _pixels(tokens: Tensor, projection: nn.Module, size: torch.Size) -> Tensor:
        if isinstance(projection, nn.Linear):
            return projection(tokens).transpose(1, 2).unflatten(2, size)
        return projection(tokens.transpose(1, 2).unflatten(2, size))


class TemporalModule(nn.Module):
    """Five frames of time, then space, added through a 1×1 convolution (LaVie, section 4.3)."""

    def __init__(self, net: VideoUNet, channels: int, time_channels: int):
        super().__init__()
        groups, eps = math.gcd(TEMPORAL_NORM_GROUPS, channels), net.config.norm_eps
        self.resblocks_3d_t = TemporalResnetBlock(channels, time_channels, groups, eps, kernels=(5, 3))
        self.resblocks_3d_s = ResnetBlock(channels, channels, time_channels, groups, eps)
        self.shift_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor, frames: int) -> Tensor:
        h = self.resblocks_3d_s(self.resblocks_3d_t(x, time, frames), time, frames)
        return x + self.shift_conv(h)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by a transformer where the level attends."""

    def __init__(self, net: VideoUNet, widths: list[tuple[int, int]], attends: bool, only_cross_attention: bool):
        """widths: in and out channels of each residual block."""
        super().__init__()
        config = net.config
        self.resnets = nn.ModuleList(
            ResnetBlock(a, b, net.time_channels, config.norm_num_groups, config.norm_eps) for a, b in widths
        )
        if attends:
            self.attentions = nn.ModuleList(Transformer(net, b, only_cross_attention) for _, b in widths)

    def layer(
        self, index: int, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int
    ) -> Tensor:
        x = self.resnets[index](x, time, frames)
        if hasattr(self, "attentions"):
            x = self.attentions[index](x, context, frames, image_frames)
        return x


class MiddleLevel(Level):
    """Residual block, transformer, residual block, at the lowest resolution."""

    def __init__(self, net: VideoUNet, channels: int):
        super().__init__(net, [(channels, channels)], attends=True, only_cross_attention=False)
        config = net.config
        self.resnets.append(ResnetBlock(channels, channels, net.time_channels, config.norm_num_groups, config.norm_eps))

    def layer(
        self, index: int, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int
    ) -> Tensor:
        x = super().layer(index, x, time, context, frames, image_frames)
        return self.resnets[1](x, time, frames)
