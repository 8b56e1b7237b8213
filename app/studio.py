"""The façade of page, commands and API over one data folder: takes jobs, reports how they stand, keeps the results.

A change is in the database before a method returns, so that every process on the folder sees it and a kill loses
nothing.
"""

from __future__ import annotations

import threading
import time
import typing
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from app.config import StudioConfig
from app.long_videos.service import LongVideos
from app.media import sweep_partials
from app.models.card import ModelCard
from app.models.jobs import WeightsWork
from app.models.loaded import Load, Models, load_cascade
from app.queue.estimates import Timings
from app.queue.status import JobStatus
from app.queue.worker_side import WorkerQueue
from app.recipes.comparison import Comparison
from app.recipes.job_row import DONE, INTERRUPTED, PAUSED, QUEUED, REGENERATE, RENDER, JobRow
from app.recipes.recipe import Job, Recipe
from app.recipes.segments import without_seeds
from app.sharing import ANONYMOUS, as_visitor
from app.storage.folder_lock import Ownership
from app.storage.latents import InitialFramesStore, StageLatents
from app.storage.training_folder import sweep_trainings
from app.training.draft import Drafts
from app.training.service import Trainings
from app.workspace import ModelChoice, Workspace
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, SuperResolution

if typing.TYPE_CHECKING:
    import numpy as np

    from extensions.lora.adapter import Adapter
    from lavie.text import PromptReport


POLL_SECONDS = 0.1


class Studio:
    """The jobs and clips of a data folder. All methods may be called from any thread.

    Raises StorageError if the folder cannot be used.
    """

    def __init__(self, config: StudioConfig, load: Load = load_cascade):
        """load: gives the cascade for the settings; called by the worker."""
        self.workspace = workspace = Workspace(config, load)
        self.database, self.queue, self.gallery = workspace.database, workspace.queue, workspace.gallery
        self.adapters, self.presets, self.estimates = workspace.adapters, workspace.presets, workspace.estimates
        self.long_videos, self.training = LongVideos(workspace), Trainings(workspace)
        self.drafts, self.choice = Drafts(workspace, self.training), ModelChoice(workspace, self.warm)
        self.weights = WeightsWork(config.data / "models")
        self._ownership = Ownership(config.data)
        self._workers: Workers | None = None
        self._changing = threading.Lock()  # of the workers
        self._serving = False

    @property
    def config(self) -> StudioConfig:
        """The settings as they are now."""
        return self.workspace.config

    @property
    def model(self) -> str:
        """The name of the model for new jobs."""
        return self.workspace.model

    @property
    def card(self) -> ModelCard | None:
        """The description of that model, whether it is loaded or not."""
        return self.workspace.card

    @property
    def models(self) -> Models:
        """What is loaded in this process."""
        return self.workspace.models

    def serve(self) -> None:
        """Own the folder and run its queue. Raises StorageError where another studio does so already."""
        workers = self._own()
        if workers is None:
            self._ownership.refuse("use that studio, wait for that command, or give another --data")
        if not self._serving:
            self.choice.restore()
            self._serving = True
            workers.start()

    def warm(self) -> None:
        """Load the model in the background, so that the first job need not wait for it."""
        if self._workers:
            self._workers.warm(self.model)

    def read_prompt(self, prompt: str) -> PromptReport | None:
        """How the model understands a prompt; None as long as it is not loaded."""
        cascade = self.models.cascade
        return cascade.read(prompt) if cascade else None

    def close(self) -> None:
        """Stop after the step under way; its job goes on at the next start."""
        self.weights.close()
        with self._changing:
            # If the step goes on for long, the folder stays ours until this process ends.
            if self._workers is None or self._workers.stop():
                self._ownership.release()
                self._workers, self._serving = None, False
        self.database.close()

    def submit(
        self,
        request: Request,
        *,
        output: Path | None = None,
        parent: str | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> str:
        """Queue a request; the id of its job, and of the clip to be.

        adapters: besides those that tags in the prompt ask for. Raises RequestError for one that is not known.
        """
        job = self.adapters.resolve_tags(Job(request, self.model, adapters=tuple(adapters)))
        return self.queue.add(job, parent=parent, output=str(output.absolute()) if output else None)

    def edit(self, job_id: str, request: Request, adapters: Sequence[Adapter] | None = None) -> None:
        """Change the request of a queued job. adapters: [those of the job]. Raises RequestError."""

        def change(job: Job) -> Job:
            chosen = job.adapters if adapters is None else tuple(adapters)
            return self.adapters.resolve_tags(replace(job, request=request, adapters=chosen))

        self.queue.edit(job_id, change)

    def regenerate(self, clip_id: str) -> str:
        """Make a clip again and compare; the job's id. The outcome is `JobStatus.comparison`."""
        return self._queue_again(clip_id, self._recipe(clip_id).job, kind=REGENERATE)

    def remix(self, clip_id: str) -> str:
        """Make a clip once more with another seed and all else as it was; the job's id."""
        job = self._recipe(clip_id).job
        long = job.long and without_seeds(job.long)
        return self._queue_again(clip_id, replace(job, request=replace(job.request, seed=None), long=long))

    def finish(self, clip_id: str, *, interpolate: bool = False, upscale: bool = False) -> str:
        """Add missing stages to a clip, from its stored latents and as a clip of its own; the job's id."""
        draft = self._recipe(clip_id)
        asked = draft.request
        interpolation = asked.interpolation or (Interpolation() if interpolate else None)
        super_resolution = asked.super_resolution or (SuperResolution() if upscale else None)
        request = replace(asked, interpolation=interpolation, super_resolution=super_resolution)
        if request == asked:
            raise RequestError(f"the clip {clip_id} has these stages already: ask for one that it lacks")
        return self._queue_again(clip_id, replace(draft.job, request=request))

    def _recipe(self, clip_id: str) -> Recipe:
        stored = self.gallery.get(clip_id)
        if stored is None:
            raise RequestError(f"no clip has the id {clip_id!r}: `gallery list` shows those that are there")
        return stored.recipe

    def _queue_again(self, clip_id: str, job: Job, kind: str = RENDER) -> str:
        self.long_videos.check_frames(job)
        return self.queue.add(job, kind=kind, parent=clip_id)

    def job(self, job_id: str | None) -> JobStatus | None:
        """How a job stands; None for an id that is not known."""
        row = self.queue.get(job_id) if job_id else None
        return self._status(row) if row else None

    def _status(self, row: JobRow) -> JobStatus:
        if row.state == DONE and row.kind == RENDER:
            stored = self.gallery.get(row.id)  # None of one that was purged since
            return JobStatus(row, clip=stored, stage_seconds=Timings(self.database).sums(row.id))
        if row.state == DONE and row.kind == REGENERATE:
            assert row.result is not None
            return JobStatus(row, comparison=Comparison.from_json(row.result))
        workers = self._workers
        return JobStatus(row, workers.preview(row.id) if workers else None)

    def cancel(self, job_id: str) -> None:
        """Take a waiting job out of the queue, or stop a running one after its step. Does nothing for others."""
        row = self.queue.get(job_id)
        if row is not None and row.open:
            self.queue.cancel(job_id)

    def follow(self, job_id: str) -> Generator[JobStatus, None, None]:
        """Yield a job's status until it is closed, or interrupted and left to a person.

        Where nobody runs the folder's queue, the job runs in this process. Closing the iterator early cancels the job.
        """
        running: Future | None = None
        with ThreadPoolExecutor(1, "studio maker") as maker:
            try:
                while (status := self._status(self.queue.require(job_id))).open and status.state != INTERRUPTED:
                    yield status
                    if running is not None and running.done():
                        running.result()  # raises what kept the job's end from being stored
                        running = None
                    idle = running is None and status.state != PAUSED and not self._serving
                    if idle and (workers := self._own()) is not None:
                        running = maker.submit(workers.run_job, job_id)
                    time.sleep(POLL_SECONDS)
            except BaseException:
                self.cancel(job_id)
                raise
        yield status

    def drain(self) -> None:
        """Run the queued jobs in this thread: on ZeroGPU, in the event whose visitor's quota pays for the device."""
        last = None
        while not self.queue.queue_paused and (workers := self._workers) is not None:
            waiting = next((row for row in self.queue.line() if row.state == QUEUED), None)
            if waiting is None or waiting.id == last:  # one that was put back: the studio closes
                return
            last = waiting.id
            with as_visitor(ANONYMOUS):  # the worker sees the jobs of all visitors
                workers.run_job(last)

    def _own(self) -> Workers | None:
        """Become the folder's one owner and put in order what a killed one left; None if there is another owner."""
        with self._changing:
            if self._workers is not None:
                return self._workers
            if not self._ownership.acquire():
                return None
            config, database = self.config, self.database
            WorkerQueue(database).recover(config.recovery)
            if config.clips.is_dir():
                sweep_partials(config.clips)
            InitialFramesStore(database, config.data).sweep()
            StageLatents(database, config.data).sweep(config.keep_work_days)
            sweep_trainings(database, config.data, config.keep_work_days)
            self._workers = open_workers(self.workspace)
            self.workspace.on_change = self._workers.wake
            return self._workers


class Workers(typing.Protocol):
    """Runs the queue of a data folder; see `app.worker.worker.Worker`. Methods may be called from any thread.

    Queue, database and files stay in this process, and the database holds how jobs stand.
    """

    def start(self) -> None: ...

    def stop(self) -> bool: ...

    def warm(self, name: str) -> None: ...

    def wake(self) -> None: ...

    def preview(self, job_id: str) -> np.ndarray | None: ...

    def run_job(self, job_id: str) -> None: ...


def open_workers(workspace: Workspace) -> Workers:
    """The workers that the settings name. The caller owns the data folder.

    Raises DeviceError if what they need is not installed or not available.
    """
    if workspace.config.zero_gpu:
        from app.worker.executors.zerogpu import ZeroGpuWorker

        return ZeroGpuWorker(workspace)
    if workspace.config.over_ray:
        from app.worker.executors.ray import RayWorkers

        return RayWorkers(workspace)
    from app.worker.worker import Worker

    return Worker(workspace)
