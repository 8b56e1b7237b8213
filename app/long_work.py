"""Makes long videos: the worker's other hand. Whatever is made is on disk before it is told of (`app.parts`), and what
any job has made already is not made again. What comes out passes frame by frame into the file.

Belongs to the worker's thread. torch is first imported here, when the first job comes.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.adapters import Adapters
from app.artefacts import Artefacts
from app.candidates import judged
from app.config import StudioConfig
from app.database import Database
from app.gallery import Gallery
from app.job_row import KEEP, JobRow
from app.jobs import Jobs
from app.long_plan import cut_short
from app.long_progress import LongProgress
from app.media import encode_frames
from app.models import Model, Models
from app.parts import Parts
from app.proof import prove
from app.recipe import Recipe
from app.results import Results
from app.running import Asked, Running
from app.starts import Starts
from app.timings import Timings
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, STAGES, SUPER_RESOLUTION, OnRung
from lavie.plans import PLACES
from lavie.video import FrameHash

if typing.TYPE_CHECKING:
    import numpy as np

    from extensions.long_video.film import Film
    from extensions.long_video.meters import Report


class LongWork:
    """Jobs with a plan of segments or a reel of clips; see `app.worker.Worker`."""

    def __init__(self, config: StudioConfig, database: Database, models: Models, running: Running):
        self._config, self._database, self._models, self._running = config, database, models, running
        self._jobs, self._gallery = Jobs(database), Gallery(database, config.data)
        self._adapters = Adapters(database, config.data)
        self._results, self._timings = Results(config, database), Timings(database)
        self._starts, self._artefacts = Starts(database, config.data), Artefacts(database, config.data)

    def render(self, row: JobRow) -> None:
        """Make the video, its file and its clip."""
        path = self._results.path(row)
        model = self._models.get(row.job.model)
        before = sum(seconds for _, seconds in self._timings.of_job(row.id))  # of earlier attempts
        began = time.monotonic()
        parts = self._parts(row)
        recipe = self._results.recipe(row, model, parts.drop)
        try:
            film = self._made(row, model, recipe, parts)
        except Asked as stop:
            if stop.what != KEEP:
                raise
            recipe = self._cut_short(row, model, recipe, parts)
            film = self._made(row, model, recipe, parts)
        recipe = self._results.recorded(row.id, recipe)
        recipe, report = self._written(row, recipe, film, path)
        seconds = before + time.monotonic() - began
        self._results.store(row, path, recipe, film.shape, film.fps, seconds, report)
        parts.drop(INTERPOLATION, SUPER_RESOLUTION)  # large, and of no use once the frames are in a file

    def regenerate(self, row: JobRow) -> None:
        """Make the parent clip again, every part of it, and compare. A file that is gone is put back if it is equal."""
        stored = self._gallery.get(row.parent)
        if stored is None:
            raise RequestError(f"the clip {row.parent} is not in the gallery any more: nothing to make again")
        model, parts = self._models.get(row.job.model), self._parts(row, shared=False)
        again = self._results.recipe(row, model, parts.drop)
        again = self._results.as_before(row, again, stored.recipe, PLACES)
        film = self._made(row, model, again, parts)
        digest = FrameHash(film.shape)
        for frame in self._heeding(row, film):
            digest.add(frame)
        again = self._results.recorded(row.id, again)
        again = replace(again, frame_hash=digest.hexdigest())
        proof = prove(stored.recipe, again, film.frames, stored.path)
        if proof.identical and not stored.path.exists():
            encode_frames(stored.path, film.frames(), film.fps, stored.recipe.to_json())
            self._gallery.check_file(stored.id)
        self._jobs.finish(row.id, proof.to_json())
        parts.drop()

    def candidates(self, row: JobRow) -> None:
        """Make the last segment of the plan with each of the job's seeds, and measure each."""
        model, parts = self._models.get(row.job.model), self._parts(row)
        recipe = self._results.recipe(row, model, parts.drop)
        folder, found = self._config.data / "work" / row.id, []
        for number, seed in enumerate(row.job.candidates, 1):
            *before, last = recipe.plan.segments
            plan = replace(recipe.plan, segments=(*before, replace(last, seed=seed)))
            taken = replace(recipe, plan=plan)
            film = self._made(row, model, taken, parts, of=(number, len(row.job.candidates)))
            start = self._starts.load(recipe.start)
            found.append(judged(model.cascade, film.keys, parts, start, seed, recipe.request.fps, folder))
        found.sort(key=lambda one: one.pop("roughness"))
        self._jobs.finish(row.id, json.dumps(found))

    def _parts(self, row: JobRow, shared: bool = True) -> Parts:
        def tell(text: str) -> None:
            self._jobs.notice(row.id, text)

        return Parts(self._database, self._config.data, row.id, tell=tell, shared=shared)

    def _film(self, model: Model, recipe: Recipe, parts: Parts) -> Film:
        from extensions.long_video.film import Film

        model = model.wearing(recipe.adapters, self._adapters)
        if recipe.reel is not None:
            begun = [partial(self._starts.load, shot) for shot in recipe.shots]
        else:
            begun = self._starts.load(recipe.start)
        long = recipe.job.long
        return Film(model.cascade, recipe.request, long, begun, parts, model.provenance, model.prepare, recipe.memory)

    def _made(self, row: JobRow, model: Model, recipe: Recipe, parts: Parts, of: tuple[int, int] | None = None) -> Film:
        """Make all parts, noting how it goes; at each step a wish to stop is heeded. of: which of the candidates."""
        film = self._film(model, recipe, parts)
        progress = LongProgress(row.id, recipe, self._timings, _whole_from_the_first(film.keys, parts))
        # `closing` ends the film's generator on every way out: nothing runs on behind our back.
        with contextlib.closing(film.make()) as events:
            for event in events:
                progress.note(event)
                if isinstance(event, OnRung):
                    self._results.on_rung(row.id, event)
                self._running.note(row.id, event, *(of or progress.place))
                self._running.heed(row.id)
        return film

    def _cut_short(self, row: JobRow, model: Model, recipe: Recipe, parts: Parts) -> Recipe:
        """The recipe without what is not finished: segments or bridges that are not there, or the stage under way; and
        what is behind either."""
        recipe = self._results.recorded(row.id, recipe)
        reached = STAGES.index(self._jobs.get(row.id).stage)
        if STAGES[reached] == BASE:
            recipe = cut_short(recipe, _whole_from_the_first(self._film(model, recipe, parts).keys, parts))
        request = replace(recipe.request, **dict.fromkeys(STAGES[max(reached, 1) :]))
        recipe = replace(recipe, request=request)
        with self._database.write():
            self._jobs.resolved(row.id, recipe.to_json())
            self._jobs.heeded(row.id)
        return recipe

    def _written(self, row: JobRow, recipe: Recipe, film: Film, path: Path) -> tuple[Recipe, Report]:
        """Write the file, measuring the frames as they pass; the recipe with their hash, and what the meters say."""
        from extensions.long_video.meters import Meter

        meter, digest = Meter(film.joins), FrameHash(film.shape)

        def frames() -> Iterator[np.ndarray]:
            for frame in self._heeding(row, film):
                meter.add(frame)
                digest.add(frame)
                yield frame

        def hashed() -> Recipe:
            return replace(recipe, frame_hash=digest.hexdigest())

        encode_frames(path, frames(), film.fps, lambda: hashed().to_json())
        return hashed(), meter.report()

    def _heeding(self, row: JobRow, film: Film) -> Iterator[np.ndarray]:
        """The video's frames. A wish to stop is heeded; all is made, so there is nothing left to cut short."""
        for frame in film.frames():
            try:
                self._running.heed(row.id)
            except Asked as stop:
                if stop.what != KEEP:
                    raise
                self._jobs.heeded(row.id)
            yield frame


def _whole_from_the_first(keys: list[str], parts: Parts) -> int:
    """How many segments or bridges from the first on are there."""
    return next((number for number, key in enumerate(keys) if key not in parts), len(keys))
