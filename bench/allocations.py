"""Counts what is allocated while something runs on torch's meta device: full size, no memory, less than a second.

Every tensor operation is real but for its numbers, so that the storages it makes, and when the last of them is let go
of, are those of a run on a GPU: the networks take that way wherever they ask for the device. Fused attention counts its
output alone, as its kernels do. Knows nothing of what kernels take for themselves, nor of an allocator's rounding.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Allocations(TorchDispatchMode):
    """Use as `with Allocations() as seen: …`, then read `seen.peak`: bytes, of what was made inside the block."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._fused = _FusedAttention()

    def __enter__(self):
        self._fused.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._fused.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):  # weights, of which the result may be a view
            self._seen.setdefault(storage, 0)
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._seen:
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._seen[storage] = size
        weakref.finalize(storage, self._free, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _free(self, size: int) -> None:
        self.live -= size


def _storages(values: object) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_iter(values) if isinstance(value, Tensor) and value.is_meta)


class _FusedAttention(TorchFunctionMode):
    """Attention as one operation; on the meta device torch would take it apart, scores and all."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            queries, _, values = args[:3]
            batch, heads, tokens, _ = queries.shape
            return queries.new_empty(batch, tokens, heads, values.shape[-1]).transpose(1, 2)
        return function(*args, **(kwargs or {}))
