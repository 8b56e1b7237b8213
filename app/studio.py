"""The one object behind the page, the commands and the API: takes jobs, says how they stand, keeps what they made.

Whatever it is told is in the database before it answers, so that it holds for every process on the data folder and
after a kill. Does not know how a clip is made (`app.worker.worker`), nor who asks.
"""

from __future__ import annotations

import threading
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from app.adapters import Adapters
from app.clip import Clip, load_cascade
from app.config import StudioConfig
from app.gallery import Gallery, StoredClip
from app.long_videos.service import LongVideos
from app.media import sweep_partials
from app.models.card import ModelCard
from app.models.choice import ModelChoice
from app.models.jobs import WeightsWork
from app.presets import Presets
from app.queue.estimates import Estimates
from app.queue.job import DONE, INTERRUPTED, PAUSED, QUEUED, REGENERATE, RENDER, JobRow
from app.queue.queue import JobQueue
from app.queue.status import JobStatus
from app.queue.timings import Timings
from app.recipes.comparison import Comparison
from app.recipes.recipe import Job
from app.recipes.segments import without_seeds
from app.sharing.visitor import ANONYMOUS, as_visitor
from app.storage.database import Database
from app.storage.folder_lock import Ownership
from app.storage.initial_frames import InitialFramesStore
from app.storage.stage_latents import StageLatents
from app.storage.training_folder import sweep_trainings
from app.training.draft import Drafts
from app.training.service import Trainings
from app.worker.executors.executor import Workers, open_workers
from app.worker.models import READY, Model
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, SuperResolution

if typing.TYPE_CHECKING:
    from extensions.lora.adapter import Adapter
    from lavie.cascade import Cascade
    from lavie.text import PromptReport

POLL_SECONDS = 0.1


class Studio:
    """The jobs and clips of a data folder. All methods may be called from any thread.

    load: gives the cascade for the settings; called by the worker.
    Raises StorageError if the folder cannot be used.
    """

    def __init__(self, config: StudioConfig, load: Callable[[StudioConfig], Cascade] = load_cascade):
        self.config = config
        self.database = Database(config.data)
        self.jobs, self.gallery = JobQueue(self.database), Gallery(self.database, config.data)
        self.adapters = Adapters(self.database, config.data)
        self.presets, self.estimates = Presets(self.database), Estimates(self.database, config)
        self._load = load
        self.long, self.training = LongVideos(self), Trainings(self)
        self.drafts, self.choice = Drafts(self), ModelChoice(self)
        self.weights = WeightsWork(config.data / "models")
        self._ownership = Ownership(config.data)
        self._worker: Workers | None = None
        self._changing = threading.Lock()  # of the worker
        self._serving = False

    def serve(self) -> None:
        """Own the folder and work off its queue. Raises StorageError where another studio does so already."""
        if not self._own():
            raise self._ownership.refused("use that studio, wait for that command, or give another --data")
        if not self._serving:
            self.choice.restore()
            self._serving = True
            self._worker.start()

    def warm(self) -> None:
        """Load the model in the background, so that the first job need not wait for it."""
        if self._worker:
            self._worker.warm(self.model)

    @property
    def model_state(self) -> str:
        """`loading`, `ready`, or why the model cannot be loaded."""
        return self._worker.models.state if self._worker else READY

    @property
    def card(self) -> ModelCard | None:
        """What the model says of itself, whether it is loaded or not."""
        return ModelCard.read(self.config.bundle)

    @property
    def cascade(self) -> Cascade | None:
        """The loaded model, for questions that run no network; None as long as there is none."""
        return self._worker.models.cascade if self._worker else None

    @property
    def loaded(self) -> Model | None:
        """The loaded model with its name and provenance, for questions that run no network."""
        return self._worker.models.loaded if self._worker else None

    def load(self) -> Cascade:
        """The studio's model once more, beside the worker's. Imports torch. Raises BundleError, DeviceError."""
        return self._load(self.config)

    def read_prompt(self, prompt: str) -> PromptReport | None:
        """How the model understands a prompt; None as long as it is not loaded."""
        cascade = self.cascade
        return cascade.read(prompt) if cascade else None

    def close(self) -> None:
        """Stop behind the step under way; its job goes on at the next start."""
        self.weights.close()
        with self._changing:
            # Where a step goes on for long, the folder stays ours until this process ends.
            if self._worker is None or self._worker.stop():
                self._ownership.release()
                self._worker, self._serving = None, False
        self.database.close()

    def submit(
        self,
        request: Request,
        *,
        output: Path | None = None,
        parent: str | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> str:
        """Put a request at the end of the line; its job's id, which will be the clip's.

        adapters: beside those that tags in the prompt ask for. Raises RequestError for one that is not known.
        """
        job = self.adapters.resolve_tags(Job(request, self.model, adapters=tuple(adapters)))
        job_id = self.jobs.add(job, parent=parent, output=str(output.absolute()) if output else None)
        self.wake()
        return job_id

    def regenerate(self, clip_id: str) -> str:
        """Make a clip again and compare; the job's id. Its outcome is the snapshot's `proof`."""
        job = self._clip(clip_id).recipe.job
        self.long.check_frames(job)
        job_id = self.jobs.add(job, kind=REGENERATE, parent=clip_id)
        self.wake()
        return job_id

    def edit(self, job_id: str, request: Request, adapters: Sequence[Adapter] | None = None) -> None:
        """Ask for something else in a queued job. adapters: in place of the job's [these stay]. Raises RequestError."""
        worn = {} if adapters is None else {"adapters": tuple(adapters)}
        self.jobs.edit(job_id, lambda job: self.adapters.resolve_tags(replace(job, request=request, **worn)))

    def duplicate(self, job_id: str) -> str:
        """The same job once more, at the end of the line; its id."""
        again = self.jobs.duplicate(job_id)
        self.wake()
        return again

    def resume(self, job_id: str) -> None:
        """Let a paused or interrupted job go on where it stands in line."""
        self.jobs.resume(job_id)
        self.wake()

    def retry(self, job_id: str) -> None:
        """Queue a job again that failed, was cancelled or interrupted; it goes on from what it has stored."""
        self.jobs.retry(job_id)
        self.wake()

    def keep(self, job_id: str) -> None:
        """Stop a running job behind its step and make a clip of the stages that it has finished."""
        self.jobs.keep(job_id)

    def resume_queue(self) -> None:
        """Start jobs again."""
        self.jobs.resume_queue()
        self.wake()

    def remix(self, clip_id: str) -> str:
        """Make a clip once more with another seed and all else as it was; the job's id."""
        job = self._clip(clip_id).recipe.job
        plan, reel = (long and without_seeds(long) for long in (job.plan, job.reel))
        return self._again(clip_id, replace(job, request=replace(job.request, seed=None), plan=plan, reel=reel))

    def finish(self, clip_id: str, *, interpolate: bool = False, upscale: bool = False) -> str:
        """Go on from a clip's stored latents with stages that it lacks, as a clip of its own; the job's id."""
        draft = self._clip(clip_id).recipe
        asked = draft.request
        interpolation = asked.interpolation or (Interpolation() if interpolate else None)
        super_resolution = asked.super_resolution or (SuperResolution() if upscale else None)
        request = replace(asked, interpolation=interpolation, super_resolution=super_resolution)
        if request == asked:
            raise RequestError(f"the clip {clip_id} has these stages already: ask for one that it lacks")
        return self._again(clip_id, replace(draft.job, request=request))

    def job(self, job_id: str | None) -> JobStatus | None:
        """How a job stands; None for an id that is not known here."""
        row = self.jobs.get(job_id) if job_id else None
        if row is None:
            return None
        if row.state == DONE and row.kind == RENDER:
            return JobStatus(row, clip=self._result(row))
        if row.state == DONE and row.kind == REGENERATE:
            return JobStatus(row, proof=Comparison.from_json(row.result))
        worker = self._worker
        return JobStatus(row, worker.preview(row.id) if worker else None)

    def cancel(self, job_id: str) -> None:
        """Take a waiting job out of the line, or stop a running one behind its step. Nothing happens to others."""
        row = self.jobs.get(job_id)
        if row is not None and row.open:
            self.jobs.cancel(job_id)

    def follow(self, job_id: str) -> Iterator[JobStatus]:
        """A job's snapshots until it is closed, or interrupted and left to a person.

        Where nobody works off the folder's queue, it is made here. Who stops asking before the end has cancelled it.
        """
        made: Future | None = None
        with ThreadPoolExecutor(1, "studio maker") as maker:
            try:
                while (snapshot := self.job(job_id)).open and snapshot.state != INTERRUPTED:
                    yield snapshot
                    if made is not None and made.done():
                        made.result()  # raises what kept the job's end from being stored
                        made = None
                    if made is None and snapshot.state != PAUSED and not self._serving and self._own():
                        made = maker.submit(self._worker.run_job, job_id)
                    time.sleep(POLL_SECONDS)
            except BaseException:
                self.cancel(job_id)
                raise
        yield snapshot

    def drain(self) -> None:
        """Make what waits in the line, in this thread: where the device is lent, in the event on whose quota it is."""
        last = None
        while not self.jobs.queue_paused and (worker := self._worker) is not None:
            waiting = next((row for row in self.jobs.line() if row.state == QUEUED), None)
            if waiting is None or waiting.id == last:  # one that was put back: the studio closes
                return
            last = waiting.id
            with as_visitor(ANONYMOUS):  # a worker's business is all jobs'
                worker.run_job(last)

    def _own(self) -> bool:
        """Become the folder's one worker, if nobody is, and put in order what a killed one left."""
        with self._changing:
            if self._worker is not None:
                return True
            if not self._ownership.acquire():
                return False
            self.jobs.recover(self.config.recovery)
            if self.config.clips.is_dir():
                sweep_partials(self.config.clips)
            InitialFramesStore(self.database, self.config.data).sweep()
            StageLatents(self.database, self.config.data).sweep(self.config.keep_work_days)
            sweep_trainings(self.database, self.config.data, self.config.keep_work_days)
            self._worker = open_workers(self.config, self.database, self._load)
            return True

    @property
    def model(self) -> str:
        """The name of the model that new jobs are made with.

        A folder's in full: whoever makes the job may have been started elsewhere.
        """
        named, folder = Path(self.config.model).expanduser(), self.config.bundle
        return str(folder.absolute()) if folder == named else self.config.model

    def wake(self) -> None:
        """Have the queue looked at now."""
        if worker := self._worker:
            worker.wake()

    def _again(self, clip_id: str, job: Job) -> str:
        """Make something else of a clip."""
        self.long.check_frames(job)
        job_id = self.jobs.add(job, parent=clip_id)
        self.wake()
        return job_id

    def _clip(self, clip_id: str) -> StoredClip:
        stored = self.gallery.get(clip_id)
        if stored is None:
            raise RequestError(f"no clip has the id {clip_id!r}: `gallery list` shows those that are there")
        return stored

    def _result(self, row: JobRow) -> Clip | None:
        stored = self.gallery.get(row.id)
        return stored and Clip.of(stored, Timings(self.database).sums(row.id))  # None of one that was purged since
