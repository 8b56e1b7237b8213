"""A job under way: its recipe before the first step, its progress and wishes to stop meanwhile, its clip at the end."""

from __future__ import annotations

import threading
import time
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.gallery import Clip
from app.long_videos.projects import Projects
from app.media import check_output
from app.models.loaded import Model
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import REGENERATE, JobRow
from app.recipes.recipe import Job, Recipe
from app.storage.latents import find_shared_stages
from app.workspace import Workspace
from extensions.lora.tags import take_tags
from lavie.errors import DeviceError, MediaError, RequestError
from lavie.events import SUPER_RESOLUTION, MemoryModeChanged, Notice, StageStarted, Step

if typing.TYPE_CHECKING:
    import numpy as np

    from extensions.long_video.metrics import Report

_WRITE_SECONDS = 0.1  # between two writes of the progress


class StopRequested(Exception):
    """The running job was asked to stop, or (`None`) the worker was."""

    def __init__(self, what: str | None):
        self.what = what


class DeviceLost(DeviceError):
    """The process that had a device is gone, with the step that was under way."""


class JobRun:
    """A running job. Belongs to the worker's thread; `preview` may be read from any.

    Attributes:
        row: the job as it was when it was taken.
        recipe: as the database has it, once `start` has stored it.
        preview: uint8 F h w 3, the latest guess of the frames.
    """

    recipe: Recipe

    def __init__(self, row: JobRow, workspace: Workspace, stopping: threading.Event):
        """stopping: is set when the worker is to stop."""
        self.row, self.queue = row, WorkerQueue(workspace.database)
        self._workspace, self._stopping = workspace, stopping
        self.preview: np.ndarray | None = None
        self._written = 0.0
        self._place = (0, 0)
        self._step: tuple[str, int, int] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a stage was reported."""
        return self._step is not None

    @property
    def stage(self) -> str:
        """The stage under way."""
        assert self._step is not None
        return self._step[0]

    def output(self) -> Path:
        """The path of the file to write. Raises MediaError if it cannot be written."""
        path = Path(self.row.output) if self.row.output else self._workspace.config.clips / f"{self.row.id}.mp4"
        if not self.row.output:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MediaError(
                    f"the folder {path.parent} cannot be made, {error.strerror}: choose another data folder"
                ) from error
        check_output(path)
        return path

    def parent(self) -> Clip:
        """The clip that is made again. Raises RequestError if it is gone."""
        stored = self._workspace.gallery.get(self.row.parent or "")
        if stored is None:
            raise RequestError(f"the clip {self.row.parent} is not in the gallery any more: nothing to make again")
        return stored

    def start(self, model: Model, drop: Callable[[], None]) -> Recipe:
        """Store the recipe before the first step: that of an earlier attempt, or a new one with every value decided.

        drop: forgets the stored latents; called where weights or libraries have changed since that attempt.
        """
        stored = Recipe.from_json(self.row.recipe) if self.row.recipe is not None else None
        if stored is not None and stored.provenance == model.provenance:
            recipe = stored
        else:
            if stored is not None:
                drop()
            job = stored.job if stored is not None else resolve_job(self.row.job, model)
            recipe = Recipe(
                job.request,
                self.row.job.model,
                model.provenance,
                long=job.long,
                start=job.start,
                shots=job.shots,
                adapters=job.adapters,
            )
        recipe = replace(recipe, memory={**self._parent_memory(recipe), **recipe.memory})
        self.recipe = recipe
        if recipe != stored:
            self.queue.store_recipe(self.row.id, recipe.to_json())
        return recipe

    def _parent_memory(self, recipe: Recipe) -> dict:
        """The memory modes of the stages that the job repeats of its parent clip: in the same modes, the same bits."""
        parent = self._workspace.gallery.get(self.row.parent) if self.row.parent else None
        if parent is None:
            return {}
        if self.row.kind == REGENERATE:
            return dict(parent.recipe.memory)
        shared = set() if recipe.long else find_shared_stages(parent.recipe.request, recipe.request)
        return {stage: mode for stage, mode in parent.recipe.memory.items() if stage in shared}

    def cut_short(self, recipe: Recipe) -> None:
        """Store the recipe without the stages that are not finished, as the person asked; the job goes on with it."""
        interpolation = recipe.request.interpolation if self.stage == SUPER_RESOLUTION else None
        request = replace(recipe.request, interpolation=interpolation, super_resolution=None)
        self.recipe = recipe = replace(recipe, request=request)
        with self._workspace.database.write():
            self.queue.store_recipe(self.row.id, recipe.to_json())
            self.queue.clear_stop(self.row.id)

    def report(self, event: typing.Any, part: int = 0, parts: int = 0) -> None:
        """Write the progress that an event tells of. part, parts: of a long video, see `JobRow`."""
        moved, self._place = (part, parts) != self._place, (part, parts)
        match event:
            case MemoryModeChanged():
                self.recipe = replace(self.recipe, memory={**self.recipe.memory, event.stage: event.mode})
                self.queue.store_recipe(self.row.id, self.recipe.to_json())
            case Notice():
                self.queue.add_notice(self.row.id, event.message)
            case StageStarted():
                self._step = (event.stage, 0, event.steps)
                self.queue.set_progress(self.row.id, *self._step, part, parts)
            case Step():
                self._step = (event.stage, event.index, event.steps)
                if event.preview is not None:
                    self.preview = event.preview
                if moved or event.index == event.steps or time.monotonic() - self._written >= _WRITE_SECONDS:
                    self._written = time.monotonic()
                    self.queue.set_progress(self.row.id, *self._step, part, parts)
            case _ if moved and self._step:  # a segment is done, and the next one under way
                self.queue.set_progress(self.row.id, *self._step, part, parts)

    def check_stop(self) -> None:
        """Raises StopRequested if the job is to stop."""
        if asked := self.queue.stop_request(self.row.id):
            raise StopRequested(asked)
        if self._stopping.is_set():
            raise StopRequested(None)

    def finish(
        self,
        path: Path,
        recipe: Recipe,
        shape: tuple[int, ...],
        fps: float,
        seconds: float,
        report: Report | None = None,
    ) -> None:
        """List the finished file as the job's clip, and end the job. shape: F H W 3. seconds: of making it."""
        gallery = self._workspace.gallery
        gallery.add_pictures(self.row.id, path)
        with self._workspace.database.write():
            sidecar = gallery.describe(
                self.row.id,
                path,
                recipe,
                frames=shape[0],
                width=shape[2],
                height=shape[1],
                fps=fps,
                seconds=round(seconds, 3),
                parent=self.row.parent,
                adapters=adapter_weights(recipe),
                report=report,
            )
            gallery.put(sidecar)
            self.queue.finish(self.row.id)
            Projects(self._workspace.database).note_clip(self.row.id)


def resolve_job(job: Job, model: Model) -> Job:
    """The job with every value decided."""
    if job.long is None:
        return Job(model.cascade.resolve(job.request), job.model, adapters=job.adapters)
    from extensions.long_video.resolve import resolve

    request, long = resolve(model.cascade, job.request, job.long)
    return Job(request, job.model, long, job.start, shots=job.shots, adapters=job.adapters)


def adapter_weights(recipe: Recipe) -> dict[str, float]:
    """Hash → weight of each adapter; the strongest of a long video's prompts where these set other weights."""
    weights = {adapter.name: adapter.weight for adapter in recipe.adapters}
    for prompt in recipe.job.prompts if recipe.adapters else ():
        for tag in take_tags(prompt)[1]:
            weights[tag.name] = max(weights.get(tag.name, 0.0), tag.weight, key=abs)
    return {adapter.sha256: weights[adapter.name] for adapter in recipe.adapters}
