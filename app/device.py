"""How much memory there is, on the device that this process computes on, and how much it has needed at most."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes. free: what any program may still take now. total: what is built in. peak: see `peak_memory`."""

    free: int
    total: int
    peak: int | None


def memory() -> Memory:
    """Of the CUDA device that has least to spare, where one is in use; else of the machine."""
    import psutil

    torch = _computing_on_cuda()
    if torch is not None:
        free, total = min(torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count()))
    else:
        machine = psutil.virtual_memory()
        free, total = machine.available, machine.total
    return Memory(free, total, peak_memory())


def peak_memory() -> int | None:
    """Bytes since the process began: of a CUDA device where one is in use, else of the process; None if not told."""
    torch = _computing_on_cuda()
    if torch is not None:
        return max(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _computing_on_cuda():
    """torch, if it has put anything on a CUDA device; it is neither imported nor is a device woken for this."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)  # while torch is being imported in another thread it is not whole
    if not hasattr(cuda, "max_memory_allocated") or not cuda.is_available() or not cuda.is_initialized():
        return None
    return torch if any(cuda.max_memory_allocated(index) for index in range(cuda.device_count())) else None
