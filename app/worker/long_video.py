"""Makes long videos: the worker's other hand. Whatever is made is on disk before it is told of (`app.storage.segment_latents`), and what
any job has made already is not made again. What comes out passes frame by frame into the file.

Belongs to the worker's thread. torch is first imported here, when the first job comes.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from app.adapters import Adapters
from app.config import StudioConfig
from app.gallery import Gallery
from app.media import encode_frames, write_animation
from app.queue.job import KEEP, JobRow
from app.queue.queue import JobQueue
from app.queue.timings import Timings
from app.recipes.comparison import compare_clips
from app.recipes.recipe import Recipe
from app.recipes.segments import course_of, cut_short
from app.storage.database import Database
from app.storage.initial_frames import InitialFramesStore
from app.storage.segment_latents import SegmentLatents
from app.storage.stage_latents import StageLatents
from app.worker.models import Model, Models
from app.worker.results import Results
from app.worker.running import Running, StopRequested
from lavie.errors import RequestError
from lavie.events import (
    BASE,
    INTERPOLATION,
    STAGES,
    SUPER_RESOLUTION,
    MemoryModeChanged,
    Notice,
    StageDone,
    StageStarted,
    Step,
)
from lavie.plans import PLACES
from lavie.video import FrameHash

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from extensions.long_video.metrics import Report
    from extensions.long_video.pipeline import LongVideoPipeline, Part
    from lavie.cascade import Cascade


class LongProgress:
    """Follows the events of one run of a film. place: part and parts, see `JobRow`."""

    def __init__(self, job_id: str, recipe: Recipe, timings: Timings, done: int):
        """done: segments or bridges that are there already, from the first on."""
        self._job, self._recipe, self._timings, self._done = job_id, recipe, timings, done
        self._course = course_of(recipe.job)
        self._ends = list(accumulate(count * self._a_part(BASE) for count in self._course.parts))  # last step of each
        self._total, self._steps = 0, 0  # of the stage, and seen since `_began`
        self._began = time.monotonic()
        self.place = (0, 0)

    def note(self, event: Any) -> None:
        """Follow an event; keep the time of what it ends."""
        match event:
            case StageStarted():
                self._restart()
                self._total = event.steps
                self._be_at(event.stage, 0, event.steps)
            case Step():
                self._steps += 1
                self._be_at(event.stage, event.index, event.steps)
            case StageDone():
                if event.stage != BASE or self._course.together:
                    share = min(self._steps / max(self._total, 1), 1.0)  # the rest was there already
                    self._keep(event.stage, round(share * self._whole(event.stage)))
            case Notice() | MemoryModeChanged():
                pass
            case _:  # a segment or bridge is done
                self._done = event.number + 1
                self.place = (min(self._done + 1, len(self._ends)), len(self._ends))
                if not self._course.together:  # else the time of one says nothing
                    self._keep(BASE, self._course.parts[event.number] * self._course.window)

    def _be_at(self, stage: str, index: int, steps: int) -> None:
        if stage == BASE:
            count = len(self._ends)
            # Made one by one, a segment may be missing between others; made together, they are done in their order.
            under_way = self._done if self._course.together or not index else bisect_left(self._ends, index)
            self.place = (min(under_way + 1, count), count)
        else:
            count = max(steps // self._a_part(stage), 1)
            self.place = (min(max(index - 1, 0) // self._a_part(stage) + 1, count), count)

    def _a_part(self, stage: str) -> int:
        """Steps of a window."""
        return self._recipe.request.sampling(stage).steps

    def _whole(self, stage: str) -> int:
        """Frames of the base stage that all of a stage has to do with."""
        if stage != BASE:
            return self._course.frames
        return len(self._course.parts) * self._course.window

    def _keep(self, stage: str, frames: int) -> None:
        """Keep the time since the last part was done, if anything was made in it."""
        if self._steps and frames:
            self._timings.add(self._job, self._recipe, stage, time.monotonic() - self._began, frames)
        self._restart()

    def _restart(self) -> None:
        self._steps, self._began = 0, time.monotonic()


_SIGNALS = ("d", "a", "m", "s")
_ROUGH = ("d", "a", "m")  # those whose ratio is 1 where nobody sees a join
_BEFORE = 10  # frames before the join: as many as the meters look at


def judged(
    cascade: Cascade,
    keys: Sequence[str],
    parts: Mapping[str, Part],
    start: Tensor | None,
    seed: int,
    fps: float,
    folder: Path,
) -> dict[str, typing.Any]:
    """What a person chooses by, as JSON values (`LongVideos.candidates`), with `roughness`, less is better.

    keys: of the segments; the last is the candidate. folder: where its picture goes. fps: of the base stage.
    """
    part = parts[keys[-1]]
    before = _before(keys[:-1], parts, start)
    frames = _decoded(cascade, part.latents, before)
    count = 0 if before is None else before.shape[2]
    seam = _seam(frames, count)
    name = f"candidate-{seed}.webp"
    write_animation(folder / name, frames[max(count - 2, 0) :], fps)
    rough = [max(seam[name], 1 / max(seam[name], 1e-6)) for name in _ROUGH if seam[name] is not None]
    motion = part.facts.get("motion")
    return {
        "seed": seed,
        "key": keys[-1],
        "seam": seam,
        "motion": motion,
        "preview": name,
        "roughness": max(rough, default=0.0),
    }


def _before(keys: Sequence[str], parts: Mapping[str, Part], start: Tensor | None) -> Tensor | None:
    """Latents of the frames right before a segment, at most `_BEFORE`; None where there are none."""
    import torch

    found, frames = [], 0
    for key in reversed(keys):
        if frames >= _BEFORE:
            break
        found.insert(0, parts[key].latents)
        frames += found[0].shape[2]
    if frames < _BEFORE and start is not None:
        found.insert(0, start)
    return torch.cat(found, dim=2)[:, :, -_BEFORE:] if found else None


def _decoded(cascade: Cascade, latents: Tensor, before: Tensor | None) -> list[np.ndarray]:
    """The frames uint8 H W 3 of both, in their order."""
    import torch

    from lavie import vae
    from lavie.bundle import VAE
    from lavie.latents import Whole

    both = latents if before is None else torch.cat([before, latents], dim=2)
    with torch.inference_mode():
        return list(vae.pictures(cascade.decode(VAE, Whole(both))))


def _seam(frames: Sequence[np.ndarray], join: int) -> dict[str, float | None]:
    """The ratios of the four signals where the segment begins; None of each where it continues nothing."""
    from extensions.long_video.metrics import join_between

    found = join_between(frames[:join], frames[join:]) if join else None
    return {name: round(getattr(found, name).ratio, 3) if found else None for name in _SIGNALS}


class LongWork:
    """Jobs with a plan of segments or a reel of clips; see `app.worker.worker.Worker`."""

    def __init__(self, config: StudioConfig, database: Database, models: Models, running: Running):
        self._config, self._database, self._models, self._running = config, database, models, running
        self._jobs, self._gallery = JobQueue(database), Gallery(database, config.data)
        self._adapters = Adapters(database, config.data)
        self._results, self._timings = Results(config, database), Timings(database)
        self._starts, self._artefacts = InitialFramesStore(database, config.data), StageLatents(database, config.data)

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
        except StopRequested as stop:
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
        proof = compare_clips(stored.recipe, again, film.frames, stored.path)
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

    def _parts(self, row: JobRow, shared: bool = True) -> SegmentLatents:
        def tell(text: str) -> None:
            self._jobs.notice(row.id, text)

        return SegmentLatents(self._database, self._config.data, row.id, tell=tell, shared=shared)

    def _film(self, model: Model, recipe: Recipe, parts: SegmentLatents) -> LongVideoPipeline:
        from extensions.long_video.pipeline import LongVideoPipeline

        model = model.wearing(recipe.adapters, self._adapters)
        if recipe.reel is not None:
            begun = [partial(self._starts.load, shot) for shot in recipe.shots]
        else:
            begun = self._starts.load(recipe.start)
        long = recipe.job.long
        return LongVideoPipeline(
            model.cascade, recipe.request, long, begun, parts, model.provenance, model.prepare, recipe.memory
        )

    def _made(
        self, row: JobRow, model: Model, recipe: Recipe, parts: SegmentLatents, of: tuple[int, int] | None = None
    ) -> LongVideoPipeline:
        """Make all parts, noting how it goes; at each step a wish to stop is heeded. of: which of the candidates."""
        film = self._film(model, recipe, parts)
        progress = LongProgress(row.id, recipe, self._timings, _whole_from_the_first(film.keys, parts))
        # `closing` ends the film's generator on every way out: nothing runs on behind our back.
        with contextlib.closing(film.make()) as events:
            for event in events:
                progress.note(event)
                if isinstance(event, MemoryModeChanged):
                    self._results.on_rung(row.id, event)
                self._running.note(row.id, event, *(of or progress.place))
                self._running.check_stop(row.id)
        return film

    def _cut_short(self, row: JobRow, model: Model, recipe: Recipe, parts: SegmentLatents) -> Recipe:
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
            self._jobs.stop_handled(row.id)
        return recipe

    def _written(self, row: JobRow, recipe: Recipe, film: LongVideoPipeline, path: Path) -> tuple[Recipe, Report]:
        """Write the file, measuring the frames as they pass; the recipe with their hash, and what the meters say."""
        from extensions.long_video.metrics import Meter

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

    def _heeding(self, row: JobRow, film: LongVideoPipeline) -> Iterator[np.ndarray]:
        """The video's frames. A wish to stop is heeded; all is made, so there is nothing left to cut short."""
        for frame in film.frames():
            try:
                self._running.check_stop(row.id)
            except StopRequested as stop:
                if stop.what != KEEP:
                    raise
                self._jobs.stop_handled(row.id)
            yield frame


def _whole_from_the_first(keys: list[str], parts: SegmentLatents) -> int:
    """How many segments or bridges from the first on are there."""
    return next((number for number, key in enumerate(keys) if key not in parts), len(keys))
