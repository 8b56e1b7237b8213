"""A studio without a page, to be killed: works off the queue of a data folder and ends when the line is empty.

    python -m tests.slow.faults.victim DATA MODEL [--die POINT NUMBER]

With --die it kills itself, as `kill -9` would, at the NUMBER-th passing of POINT.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from app.config import StudioConfig
from app.recipes.job_row import RUNNING
from app.studio import Studio

POINTS = ("before rename", "after rename", "before commit", "after commit")
WRITE = "within write"  # of latents: half of the file is on the disk


def die_at(point: str, number: int) -> None:
    """Arm a passing of one of `POINTS`, renames of finished files and commits to the database, or of `WRITE`."""
    from app.storage.database import Connection

    left = [number]

    def passed(here: str) -> None:
        if here == point:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(call, name: str):
        def watched(*args, **kwargs):
            passed(f"before {name}")
            done = call(*args, **kwargs)
            passed(f"after {name}")
            return done

        return watched

    def half(descriptor: int) -> None:
        if left[0] == 1 and point == WRITE:
            with contextlib.suppress(OSError):  # of a file that is open for reading
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        passed(WRITE)
        fsync(descriptor)

    fsync, os.fsync = os.fsync, half
    os.replace = around(os.replace, "rename")
    Path.replace = around(Path.replace, "rename")
    Connection.commit = around(Connection.commit, "commit")


def main(data: str, model: str) -> None:
    studio = Studio(StudioConfig(data=Path(data), model=model, device="cpu"))
    studio.serve()
    print("serving", flush=True)
    while any(row.state in ("queued", RUNNING) for row in studio.queue.line()):
        time.sleep(0.02)
    studio.close()


if __name__ == "__main__":
    if "--die" in sys.argv:
        die_at(sys.argv[4], int(sys.argv[5]))
    main(*sys.argv[1:3])
