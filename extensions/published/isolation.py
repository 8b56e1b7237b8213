"""Lets a process that opens untrusted files give up the network, memory and programs, as far as the system allows."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "NO_PROXY": "*"}
HEADROOM = 2 * 2**30  # bytes beside the mapped file, for the largest tensor in both number types and for libraries
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # <linux/sched.h>
_REFUSED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system")
_REFUSED_STARTS = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.kill")


def leave_network() -> None:
    """Leave the network where Linux allows it. Call it before a second thread starts."""
    os.environ.update(OFFLINE)
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_NETWORK) != 0:  # unprivileged processes need a user namespace too
            libc.unshare(_NEW_USER | _NEW_NETWORK)


def limit_memory(mapped: int) -> None:
    """Limit the process's growth to `mapped` bytes and some headroom. Call it after all imports."""
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
    """Forbid this process to start programs or open connections. It cannot be undone."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED or event.startswith(_REFUSED_STARTS):
            raise PermissionError(f"{event} is refused while a file of weights is open")

    sys.addaudithook(refuse)


def peak_memory() -> int | None:
    """Peak memory of this process in bytes, mapped files included; None if the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
