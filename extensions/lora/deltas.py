"""The change of one layer's weight by an adapter, kept in factors.

The delta is scale × product(factors) with scale = alpha / rank. The scale is applied between the factors: multiplied
into one of them in half precision, alpha 1 at rank 128 would lose digits; multiplied with the product, a small scale
would come after an overflow.

Sources: LoRA (Hu et al., arXiv 2106.09685), LoHa (FedPara, arXiv 2108.06098), LoKr and Tucker cores (LyCORIS,
arXiv 2309.14859).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d


class LayerDelta:
    """The base of the three kinds. In training the factors need gradients.

    Args:
        alpha, rank: their ratio is the scale; with a rank of None it is 1.
        shape: of the layer's weight, out in or out in k k.
        factors: by the roles of `formats`.
    """

    def __init__(self, alpha: float, rank: int | None, shape: tuple[int, ...], factors: dict[str, Tensor]) -> None:
        self.alpha, self.rank, self.shape, self.factors = alpha, rank, shape, factors

    @property
    def scale(self) -> float:
        return 1.0 if self.rank is None else self.alpha / self.rank

    def delta(self, dtype: torch.dtype) -> Tensor:
        """The change of the weight in its shape, scale included, computed in `dtype`."""
        factors = {role: factor.to(dtype) for role, factor in self.factors.items()}
        return self.scale * self._product(factors).reshape(self.shape)

    def apply(self, layer: Layer, x: Tensor) -> Tensor:
        """The change of the layer's output for the input x, in the number type of x."""
        product = self._product({role: factor.to(x.device, torch.float32) for role, factor in self.factors.items()})
        return _run(layer, x, (self.scale * product).reshape(self.shape).to(x.dtype))

    def map_factors(self, function: Callable[[Tensor], Tensor]) -> None:
        """Replace each factor by `function` of it, such as a move to another device."""
        self.factors = {role: function(factor) for role, factor in self.factors.items()}

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError


class LowRank(LayerDelta):
    """up · down. `down` is r in, or r in k k with the layer's kernel; `up` is out r."""

    rank: int

    def __init__(self, alpha: float, down: Tensor, up: Tensor) -> None:
        super().__init__(alpha, len(down), (len(up), *down.shape[1:]), {"down": down, "up": up})

    @classmethod
    def from_factors(cls, alpha: float, shape: tuple[int, ...], factors: dict[str, Tensor]) -> LowRank:
        """Build it from a file's factors: with or without a 1×1 kernel; a Tucker core is multiplied into `down`."""
        down, up, mid = factors["down"], factors["up"], factors.get("mid")
        if mid is not None:  # r s k k · s in
            down = torch.einsum("rskl,si->rikl", mid.float(), down.flatten(1).float())
        return cls(alpha, down.reshape(len(down), *shape[1:]), up.flatten(1))

    def apply(self, layer: Layer, x: Tensor) -> Tensor:
        """See `LayerDelta.apply`. Goes through the narrow middle and never computes the product."""
        narrow, up = self.scale * _run(layer, x, self.factors["down"].to(x)), self.factors["up"].to(x)
        return F.linear(narrow, up) if isinstance(layer, nn.Linear) else F.conv2d(narrow, up[:, :, None, None])

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        return factors["up"] @ factors["down"].flatten(1)


class Hadamard(LayerDelta):
    """LoHa: two low-rank products, multiplied entry by entry."""

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        return self._half(factors, 1) * self._half(factors, 2)

    @staticmethod
    def _half(factors: dict[str, Tensor], number: int) -> Tensor:
        a, b, core = factors[f"hada_w{number}_a"], factors[f"hada_w{number}_b"], factors.get(f"hada_t{number}")
        return a @ b if core is None else _tucker(core, a, b)


class Kronecker(LayerDelta):
    """LoKr: the Kronecker product of a small and a large matrix, each whole or a product."""

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        small, large = self._factor(factors, 1), self._factor(factors, 2)
        # Linear: (out / a) (in / b). Convolution: the kernel belongs to the larger one.
        large = large.reshape(len(large), self.shape[1] // small.shape[1], *self.shape[2:]).contiguous()
        return torch.kron(small.reshape(*small.shape[:2], *(1 for _ in self.shape[2:])), large)

    @staticmethod
    def _factor(factors: dict[str, Tensor], number: int) -> Tensor:
        whole, core = factors.get(f"lokr_w{number}"), factors.get(f"lokr_t{number}")
        if whole is not None:
            return whole
        a, b = factors[f"lokr_w{number}_a"], factors[f"lokr_w{number}_b"]
        return a @ b.flatten(1) if core is None else _tucker(core, a, b)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """core r s k k, a r out, b s in → out in k k."""
    return torch.einsum("rskl,ro,si->oikl", core, a, b)


def _run(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's own operation with another weight and no bias, on as many channels as the weight has."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x[:, : weight.shape[1]], weight, None, layer.stride, layer.padding, layer.dilation)
