"""Which segments of a project will be made, since nothing that is kept is what the plan says."""

from __future__ import annotations

import typing
from dataclasses import replace

from app.recipes.recipe import Job, Recipe
from app.storage.initial_frames import InitialFramesStore
from app.storage.segment_latents import kept_keys
from extensions.long_video import plan as plans
from lavie.errors import LavieError
from lavie.events import BASE

if typing.TYPE_CHECKING:
    from app.long_videos.projects import Project
    from app.studio import Studio


def stale_segments(studio: Studio, project: Project) -> set[int]:
    """Numbers from 0: those whose latents are not kept.

    By their keys where the project's model is loaded. As long as it is not, by what the project's last job made.
    """
    count = len(project.plan.segments)
    model = studio.loaded
    try:
        if model is not None and model.name == project.model:
            return _missing(studio, project)
        return set(_changed(studio, project))
    except LavieError:
        return set(range(count))  # it cannot be made as it stands: rendering it says why


def _missing(studio: Studio, project: Project) -> set[int]:
    from extensions.long_video.pipeline import LongVideoPipeline
    from extensions.long_video.resolve import resolve

    model = studio.loaded
    request = replace(project.request, interpolation=None, super_resolution=None)
    job = studio.adapters.resolve_tags(Job(request, model.name, project.plan))
    request, plan = resolve(model.cascade, request, project.plan)
    model = model.wearing(job.adapters, studio.adapters)
    start = InitialFramesStore(studio.database, studio.config.data).load(project.start)
    keys = LongVideoPipeline(model.cascade, request, plan, start, {}, model.provenance).keys
    kept = kept_keys(studio.database, studio.config.data, keys)
    return {number for number, key in enumerate(keys) if key not in kept}


def _changed(studio: Studio, project: Project) -> range:
    """The segments that the last job of the project did not make as they are now, or whose files are gone."""
    count = len(project.plan.segments)
    row = studio.jobs.get(project.job) if project.job else None
    if row is None or row.recipe is None:
        return range(count)
    made, job = Recipe.from_json(row.recipe), row.job
    without = {"interpolation": None, "super_resolution": None, "prompt": "any", "seed": None}
    if replace(job.request, **without) != replace(project.request, **without) or job.start != project.start:
        return range(count)
    # What the model decided is in the recipe alone: the plan is compared as it was asked for.
    free = replace(project.plan, segments=tuple(replace(one, locked=False) for one in project.plan.segments))
    anew = plans.stale(replace(job.plan, negative_prompt=free.negative_prompt), free)
    rows = studio.database.query("SELECT number, path FROM parts WHERE job = ? AND stage = ?", [row.id, BASE])
    there = {row["number"] for row in rows if (studio.config.data / row["path"]).is_file()}
    first = next((number for number in range(count) if number in anew or number not in there), count)
    return range(min(first, len(made.plan.segments)), count)
