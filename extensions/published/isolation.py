"""A process that opens a stranger's file gives up what it does not need for that: the network, memory, programs.

Each measure is taken where the system has it; none is the only one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "NO_PROXY": "*"}
HEADROOM = 2 * 2**30  # bytes beside the mapped file: for the largest tensor in both number types, and the libraries'
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # <linux/sched.h>
_REFUSED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system")
_REFUSED_STARTS = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.kill")


def leave_network() -> None:
    """Have no network from here on, where Linux lets anyone decide that. Only before a second thread starts."""
    os.environ.update(OFFLINE)
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_NETWORK) != 0:  # who may not do it alone may with users of its own
            libc.unshare(_NEW_USER | _NEW_NETWORK)


def limit_memory(mapped: int) -> None:
    """Let the process grow by `mapped` bytes and some headroom, not further. Call it when all is imported."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + mapped + HEADROOM
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def refuse_programs() -> None:
    """Let no code of this process start a program or open a connection. It cannot be taken back."""

    def refuse(event: str, arguments: tuple) -> None:
        if event in _REFUSED or event.startswith(_REFUSED_STARTS):
            raise PermissionError(f"{event} is refused while a file of weights is open")

    sys.addaudithook(refuse)


def peak_memory() -> int | None:
    """Bytes that this process had in memory at most, mapped files included; None where it is not told."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
