"""Encodes and decodes with an AutoencoderKL one frame at a time, so that memory does not grow with the length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lavie.tiles import in_pieces

ATTENTION_CHUNKED_FROM = 16_384  # tokens; below this one call of fused attention is cheap enough
SCORES_AT_ONCE = 2**26  # query-key pairs of a chunk, 256 MiB in float32


class ChunkedAttention:
    """The autoencoder's attention in chunks of queries, with the same results.

    At 320×512 latents it has 163,840 tokens and one head 512 wide, for which no flash kernel exists. Matrix products of
    a few thousand queries each run at the speed of the hardware.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: B C H W → the same shape, with the residual of the published block."""
        batch, channels, height, width = hidden_states.shape
        tokens = attn.group_norm(hidden_states.flatten(2)).transpose(1, 2)
        queries, keys, values = (split(attn.heads, to(tokens)) for to in (attn.to_q, attn.to_k, attn.to_v))
        out = attend_in_chunks(queries, keys, values).transpose(1, 2).flatten(2)
        out = attn.to_out[0](out).transpose(1, 2).reshape(batch, channels, height, width)
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor


def split(heads: int, tokens: Tensor) -> Tensor:
    """B N C → B heads N D."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend_in_chunks(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention over B heads N D; from `ATTENTION_CHUNKED_FROM` keys on, `SCORES_AT_ONCE` scores at a time."""
    if keys.shape[2] < ATTENTION_CHUNKED_FROM:
        return F.scaled_dot_product_attention(queries, keys, values)
    transposed = keys.transpose(2, 3) * keys.shape[-1] ** -0.5
    at_once = max(1, SCORES_AT_ONCE // keys.shape[2])
    chunks = [(chunk @ transposed).softmax(-1) @ values for chunk in queries.split(at_once, dim=2)]
    return torch.cat(chunks, dim=2)


def prepare(vae: Any) -> Any:
    """Give an autoencoder the chunked attention."""
    vae.set_attn_processor(ChunkedAttention())
    return vae


def encode(vae: Any, frames: Tensor) -> Tensor:
    """Frames B 3 F H W in -1 … 1 → latents B C F h w, scaled as the networks see them.

    Takes the mode of the posterior, so that the same frames give the same latents. Here and in `decode`, each frame is
    a batch of its own: the order in which kernels sum depends on the batch, and so would a frame's bits.
    """
    flat = frames.transpose(1, 2).flatten(0, 1).to(vae.dtype)
    parts = [vae.encode(frame).latent_dist.mode() for frame in flat.split(1)]
    latents = torch.cat(parts) * vae.config.scaling_factor
    return latents.unflatten(0, (frames.shape[0], -1)).transpose(1, 2)


def decode(vae: Any, latents: Tensor, tile: int | None = None) -> Iterator[Tensor]:
    """Latents 1 C F h w → the frames in order, each 1 3 H W in -1 … 1.

    tile: largest edge in pixels of the tiles that are decoded and blended; None: whole frames.
    """
    flat = latents[0].transpose(0, 1).to(vae.dtype) / vae.config.scaling_factor
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    height, width = flat.shape[2:]
    edge = tile // factor if tile else max(height, width)
    for frame in flat.split(1):

        def compute(rows: slice, columns: slice, frame: Tensor = frame) -> Tensor:
            decoded: Tensor = vae.decode(frame[..., rows, columns]).sample
            return decoded

        yield in_pieces((height, width), edge, compute, scale=factor).float().clamp(-1, 1)


def from_uint8(frames: Tensor) -> Tensor:
    """Frames … H W 3 in 0 … 255 → float32 … 3 H W in -1 … 1 on the same device."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_uint8(frames: Tensor) -> Tensor:
    """Frames F 3 H W in -1 … 1 → uint8 F H W 3 on the CPU."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def pictures(decoded: Iterable[Tensor]) -> np.ndarray:
    """Decoded frames 1 3 H W in -1 … 1, one or more → uint8 F H W 3."""
    return np.concatenate([to_uint8(frame).numpy() for frame in decoded])
