"""Leaf layers that the three networks share.

Inside a network a video is one 4-D tensor with its frames folded into the batch, (B F) C H W in channels-last memory,
and tokens are (B F) N C with N = H·W. In this layout every change of view below is free: pooling over frames, temporal
convolution and token order are strides of the same memory. `frames` is the number of frames of a clip. Attribute names
follow the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNELS = {  # of torch's attention; the switches under `cuda` hold on every device
    "flash": torch.backends.cuda.flash_sdp_enabled,
    "efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
    "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
    "math": torch.backends.cuda.math_sdp_enabled,
}
ROTARY_CHANNELS = 32  # leading channels of a head that are rotated (RoFormer, arXiv 2104.09864)
ROTARY_BASE = 10_000.0
SHORT = 256  # keys up to which attention on a CPU is computed plainly while gradients are recorded
ACTIVATED_PIECES = 8  # a bfloat16 tensor is normalised and activated in so many pieces
BIAS_BUCKETS, BIAS_MAX_DISTANCE = 32, 32  # relative position buckets as in T5 (arXiv 1910.10683, section 2.1)


class VideoGroupNorm(nn.GroupNorm):
    """Group normalisation whose statistics run over all frames of a clip, as in the published networks."""

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """(B F) C H W → the same shape; `frames=1` normalises each frame alone."""
        return self._by_clip(super().forward, x, frames)

    def activate(self, x: Tensor, frames: int = 1) -> Tensor:
        """`silu(norm(x, frames))`. Without gradients a bfloat16 is rounded only once."""
        if x.dtype != torch.bfloat16 or torch.is_grad_enabled():
            return F.silu(self(x, frames))
        return self._by_clip(self._activate_in_float32, x, frames)

    @staticmethod
    def _by_clip(function: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
        clip = x.unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3)  # B C (F H) W, a view in channels-last
        return function(clip).unflatten(2, (frames, -1)).transpose(1, 2).flatten(0, 1)

    def _activate_in_float32(self, clip: Tensor) -> Tensor:
        """Works on some groups at a time, since the whole tensor in float32 would double the peak of memory."""
        pieces = math.gcd(self.num_groups, ACTIVATED_PIECES)

        def activate(piece: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            normalised = F.group_norm(piece.float(), self.num_groups // pieces, weight.float(), bias.float(), self.eps)
            return F.silu(normalised, inplace=True).to(piece.dtype)

        given = clip.chunk(pieces, 1), self.weight.chunk(pieces), self.bias.chunk(pieces)
        return torch.cat(list(map(activate, *given)), dim=1)


class TemporalConv(nn.Conv3d):
    """A (k, 1, 1) convolution along time, computed as a 2-D one over (frames, pixels)."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))

    def forward(self, x: Tensor, frames: int) -> Tensor:  # type: ignore[override]  # needs the frames of a clip
        """(B F) C H W → the same shape."""
        height = x.shape[2]
        clip = x.flatten(2).unflatten(0, (-1, frames)).transpose(1, 2)  # B C F (H W)
        clip = F.conv2d(clip, self.weight[..., 0], self.bias, padding=(int(self.padding[0]), 0))
        return clip.transpose(1, 2).flatten(0, 1).unflatten(2, (height, -1))


class ResnetBlock(nn.Module):
    """Two normalised convolutions with the time embedding between them, and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, time_channels: int | None, groups: int, eps: float):
        super().__init__()
        self.norm1 = VideoGroupNorm(groups, in_channels, eps)
        self.conv1 = self._convolution(in_channels, out_channels, 0)
        if time_channels is not None:
            self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = VideoGroupNorm(groups, out_channels, eps)
        self.conv2 = self._convolution(out_channels, out_channels, 1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def _convolution(self, in_channels: int, out_channels: int, index: int) -> nn.Module:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def _convolve(self, convolution: nn.Module, x: Tensor, frames: int) -> Tensor:
        return convolution(x)

    def forward(self, x: Tensor, time: Tensor | None, frames: int) -> Tensor:
        """x: (B F) C H W. time: B T after its activation, or None for a block without it."""
        h = self._convolve(self.conv1, self.norm1.activate(x, frames), frames)
        if time is not None:
            h = h + self.time_emb_proj(time).repeat_interleave(frames, 0)[:, :, None, None]
        h = self._convolve(self.conv2, self.norm2.activate(h, frames), frames)
        return self.conv_shortcut(x) + h


class TemporalResnetBlock(ResnetBlock):
    """A `ResnetBlock` with convolutions along time."""

    def __init__(self, channels: int, time_channels: int | None, groups: int, eps: float, kernels: tuple[int, int]):
        self._kernels = kernels
        super().__init__(channels, channels, time_channels, groups, eps)

    def _convolution(self, in_channels: int, out_channels: int, index: int) -> nn.Module:
        return TemporalConv(out_channels, self._kernels[index])

    def _convolve(self, convolution: nn.Module, x: Tensor, frames: int) -> Tensor:
        return convolution(x, frames)


class Downsample(nn.Module):
    """Half the size by a strided convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest neighbours to `size` (double, or one less where it was odd on the way down), then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class TextContext:
    """Text embeddings that keep the keys and values of every layer.

    Pass one object for each prompt to the network at all steps, in place of the embeddings. While gradients are
    recorded nothing is kept, so that training and gradient checkpointing see a plain function.
    """

    def __init__(self, embeddings: Tensor):
        """embeddings: B L C with a prompt for each clip, or B F L C with a prompt for each frame."""
        self.embeddings = embeddings
        self._projected: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keys_values(self, attention: CrossAttention) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            return attention.project(self.embeddings)
        if attention not in self._projected:
            self._projected[attention] = attention.project(self.embeddings)
        return self._projected[attention]


def attention_kernels() -> str:
    """`sdpa` where torch may choose any of its kernels, else with the names of the allowed ones.

    torch chooses at each call by shape, number type and device, and does not tell its choice.
    """
    allowed = [name for name, enabled in _KERNELS.items() if enabled()]
    return "sdpa" if len(allowed) == len(_KERNELS) else f"sdpa {'+'.join(allowed)}"


class Attention(nn.Module):
    """Projections around `scaled_dot_product_attention`; subclasses choose queries, keys and values."""

    def __init__(self, channels: int, heads: int, context_channels: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def _split(self, x: Tensor) -> Tensor:
        """B N C → B heads N D, a view."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Heads in, tokens out: B heads N D → B N C. Of plain products the backward pass on a CPU is the quickest."""
        if torch.is_grad_enabled() and queries.device.type == "cpu" and keys.shape[2] <= SHORT:
            scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
            out = (scores if bias is None else scores + bias).softmax(-1).to(values.dtype) @ values
        else:
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.to_out[0](out.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Each frame attends to itself."""

    def forward(self, x: Tensor, context: TextContext, frames: int) -> Tensor:
        """x: (B F) N C → the same shape; ignores the text."""
        return self._attend(self._split(self.to_q(x)), self._split(self.to_k(x)), self._split(self.to_v(x)))


class FirstAndPreviousFrameAttention(Attention):
    """Each frame attends to the first and to the previous frame of its clip, the first frame twice to itself."""

    def forward(self, x: Tensor, context: TextContext, frames: int) -> Tensor:
        """x: (B F) N C → the same shape; ignores the text."""
        keys, values = (self._split(self._reference(projection(x), frames)) for projection in (self.to_k, self.to_v))
        return self._attend(self._split(self.to_q(x)), keys, values)

    @staticmethod
    def _reference(x: Tensor, frames: int) -> Tensor:
        """(B F) N C → (B F) 2N C: the tokens of the first frame, then those of the previous one."""
        clip = x.unflatten(0, (-1, frames))
        first = clip[:, :1].expand_as(clip)
        previous = torch.cat([clip[:, :1], clip[:, :-1]], dim=1)
        return torch.cat([first, previous], dim=2).flatten(0, 1)


class CrossAttention(Attention):
    """Every token of a clip attends to the clip's text; frames are folded into the query length."""

    def project(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of B L C (or B F L C, folded to (B F) L C)."""
        text = text.flatten(0, -3) if text.ndim == 4 else text
        return self._split(self.to_k(text)), self._split(self.to_v(text))

    def forward(self, x: Tensor, context: TextContext, frames: int) -> Tensor:
        """x: (B F) N C → the same shape."""
        keys, values = context.keys_values(self)
        queries = self.to_q(x).view(keys.shape[0], -1, x.shape[-1])
        return self._attend(self._split(queries), keys, values).view_as(x)


class RotaryEmbedding(nn.Module):
    """Rotates pairs of channels by an angle that grows with the frame's number (RoFormer, section 3.4.2)."""

    freqs: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("freqs", ROTARY_BASE ** (-torch.arange(0, channels, 2) / channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: … F heads D, frames third from the right; rotates the first `channels` of D."""
        angles = torch.arange(x.shape[-3], device=x.device)[:, None, None] * self.freqs.float()  # F 1 pairs
        channels = 2 * angles.shape[-1]
        head, rest = x.split([channels, x.shape[-1] - channels], dim=-1)
        pairs = head.float().unflatten(-1, (-1, 2))
        if torch.is_grad_enabled():  # in real numbers, which a compiler can fuse
            (first, second), cos, sin = pairs.unbind(-1), angles.cos(), angles.sin()
            turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
        else:  # one product of complex numbers takes a fifth of the time of separate sines and cosines
            turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.polar(torch.ones_like(angles), angles))
        turned = turned.flatten(-2).to(x.dtype)
        return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


class RelativePositionBias(nn.Module):
    """A learned bias per head for the distance between two frames, in logarithmic buckets (T5, section 2.1)."""

    def __init__(self, heads: int):
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BIAS_BUCKETS, heads)

    def forward(self, frames: int) -> Tensor:
        """→ heads F F."""
        return self.relative_attention_bias(self._buckets(frames)).permute(2, 0, 1)

    def _buckets(self, frames: int) -> Tensor:
        position = torch.arange(frames, device=self.relative_attention_bias.weight.device)
        offset = position[None, :] - position[:, None]  # key minus query
        half = BIAS_BUCKETS // 2
        exact = half // 2
        distance = offset.abs()
        logarithmic = (distance.clamp(min=1) / exact).log() / math.log(BIAS_MAX_DISTANCE / exact)
        far = (exact + (logarithmic * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(distance < exact, distance, far) + half * (offset > 0)


class TemporalAttention(Attention):
    """Each pixel attends to itself in all frames of its clip, with rotary positions and a learned bias."""

    def __init__(self, channels: int, heads: int, positions: bool = True):
        """positions: False treats the frames as an unordered set, as in the interpolation network."""
        super().__init__(channels, heads)
        self.positions = positions
        if positions:
            self.time_rel_pos_bias = RelativePositionBias(heads)
            self.rotary_emb = RotaryEmbedding(min(ROTARY_CHANNELS, channels // heads))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: (B F) N C → the same shape."""
        clips = [projection(x).unflatten(0, (-1, frames)) for projection in (self.to_q, self.to_k, self.to_v)]
        queries, keys, values = (clip.unflatten(-1, (self.heads, -1)).transpose(1, 2) for clip in clips)  # B N F H D
        bias = None
        if self.positions:
            queries, keys = self.rotary_emb(queries), self.rotary_emb(keys)
            bias = self.time_rel_pos_bias(frames).to(x.dtype)[None]
        queries, keys, values = (t.transpose(2, 3).flatten(0, 1) for t in (queries, keys, values))  # (B N) H F D
        out = self._attend(queries, keys, values, bias)  # (B N) F C
        return out.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)
