"""The memory of the device that this process computes on: free, total and peak."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """Bytes. free: available now to any program. peak: see `peak_memory`."""

    free: int
    total: int
    peak: int | None


def memory() -> Memory:
    """The memory of the CUDA device with the least free memory if one is in use, else of the machine."""
    import psutil

    torch = _torch_on_cuda()
    if torch is not None:
        free, total = min(torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count()))
    else:
        machine = psutil.virtual_memory()
        free, total = machine.available, machine.total
    return Memory(free, total, peak_memory())


def peak_memory() -> int | None:
    """Peak bytes since the process began, of a CUDA device if one is in use, else of the process; None if unknown."""
    torch = _torch_on_cuda()
    if torch is not None:
        return max(int(torch.cuda.max_memory_allocated(index)) for index in range(torch.cuda.device_count()))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _torch_on_cuda() -> Any:
    """torch, if it has used a CUDA device; neither imports it nor initializes a device."""
    torch = sys.modules.get("torch")
    cuda: Any = getattr(torch, "cuda", None)  # incomplete while another thread imports torch
    if not hasattr(cuda, "max_memory_allocated") or not cuda.is_available() or not cuda.is_initialized():
        return None
    return torch if any(cuda.max_memory_allocated(index) for index in range(cuda.device_count())) else None
