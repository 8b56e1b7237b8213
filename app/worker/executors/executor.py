"""Who makes what the queue holds, in one of three ways, by the settings: on this process's own device (`app.worker.worker`),
on one that is lent to single events (`app.worker.executors.zerogpu`), on several at once (`app.worker.executors.ray`).

Whichever it is, queue, database and files stay in the process that owns the data folder, and what happens is told by
the database; only previews are asked for here.
"""

from __future__ import annotations

import typing
from collections.abc import Callable

from app.clip import load_cascade
from app.config import StudioConfig
from app.storage.database import Database

if typing.TYPE_CHECKING:
    import numpy as np

    from app.worker.models import Models
    from lavie.cascade import Cascade


class Workers(typing.Protocol):
    """What the studio asks of whoever works off its queue. All of it may be called from any thread."""

    @property
    def models(self) -> Models:
        """What is loaded in this process, for questions that run no network."""

    def start(self) -> None:
        """Begin to work off the queue."""

    def stop(self) -> bool:
        """End behind the steps under way: their jobs are the next ones again. False if one is still running."""

    def warm(self, name: str) -> None:
        """Load a model as soon as nothing else is to be done."""

    def wake(self) -> None:
        """Look at the queue now."""

    def preview(self, job_id: str) -> np.ndarray | None:
        """uint8 F h w 3: the latest guess of a running job's frames."""

    def run_job(self, job_id: str) -> None:
        """Make one job, wherever it stands in the line, in this thread. It may be taken already; then nothing."""


def open_workers(
    config: StudioConfig, database: Database, load: Callable[[StudioConfig], Cascade] = load_cascade
) -> Workers:
    """Those that the settings name. The caller owns the data folder.

    Raises DeviceError where what they need is not installed or not there.
    """
    if config.zero_gpu:
        from app.worker.executors.zerogpu import ZeroGpuWorker

        return ZeroGpuWorker(config, database, load)
    if config.over_ray:
        from app.worker.executors.ray import RayWorkers

        return RayWorkers(config, database, load)
    from app.worker.worker import Worker

    return Worker(config, database, load)
