"""What an adapter does to one layer: a change of its weight, kept in factors.

The change is scale × product(factors), with scale = alpha / rank. The scale stays a number beside the factors and is
applied between them: baked into one of them in half precision, alpha 1 at rank 128 would fall among the numbers that
have few digits left, and applied to the product, a very small one would come too late for the largest number there is.

Sources: LoRA (Hu et al., arXiv 2106.09685), LoHa (FedPara, arXiv 2108.06098), LoKr and Tucker cores (LyCORIS,
arXiv 2309.14859).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerDelta:
    """The base of the three kinds. Factors may need gradients: an adapter that is trained is the same object.

    alpha, rank: their ratio is the scale; a rank of None is a scale of 1. shape: of the layer's weight, out in or
    out in k k. factors: by the roles of `formats`.
    """

    def __init__(self, alpha: float, rank: int | None, shape: tuple[int, ...], factors: dict[str, Tensor]):
        self.alpha, self.rank, self.shape, self.factors = alpha, rank, shape, factors

    @property
    def scale(self) -> float:
        return 1.0 if self.rank is None else self.alpha / self.rank

    def delta(self, dtype: torch.dtype) -> Tensor:
        """The change of the weight, scale included, in its shape, computed in `dtype`."""
        factors = {role: factor.to(dtype) for role, factor in self.factors.items()}
        return self.scale * self._product(factors).reshape(self.shape)

    def of(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the layer's output changes by for the input x, in the number type of x."""
        product = self._product({role: factor.to(x.device, torch.float32) for role, factor in self.factors.items()})
        return _run(layer, x, (self.scale * product).reshape(self.shape).to(x.dtype))

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        """Put `function` of each factor in its place, such as a move to another device."""
        self.factors = {role: function(factor) for role, factor in self.factors.items()}

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError


class LowRank(LayerDelta):
    """up · down. `down` is r in, or r in k k with the layer's kernel; `up` is out r."""

    def __init__(self, alpha: float, down: Tensor, up: Tensor):
        super().__init__(alpha, len(down), (len(up), *down.shape[1:]), {"down": down, "up": up})

    @classmethod
    def read(cls, alpha: float, shape: tuple[int, ...], factors: dict[str, Tensor]) -> LowRank:
        """From factors as files have them: a 1×1 kernel there or not, and a Tucker core, which is put into `down`."""
        down, up, mid = factors["down"], factors["up"], factors.get("mid")
        if mid is not None:  # r s k k · s in
            down = torch.einsum("rskl,si->rikl", mid.float(), down.flatten(1).float())
        return cls(alpha, down.reshape(len(down), *shape[1:]), up.flatten(1))

    def of(self, layer: nn.Module, x: Tensor) -> Tensor:
        """As in `LayerDelta.of`, through the narrow middle: the product is never made."""
        narrow, up = self.scale * _run(layer, x, self.factors["down"].to(x)), self.factors["up"].to(x)
        return F.linear(narrow, up) if isinstance(layer, nn.Linear) else F.conv2d(narrow, up[:, :, None, None])

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        return factors["up"] @ factors["down"].flatten(1)


class Hadamard(LayerDelta):
    """LoHa: two low-rank products, multiplied entry by entry."""

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        first, second = (self._half(factors, number) for number in (1, 2))
        return first * second

    @staticmethod
    def _half(factors: dict[str, Tensor], number: int) -> Tensor:
        a, b, core = (factors.get(f"hada_{name}") for name in (f"w{number}_a", f"w{number}_b", f"t{number}"))
        return a @ b if core is None else _tucker(core, a, b)


class Kronecker(LayerDelta):
    """LoKr: the Kronecker product of a small matrix and a larger one, each whole or itself a product."""

    def _product(self, factors: dict[str, Tensor]) -> Tensor:
        small, large = (self._factor(factors, number) for number in (1, 2))
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


def _run(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's own operation with another weight and no bias, on as many channels as the weight is for."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x[:, : weight.shape[1]], weight, None, layer.stride, layer.padding, layer.dilation)
