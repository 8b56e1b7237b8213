"""Makes what the queue holds, one job after another, in a thread of its own: whoever watches or does not.

Everything that a kill could take is stored before the next thing begins: the recipe before the first step, the latents
of a stage as it ends, the file before the row that lists it. Knows the life of a job; the order of the line is
`app.queue.queue`, what a page shows is elsewhere. torch is first imported here, when the first job comes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import typing
from collections.abc import Callable
from dataclasses import replace

from app.adapters import Adapters
from app.clip import load_cascade
from app.config import StudioConfig
from app.gallery import Gallery
from app.media import write_mp4
from app.queue.job import CANCEL, CANDIDATES, KEEP, PAUSE, REGENERATE, RENDER, TRAIN, JobRow
from app.queue.queue import JobQueue
from app.queue.timings import Timings
from app.recipes.comparison import compare_clips
from app.recipes.recipe import Recipe
from app.storage.database import Database
from app.storage.stage_latents import StageLatents, shared_stages
from app.worker.long_video import LongWork
from app.worker.models import Model, Models
from app.worker.results import Results
from app.worker.running import Running, StopRequested
from app.worker.training import TrainingWork
from lavie.errors import LavieError, RequestError
from lavie.events import STAGES, SUPER_RESOLUTION, Event, Finished, MemoryModeChanged, StageDone
from lavie.plans import PLACES

if typing.TYPE_CHECKING:
    import numpy as np

    from lavie.cascade import Cascade

_IDLE_SECONDS = 0.25  # between looks at the queue: other processes put jobs there too
_STOP_SECONDS = 30  # how long closing waits for the step under way

_log = logging.getLogger(__name__)


class Worker:
    """One worker over a data folder. The caller owns the folder.

    load: see `app.worker.models.Models`; called in the worker's thread. suits: which jobs it takes; None for all.
    """

    def __init__(
        self,
        config: StudioConfig,
        database: Database,
        load: Callable[[StudioConfig], Cascade] = load_cascade,
        suits: Callable[[JobRow], bool] | None = None,
    ):
        self._suits = suits
        self._taken: str | None = None  # the job under way, or whose end could not be stored
        self.config, self._database = config, database
        self.models = Models(config, load)
        self._jobs, self._gallery = JobQueue(database), Gallery(database, config.data)
        self._adapters = Adapters(database, config.data)
        self._artefacts, self._timings = StageLatents(database, config.data), Timings(database)
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._running, self._results = Running(self._jobs, self._stopping), Results(config, database)
        self._long = LongWork(config, database, self.models, self._running)
        self._training = TrainingWork(config, database, self.models, self._running)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work off the queue."""
        # A daemon, so that a process that ends without `stop` does not hang on a step under way.
        self._thread = threading.Thread(target=self._work, name="studio worker", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Stop behind the step under way. Its job goes back to the front of the line and goes on at the next start.

        False if the step takes so long that it is still under way.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        return self._thread is None or not self._thread.is_alive()

    def warm(self, name: str) -> None:
        """Load a model as soon as nothing else is to be done, so that the first job need not wait for it."""
        self.models.want(name)
        self.wake()

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def preview(self, job_id: str) -> np.ndarray | None:
        """uint8 F h w 3: the latest guess of a running job's frames."""
        return self._running.preview(job_id)

    def run_job(self, job_id: str) -> None:
        """Make one job, wherever it stands in the line, in this thread. It may be taken already; then nothing.

        Raises StorageError if it cannot be stored how it ended.
        """
        try:
            if row := self._jobs.take(job_id):
                self._finish(row)
        finally:
            self._database.close()

    def _work(self) -> None:
        sound = True
        while not self._stopping.is_set():
            # Nothing that happens with one job may end the worker, on which all others wait.
            try:
                if not sound:
                    self._recover()
                    sound = True
                if self._ready():
                    row = self._jobs.take(suits=self._suits)
                    if row is not None:
                        self._finish(row)
                        continue
                    self.models.load_ahead()
            except Exception:
                if sound:  # and not again while it lasts, as on a full disk
                    _log.exception("%s cannot be worked on", self.config.data)
                sound = False
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
        self._database.close()

    def _ready(self) -> bool:
        """Whether there is a device to work on."""
        return True

    def _recover(self) -> None:
        """A job whose end could not be stored is as one that a kill interrupted; those of other workers run on."""
        if self._taken is not None:
            self._jobs.recover(self.config.recovery, self._taken)
            self._taken = None

    def _finish(self, row: JobRow) -> None:
        """Make a job, or store why not."""
        self._taken = row.id
        try:
            self._make(row)
        except StopRequested as stop:
            {CANCEL: self._jobs.cancelled, PAUSE: self._jobs.paused, None: self._jobs.release}[stop.what](row.id)
        except LavieError as error:
            self._jobs.fail(row.id, str(error))
        except Exception as error:
            _log.exception("job %s failed", row.id)
            reason = f"{type(error).__name__}: {error}"
            where = "the studio's terminal shows where, that of a command with LAVIE_DEBUG=1"
            self._jobs.fail(row.id, f"something went wrong inside ({reason}); {where}")
        finally:
            self._running.ended(row.id)
        self._taken = None

    def _make(self, row: JobRow) -> None:
        if row.kind == TRAIN:
            work = {TRAIN: self._training.train}
        elif row.job.long is None:
            work = {RENDER: self._render, REGENERATE: self._regenerate}
        else:
            long = self._long
            work = {RENDER: long.render, REGENERATE: long.regenerate, CANDIDATES: long.candidates}
        work[row.kind](row)

    def _render(self, row: JobRow) -> None:
        path = self._results.path(row)
        model = self.models.get(row.job.model)
        recipe = self._recipe(row, model)
        before = sum(seconds for _, seconds in self._timings.of_job(row.id))  # of earlier attempts
        try:
            finished = self._run(row, model, recipe, self._kept(row, recipe))
        except StopRequested as stop:
            if stop.what != KEEP:
                raise
            recipe = self._cut_short(row, recipe)
            finished = self._run(row, model, recipe, self._kept(row, recipe))
        video = finished.video
        recipe = self._results.recorded(row.id, recipe)
        recipe = replace(recipe, frame_hash=video.frame_hash)
        write_mp4(path, video, recipe.to_json())
        self._results.store(row, path, recipe, video.frames.shape, video.fps, before + finished.seconds)
        self._artefacts.drop(row.id, SUPER_RESOLUTION)  # large, and of no use once the frames are in a file

    def _cut_short(self, row: JobRow, recipe: Recipe) -> Recipe:
        """The recipe without the stage under way and those behind it: what is finished makes a clip of its own."""
        recipe = self._results.recorded(row.id, recipe)
        reached = STAGES.index(self._jobs.get(row.id).stage)
        recipe = replace(recipe, request=replace(recipe.request, **dict.fromkeys(STAGES[reached:])))
        with self._database.write():
            self._jobs.resolved(row.id, recipe.to_json())
            self._jobs.stop_handled(row.id)
        return recipe

    def _regenerate(self, row: JobRow) -> None:
        """Make the parent clip again and compare. A file that is gone is put back if the frames are the same."""
        stored = self._gallery.get(row.parent)
        if stored is None:
            raise RequestError(f"the clip {row.parent} is not in the gallery any more: nothing to make again")
        model = self.models.get(row.job.model)
        again = self._recipe(row, model)
        video = self._run(row, model, again, self._kept(row, again)).video
        path, again = self._gallery.path(stored), self._results.recorded(row.id, again)
        proof = compare_clips(stored.recipe, replace(again, frame_hash=video.frame_hash), lambda: video.frames, path)
        if proof.identical and not path.exists():
            write_mp4(path, video, stored.recipe.to_json())
            self._gallery.check_file(stored.id)
        self._jobs.finish(row.id, proof.to_json())
        self._artefacts.drop(row.id)

    def _run(self, row: JobRow, model: Model, recipe: Recipe, done: dict) -> Finished:
        """Make the video, noting in the database how it goes; at each step a wish to stop is heeded."""
        cascade = model.wearing(recipe.adapters, self._adapters).cascade
        # `closing` ends the cascade's generator on every way out: nothing runs on behind our back.
        with contextlib.closing(cascade.generate(recipe.request, done=done, memory=recipe.memory)) as events:
            for event in events:
                self._note(row, recipe, event)
                if isinstance(event, Finished):
                    return event
                self._running.check_stop(row.id)
        raise RuntimeError("the cascade ended without a video")

    def _note(self, row: JobRow, recipe: Recipe, event: Event) -> None:
        self._running.note(row.id, event)
        if isinstance(event, MemoryModeChanged):
            self._results.on_rung(row.id, event)
        if isinstance(event, StageDone):
            self._artefacts.save(row.id, event.stage, event.latents)
            self._timings.add(row.id, recipe, event.stage, event.seconds)

    def _recipe(self, row: JobRow, model: Model) -> Recipe:
        recipe = self._results.recipe(row, model, lambda: self._artefacts.drop(row.id))
        parent = self._gallery.get(row.parent) if row.parent else None
        if parent is None:
            return recipe
        shared = PLACES if row.kind == REGENERATE else shared_stages(parent.recipe.request, recipe.request)
        return self._results.as_before(row, recipe, parent.recipe, shared)

    def _kept(self, row: JobRow, recipe: Recipe) -> dict:
        """The latents to go on from: the job's own, or those of the draft that it finishes.

        What should be there and is not whole is made again, and that is told.
        """
        sources, missed = {row.id: STAGES}, None
        draft = self._gallery.get(row.parent) if row.parent and row.kind == RENDER else None
        if draft is not None and (shared := shared_stages(draft.recipe.request, recipe.request)):
            if (draft.recipe.provenance, draft.recipe.adapters) == (recipe.provenance, recipe.adapters):
                sources[draft.id] = shared
                missed = f"no whole latents of the clip {draft.id} are kept"
            else:
                missed = f"the clip {draft.id} was made with other weights, adapters or versions, or on another device"
        kept, wrong = self._artefacts.latest(recipe.request.stages, sources)
        for said in wrong:
            self._jobs.notice(row.id, f"{said}; that stage is made again")
        if missed and not kept:
            self._jobs.notice(row.id, f"{missed}: it is made again from its first stage")
        return kept
