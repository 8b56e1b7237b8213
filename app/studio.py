"""The studio's worker: jobs wait in one line and are made one at a time, whoever watches or does not.

Knows the life of a job, in memory. Does not know pages, nor how a clip is made (`app.clip`); torch is first imported
in the worker's thread, when the first job comes.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.clip import Clip, clip_path, load_cascade, make_clip, new_id
from app.config import StudioConfig
from app.recipe import Job
from lavie.errors import LavieError
from lavie.events import Event, Finished, Notice, StageStarted, Step
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np

    from lavie.cascade import Cascade

QUEUED, RUNNING, CANCELLING = "queued", "running", "cancelling"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
OPEN_STATES = (QUEUED, RUNNING, CANCELLING)
_STOP_SECONDS = 30  # how long closing waits for the step under way

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A job as it stands now; a new snapshot replaces it as the job moves on.

    state: queued → running (→ cancelling) → done | failed | cancelled. stage: the one under way, None while the model
    loads. index of steps: steps done in it. preview: uint8 F h w 3 at the size of the latents, or None.
    seed: known when done. notices: what the person should know. error: one line, when failed. clip, path: when done.
    """

    id: str
    request: Request
    state: str = QUEUED
    stage: str | None = None
    index: int = 0
    steps: int = 0
    preview: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    seed: int | None = None
    error: str | None = None
    path: Path | None = None
    clip: Clip | None = None

    @property
    def open(self) -> bool:
        """Whether something is still going to happen."""
        return self.state in OPEN_STATES


class Studio:
    """Takes requests, makes them one after another in a thread of its own, and says how they stand.

    load: gives the cascade for the settings; called in the worker's thread, and again after it failed.
    All methods may be called from any thread. Nothing is started before the first `submit`.
    """

    def __init__(self, config: StudioConfig, load: Callable[[StudioConfig], Cascade] = load_cascade):
        self.config = config
        self._load = load
        self._cascade: Cascade | None = None
        self._jobs: dict[str, Snapshot] = {}
        self._line: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._closed = False

    def submit(self, request: Request) -> str:
        """Put a request at the end of the line; its job's id. Raises RuntimeError on a closed studio."""
        job_id = new_id()
        with self._lock:
            if self._closed:
                raise RuntimeError("the studio is closed")
            self._jobs[job_id] = Snapshot(job_id, request)
            self._line.put(job_id)
            if self._worker is None:
                # A daemon, so that a process that ends without `close` does not hang on a step under way.
                self._worker = threading.Thread(target=self._work, name="studio worker", daemon=True)
                self._worker.start()
        return job_id

    def job(self, job_id: str | None) -> Snapshot | None:
        """How a job stands; None for an id that is not known here."""
        with self._lock:
            return self._jobs.get(job_id)

    def cancel(self, job_id: str) -> None:
        """Take a waiting job out of the line, or stop a running one after its step. Nothing happens to others."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state in (QUEUED, RUNNING):
                self._jobs[job_id] = replace(job, state=CANCELLED if job.state == QUEUED else CANCELLING)

    def close(self) -> None:
        """Cancel what is open, wait for the step under way, and take no more."""
        with self._lock:
            self._closed = True
            waiting = list(self._jobs)
        for job_id in waiting:
            self.cancel(job_id)
        self._line.put(None)
        if self._worker is not None:
            self._worker.join(_STOP_SECONDS)

    def _work(self) -> None:
        while (job_id := self._line.get()) is not None:
            if self._begin(job_id):
                self._make(job_id)

    def _begin(self, job_id: str) -> bool:
        """False for a job that was cancelled while it waited."""
        with self._lock:
            waiting = self._jobs[job_id].state == QUEUED
            if waiting:
                self._jobs[job_id] = replace(self._jobs[job_id], state=RUNNING)
            return waiting

    def _make(self, job_id: str) -> None:
        job = Job(self.job(job_id).request, self.config.model)
        try:
            path = clip_path(self.config, job_id)
            with contextlib.closing(make_clip(self._loaded, job, job_id, path)) as events:
                for event in events:
                    self._note(job_id, event)
                    if self.job(job_id).state == CANCELLING:
                        break  # the `with` closes the cascade's generator: nothing runs on behind our back
            if self.job(job_id).open:
                self._update(job_id, state=CANCELLED, preview=None)
        except LavieError as error:
            self._update(job_id, state=FAILED, error=str(error), preview=None)
        except Exception as error:  # a fault of ours must not end the worker, on which all later jobs wait
            _log.exception("job %s failed", job_id)
            self._update(
                job_id,
                state=FAILED,
                error=f"something went wrong inside ({type(error).__name__}: {error}); the terminal has the details",
                preview=None,
            )

    def _loaded(self) -> Cascade:
        if self._cascade is None:
            self._cascade = self._load(self.config)
        return self._cascade

    def _note(self, job_id: str, event: Event | Clip) -> None:
        match event:
            case Notice():
                self._update(job_id, notices=(*self.job(job_id).notices, event.message))
            case StageStarted():
                self._update(job_id, stage=event.stage, index=0, steps=event.steps)
            case Step():
                shown = event.preview if event.preview is not None else self.job(job_id).preview
                self._update(job_id, stage=event.stage, index=event.index, steps=event.steps, preview=shown)
            case Finished():
                self._update(job_id, seed=event.request.seed)
            case Clip():
                self._update(job_id, state=DONE, clip=event, path=Path(event.path), preview=None)

    def _update(self, job_id: str, **changes) -> None:
        with self._lock:
            self._jobs[job_id] = replace(self._jobs[job_id], **changes)
