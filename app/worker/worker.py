"""Runs queued jobs one at a time on a background thread, independently of any open page.

Each kind of job has a module of its own; this one takes jobs and stores how they end. torch is first imported here,
when the first job comes.
"""

from __future__ import annotations

import logging
import threading
import typing
from collections.abc import Callable

from app.models.loaded import Models
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCEL, CANDIDATES, PAUSE, REGENERATE, RENDER, TRAIN, JobRow
from app.worker.clips import ClipWork
from app.worker.job_run import DeviceLost, JobRun, StopRequested
from app.worker.long_video import LongWork
from app.worker.training import TrainingWork
from app.workspace import Workspace
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import numpy as np

_IDLE_SECONDS = 0.25  # between looks at the queue: other processes put jobs there too
_STOP_SECONDS = 30  # how long closing waits for the step under way

_log = logging.getLogger(__name__)


class Worker:
    """One worker over a data folder, which the caller owns."""

    def __init__(
        self, workspace: Workspace, models: Models | None = None, suits: Callable[[JobRow], bool] | None = None
    ):
        """models: loads what the jobs need [the workspace's]. suits: which jobs it takes [all]."""
        self._workspace, self._suits = workspace, suits
        self._models = models or workspace.models
        self._queue = WorkerQueue(workspace.database)
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._current: JobRun | None = None  # the job under way
        self._taken: str | None = None  # its id, also where its end could not be stored
        self._clips = ClipWork(workspace, self._models)
        self._long_videos = LongWork(workspace, self._models)
        self._training = TrainingWork(workspace, self._models)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to run the queue."""
        # A daemon, so that a process that ends without `stop` does not hang on a step under way.
        self._thread = threading.Thread(target=self._loop, name="studio worker", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Stop after the step under way; its job returns to the front of the queue. False if the step still runs."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        return self._thread is None or not self._thread.is_alive()

    def warm(self, name: str) -> None:
        """Load a model when no job runs, so that the first job need not wait for it."""
        self._models.want(name)
        self.wake()

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def preview(self, job_id: str) -> np.ndarray | None:
        """uint8 F h w 3: the latest guess of a running job's frames."""
        run = self._current
        return run.preview if run is not None and run.row.id == job_id else None

    def run_job(self, job_id: str) -> None:
        """Run one job in this thread, wherever it stands in the queue; nothing if it was taken already.

        Raises StorageError if its end cannot be stored.
        """
        try:
            if row := self._queue.take(job_id):
                self._run(row)
        finally:
            self._workspace.database.close()

    def _loop(self) -> None:
        sound = True
        while not self._stopping.is_set():
            # Nothing that happens with one job may end the worker, on which all others wait.
            try:
                if not sound:
                    self._recover()
                    sound = True
                if self._is_ready():
                    row = self._queue.take(suits=self._suits)
                    if row is not None:
                        self._run(row)
                        continue
                    self._models.load_ahead()
            except Exception:
                if sound:  # once, not again while it lasts, as on a full disk
                    _log.exception("%s cannot be worked on", self._workspace.config.data)
                sound = False
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
        self._workspace.database.close()

    def _is_ready(self) -> bool:
        """Whether there is a device to work on."""
        return True

    def _recover(self) -> None:
        """Treat a job whose end could not be stored like one that a kill interrupted. Other workers' jobs run on."""
        if self._taken is not None:
            self._queue.recover(self._workspace.config.recovery, self._taken)
            self._taken = None

    def _check(self, row: JobRow) -> None:
        """Raises RequestError for a job that cannot run on this worker's device."""

    def _run(self, row: JobRow) -> None:
        """Run a job and store how it ended."""
        queue, self._taken = self._queue, row.id
        run = self._current = JobRun(row, self._workspace, self._stopping)
        try:
            self._check(row)
            if row.kind == TRAIN:
                self._training.train(run)
            elif row.job.long is None:
                {RENDER: self._clips.render, REGENERATE: self._clips.regenerate}[row.kind](run)
            else:
                long = self._long_videos
                {RENDER: long.render, REGENERATE: long.regenerate, CANDIDATES: long.candidates}[row.kind](run)
        except StopRequested as stop:
            {CANCEL: queue.finish_cancelled, PAUSE: queue.finish_paused, None: queue.release}[stop.what](row.id)
        except DeviceLost as error:
            if self._stopping.is_set():
                queue.release(row.id)
            else:
                queue.add_notice(row.id, f"{error}: what was finished is kept")
                queue.interrupt(row.id, self._workspace.config.recovery)
        except LavieError as error:
            queue.fail(row.id, str(error))
        except Exception as error:
            _log.exception("job %s failed", row.id)
            reason = f"{type(error).__name__}: {error}"
            where = "the studio's terminal shows where, that of a command with LAVIE_DEBUG=1"
            queue.fail(row.id, f"something went wrong inside ({reason}); {where}")
        finally:
            self._current = None
        self._taken = None
