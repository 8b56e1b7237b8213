"""Frames ↔ latents, one frame at a time, so that memory does not grow with the length. Knows AutoencoderKL only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from lavie.tiles import in_pieces

ATTENTION_CHUNKED_FROM = 16_384  # tokens; below this one call of fused attention is cheap enough
SCORES_AT_ONCE = 2**26  # query-key pairs computed at once beyond that: 256 MiB in float32


class ChunkedAttention:
    """The autoencoder's one attention in chunks of queries: the same numbers, without a kernel that has no fast path.

    At 320×512 latents it has 163,840 tokens and a single head 512 wide, for which no flash kernel exists; as plain
    matrix products of a few thousand queries each it runs at the speed of the hardware.
    """

    def __call__(
        self, attn, hidden_states: Tensor, encoder_hidden_states=None, attention_mask=None, temb=None
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


def prepare(vae: AutoencoderKL) -> AutoencoderKL:
    """Give `vae` the chunked attention. The weights stay as they are."""
    vae.set_attn_processor(ChunkedAttention())
    return vae


def encode(vae: AutoencoderKL, frames: Tensor) -> Tensor:
    """Frames B 3 F H W in -1 … 1 → latents B C F h w, scaled as the networks see them.

    The posterior's mode, not a draw: the same frames always give the same latents. Frame by frame, here and in
    `decode`: kernels choose their order of summing by the batch, so a frame's bits would depend on its neighbours.
    """
    flat = frames.transpose(1, 2).flatten(0, 1).to(vae.dtype)
    parts = [vae.encode(frame).latent_dist.mode() for frame in flat.split(1)]
    latents = torch.cat(parts) * vae.config.scaling_factor
    return latents.unflatten(0, (frames.shape[0], -1)).transpose(1, 2)


def decode(vae: AutoencoderKL, latents: Tensor, tile: int | None = None) -> Iterator[Tensor]:
    """Latents 1 C F h w → the frames in order, each 1 3 H W in -1 … 1.

    tile: largest edge of the pieces that are decoded and blended, in pixels of a frame; None: whole frames.
    """
    flat = latents[0].transpose(0, 1).to(vae.dtype) / vae.config.scaling_factor
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    for frame in flat.split(1):
        yield _decode_frame(vae, frame, tile and tile // factor, factor).float().clamp(-1, 1)


def _decode_frame(vae: AutoencoderKL, frame: Tensor, tile: int | None, factor: int) -> Tensor:
    def compute(rows: slice, columns: slice) -> Tensor:
        return vae.decode(frame[..., rows, columns]).sample

    return in_pieces(frame.shape[2:], tile or max(frame.shape[2:]), compute, scale=factor)


def from_uint8(frames: Tensor) -> Tensor:
    """Frames … H W 3 in 0 … 255 → float32 … 3 H W in -1 … 1, where they are."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_uint8(frames: Tensor) -> Tensor:
    """Frames F 3 H W in -1 … 1 → uint8 F H W 3 on the CPU."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def pictures(decoded: Iterable[Tensor]) -> np.ndarray:
    """Decoded frames 1 3 H W in -1 … 1, one or more → uint8 F H W 3."""
    return np.concatenate([to_uint8(frame).numpy() for frame in decoded])
