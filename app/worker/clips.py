"""Makes clips and compares clips made again: jobs without segments.

Latents are stored as each stage ends, and the file before the row that lists it, so that a kill loses little.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import replace

from app.gallery.rebuild import check_file
from app.media import write_mp4
from app.models.loaded import Model, Models
from app.queue.estimates import Timings
from app.recipes.comparison import compare_clips
from app.recipes.job_row import KEEP, RENDER
from app.recipes.recipe import Recipe
from app.storage.latents import StageLatents, find_shared_stages
from app.worker.job_run import JobRun, StopRequested
from app.workspace import Workspace
from lavie.events import SUPER_RESOLUTION, Finished, StageDone
from lavie.request import STAGES


class ClipWork:
    """Runs `render` and `regenerate` jobs of single clips; see `app.worker.worker.Worker`."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace, self._models, self._timings = workspace, models, Timings(workspace.database)
        self._latents = StageLatents(workspace.database, workspace.config.data)

    def render(self, run: JobRun) -> None:
        """Make the video, its file and its clip."""
        path, job_id = run.output(), run.row.id
        model = self._models.get(run.row.job.model)
        recipe = run.start(model, lambda: self._latents.drop(job_id))
        earlier = sum(seconds for _, seconds in self._timings.of_job(job_id))  # attempts before this one
        try:
            finished = self._generate(run, model, recipe)
        except StopRequested as stop:
            if stop.what != KEEP:
                raise
            run.cut_short(run.recipe)
            finished = self._generate(run, model, run.recipe)
        video = finished.video
        recipe = replace(run.recipe, frame_hash=video.frame_hash)
        write_mp4(path, video.frames, video.fps, recipe.to_json())
        run.finish(path, recipe, video.frames.shape, video.fps, earlier + finished.seconds)
        self._latents.drop(job_id, SUPER_RESOLUTION)  # large, and of no use once the frames are in a file

    def regenerate(self, run: JobRun) -> None:
        """Make the parent clip again and compare. A missing file is restored if the frames are the same."""
        gallery, job_id = self._workspace.gallery, run.row.id
        stored = run.parent()
        model = self._models.get(run.row.job.model)
        recipe = run.start(model, lambda: self._latents.drop(job_id))
        video = self._generate(run, model, recipe).video
        recipe = replace(run.recipe, frame_hash=video.frame_hash)
        comparison = compare_clips(stored.recipe, recipe, lambda: video.frames, stored.path)
        if comparison.identical and not stored.path.exists():
            write_mp4(stored.path, video.frames, video.fps, stored.recipe.to_json())
            check_file(gallery, stored.id)
        run.queue.finish(job_id, comparison.to_json())
        self._latents.drop(job_id)

    def _generate(self, run: JobRun, model: Model, recipe: Recipe) -> Finished:
        """Run the cascade, reporting each event; a wish to stop takes effect after the step."""
        done = self._load_latents(run, recipe)
        cascade = self._workspace.adapters.attach(model, recipe.adapters).cascade
        # Close the generator on every exit path so that no work continues.
        with contextlib.closing(cascade.generate(recipe.request, done=done, memory=recipe.memory)) as events:
            for event in events:
                run.report(event)
                if isinstance(event, StageDone):
                    self._latents.save(run.row.id, event.stage, event.latents)
                    self._timings.add(run.row.id, recipe, event.stage, event.seconds)
                if isinstance(event, Finished):
                    return event
                run.check_stop()
        raise RuntimeError("the cascade ended without a video")

    def _load_latents(self, run: JobRun, recipe: Recipe) -> dict:
        """The latents to go on from: the job's own, or those of the draft that it finishes.

        A stage whose latents should be there and are not is made again, which a notice says.
        """
        row = run.row
        sources: dict[str, Collection[str]] = {row.id: STAGES}
        missed = None
        draft = self._workspace.gallery.get(row.parent) if row.parent and row.kind == RENDER else None
        if draft is not None and (shared := find_shared_stages(draft.recipe.request, recipe.request)):
            if (draft.recipe.provenance, draft.recipe.adapters) == (recipe.provenance, recipe.adapters):
                sources[draft.id] = shared
                missed = f"no whole latents of the clip {draft.id} are kept"
            else:
                missed = f"the clip {draft.id} was made with other weights, adapters or versions, or on another device"
        latents, wrong = self._latents.latest(recipe.request.stages, sources)
        for reason in wrong:
            run.queue.add_notice(row.id, f"{reason}; that stage is made again")
        if missed and not latents:
            run.queue.add_notice(row.id, f"{missed}: it is made again from its first stage")
        return latents
