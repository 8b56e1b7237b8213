"""Parts of a loss at the same time: of a small network one step's work is too little for a matrix product to be split
among cores, and enough for each core to have a part of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, ...]


def summed(parts: Sequence[Callable[[], Tensor]], parameters: Sequence[Tensor]) -> Tensor:
    """The sum of losses; its gradient for `parameters`, and for nothing else, is there when it is.

    Each part gets a thread, as many at a time as torch may use, which computes it and its gradient on one core.
    Gradients are added up in the parts' order: the same bits come out whichever is done first, on however many cores.
    """
    device = next(iter(parameters)).device.type
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)  # a thread begins without it

    def computed(part: Callable[[], Tensor]) -> tuple[Tensor, Gradients]:
        torch.set_num_threads(1)
        with torch.autocast(device, autocast[1], enabled=autocast[0]):
            loss = part()
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    before = torch.get_num_threads()
    try:
        done = list(_threads(min(len(parts), before)).map(computed, parts))
    finally:
        torch.set_num_threads(before)
    return _Sum.apply(torch.stack([loss for loss, _ in done]).sum(), [gradients for _, gradients in done], *parameters)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """The same ones at each step: what a thread has prepared for its convolutions is its own."""
    return ThreadPoolExecutor(count)


class _Sum(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Gradients], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor | None, ...]:
        added = []
        for each in zip(*ctx.gradients, strict=True):
            there = [gradient for gradient in each if gradient is not None]
            added.append(scale * sum(there[1:], start=there[0]) if there else None)
        return None, None, *added
