"""What a job begins and ends with: its recipe before the first step, and its clip in the gallery at the end."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from app.clip import clip_path
from app.config import StudioConfig
from app.gallery import Gallery, NewClip
from app.long_videos.projects import Projects
from app.media import check_output
from app.queue.job import JobRow
from app.queue.queue import JobQueue
from app.recipes.recipe import Job, Recipe
from app.storage.database import Database
from app.worker.models import Model
from extensions.lora.tags import take_tags

if typing.TYPE_CHECKING:
    from extensions.long_video.metrics import Report
    from lavie.events import MemoryModeChanged


class Results:
    """Of the jobs of a data folder."""

    def __init__(self, config: StudioConfig, database: Database):
        self._config, self._database = config, database
        self._jobs, self._gallery, self._projects = (
            JobQueue(database),
            Gallery(database, config.data),
            Projects(database),
        )

    def path(self, row: JobRow) -> Path:
        """Where a job's file goes. Raises MediaError where it cannot be written."""
        path = Path(row.output) if row.output else clip_path(self._config, row.id)
        check_output(path)
        return path

    def recipe(self, row: JobRow, model: Model, changed: Callable[[], None]) -> Recipe:
        """The recipe that was written when the job first ran, or a new one, stored before the first step.

        changed: is called where weights or libraries are not what they were then: what was kept is of no use.
        """
        if row.recipe is not None:
            recipe = Recipe.from_json(row.recipe)
            if recipe.provenance == model.provenance:
                return recipe
            changed()
            job = recipe.job
        else:
            job = _resolved(row.job, model)
        long = {"plan": job.plan, "start": job.start, "reel": job.reel, "shots": job.shots}
        recipe = Recipe(job.request, row.job.model, model.provenance, **long, adapters=job.adapters)
        self._jobs.resolved(row.id, recipe.to_json())
        return recipe

    def on_rung(self, job_id: str, event: MemoryModeChanged) -> None:
        """Keep in a running job's recipe what a stage runs on, before it does."""
        recipe = Recipe.from_json(self._jobs.get(job_id).recipe)
        recipe = replace(recipe, memory={**recipe.memory, event.stage: event.rung})
        self._jobs.resolved(job_id, recipe.to_json())

    def recorded(self, job_id: str, recipe: Recipe) -> Recipe:
        """A running job's recipe with what its stages have run on."""
        return replace(recipe, memory=Recipe.from_json(self._jobs.get(job_id).recipe).memory)

    def as_before(self, row: JobRow, recipe: Recipe, made: Recipe, stages: Collection[str]) -> Recipe:
        """The recipe of a running job whose `stages` run on the rungs that those of `made` ran on, stored."""
        memory = {stage: rung for stage, rung in made.memory.items() if stage in stages}
        if not memory.items() <= recipe.memory.items():
            recipe = replace(recipe, memory={**memory, **recipe.memory})
            self._jobs.resolved(row.id, recipe.to_json())
        return recipe

    def store(
        self,
        row: JobRow,
        path: Path,
        recipe: Recipe,
        shape: tuple[int, ...],
        fps: float,
        seconds: float,
        report: Report | None = None,
    ) -> None:
        """List a finished file as the job's clip, and end the job. shape: F H W 3. seconds: the making took."""
        self._gallery.add_pictures(row.id, path)
        clip = NewClip(
            id=row.id,
            path=path,
            recipe=recipe,
            parent=row.parent,
            width=shape[2],
            height=shape[1],
            frames=shape[0],
            fps=fps,
            seconds=round(seconds, 3),
            frame_hash=recipe.frame_hash,
            adapters=worn_weights(recipe),
            report=report,
        )
        with self._database.write():
            self._gallery.add(clip)
            self._jobs.finish(row.id)
            self._projects.made(row.id)


def _resolved(job: Job, model: Model) -> Job:
    """The job with every value decided."""
    if job.long is None:
        return Job(model.cascade.resolve(job.request), job.model, adapters=job.adapters)
    from extensions.long_video.resolve import resolve

    request, long = resolve(model.cascade, job.request, job.long)
    which = {"reel": long} if job.reel else {"plan": long}
    return Job(request, job.model, start=job.start, shots=job.shots, adapters=job.adapters, **which)


def worn_weights(recipe: Recipe) -> dict[str, float]:
    """Hash → weight of each adapter; of a long video whose prompts say others, the strongest of these."""
    weights = {adapter.name: adapter.weight for adapter in recipe.adapters}
    for prompt in recipe.job.prompts if recipe.adapters else ():
        for asked in take_tags(prompt)[1]:
            weights[asked.name] = max(weights.get(asked.name, 0.0), asked.weight, key=abs)
    return {adapter.sha256: weights[adapter.name] for adapter in recipe.adapters}
