"""Deterministic weights and inputs: a tensor is a pure function of a name, a shape and a seed.

The figures beside this file were computed by the published networks on exactly these numbers, so that parity is tested
without any checkpoint. Knows naming conventions of parameters, but no network.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def tensor(name: str, shape: Sequence[int], seed: int = 0) -> Tensor:
    """A float32 standard normal tensor, drawn by PCG64 from the name's CRC-32 and the seed."""
    bits = np.random.PCG64([zlib.crc32(name.encode()), seed])
    return torch.from_numpy(np.random.Generator(bits).standard_normal(tuple(shape)).astype(np.float32))


def parameter(name: str, shape: Sequence[int], seed: int = 0) -> Tensor:
    """The value of one parameter: every parameter matters to the output, and activations stay near unit scale."""
    noise = tensor(name, shape, seed)
    owner, kind = name.split(".")[-2:]
    if kind == "weight" and "norm" in owner:
        return 1 + 0.1 * noise
    if kind.endswith("bias"):
        return 0.05 * noise
    if "embedding.weight" in name or "relative_attention_bias" in name or name.endswith("emb.weight"):
        return 0.5 * noise
    return noise / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else shape[0])


@torch.no_grad()
def fill_(network: nn.Module, seed: int = 0) -> nn.Module:
    """Overwrite every parameter in place; rotary frequencies (`…freqs`) stay as the network made them."""
    for name, value in network.state_dict().items():
        if not name.endswith("freqs"):
            value.copy_(parameter(name, value.shape, seed))
    return network.eval()
