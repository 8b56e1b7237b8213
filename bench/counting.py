"""Counts what a forward does: floating-point operations and bytes of every tensor operation, by part of the network.

A multiplication and an addition are two operations; the bytes of an operation are those of the tensors it reads and
writes, as if nothing stayed in a cache. Views count nothing. Knows torch's operators and our layers, no timing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from lavie.layers import (
    CrossAttention,
    FirstAndPreviousFrameAttention,
    SelfAttention,
    TemporalAttention,
    TemporalConv,
)

REST = "rest"
PARTS: dict[str, tuple[type[nn.Module], ...]] = {  # what is inside several belongs to the innermost
    "convolutions": (nn.Conv2d,),
    "temporal convolutions": (TemporalConv,),
    "spatial attention": (SelfAttention, FirstAndPreviousFrameAttention),
    "text attention": (CrossAttention,),
    "temporal attention": (TemporalAttention,),
    "feed-forward": (FeedForward,),
    "norms": (nn.GroupNorm, nn.LayerNorm),
}
FUSED_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # torch's own counter does not know it


@dataclass
class Count:
    """Totals of one part."""

    flops: int = 0
    bytes: int = 0
    operations: int = 0


class Counter(TorchDispatchMode):
    """Use as `with Counter(network) as counter: network(…)`, then read `counter.parts`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.parts: dict[str, Count] = defaultdict(Count)
        self._inside: list[str] = []
        self._network, self._handles = network, []

    def __enter__(self):
        for module in self._network.modules():
            part = next((name for name, kinds in PARTS.items() if isinstance(module, kinds)), None)
            if part:
                self._handles.append(module.register_forward_pre_hook(lambda *_, part=part: self._inside.append(part)))
                self._handles.append(module.register_forward_hook(lambda *_: self._leave()))
        return super().__enter__()

    def __exit__(self, *error):
        for handle in self._handles:
            handle.remove()
        return super().__exit__(*error)

    def _leave(self) -> None:
        self._inside.pop()  # returns nothing: a hook's value would replace the module's output

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not function.is_view and "empty" not in function.__name__:
            count = self.parts[self._inside[-1] if self._inside else REST]
            count.operations += 1
            count.flops += _flops(function, args, kwargs, result)
            count.bytes += sum(t.numel() * t.element_size() for t in tree_iter((args, kwargs, result)) if _is_tensor(t))
        return result


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _flops(function, args: tuple, kwargs: dict, result) -> int:
    """Of products only, as is the custom; what is done element by element shows in the bytes."""
    if function.__name__.startswith(FUSED_ATTENTION):
        queries, keys = args[:2]
        return 4 * queries.numel() * keys.shape[-2]
    counted = flop_registry.get(function.overloadpacket)
    return counted(*args, **kwargs, out_val=result) if counted else 0


def count(network: nn.Module, *args, **kwargs) -> dict[str, Count]:
    """One forward, part by part, in the order of `PARTS`."""
    with torch.no_grad(), Counter(network) as counter:
        network(*args, **kwargs)
    return {part: counter.parts[part] for part in (*PARTS, REST) if counter.parts[part].operations}
