"""Makes long videos. Each part is on disk before its event is reported, and a part that any job has made is used again.

The finished frames go into the file one by one. Belongs to the worker's thread; torch is imported by the first job.
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

from app.gallery.rebuild import check_file
from app.media import write_animation, write_mp4
from app.models.loaded import Model, Models
from app.queue.estimates import Timings
from app.recipes.comparison import compare_clips
from app.recipes.job_row import KEEP
from app.recipes.recipe import Recipe
from app.recipes.segments import course_of, cut_short
from app.storage.latents import InitialFramesStore, SegmentLatents
from app.worker.job_run import JobRun, StopRequested
from app.workspace import Workspace
from lavie.events import (
    BASE,
    INTERPOLATION,
    SUPER_RESOLUTION,
    MemoryModeChanged,
    Notice,
    StageDone,
    StageStarted,
    Step,
)
from lavie.values import require
from lavie.video import FrameHash

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from extensions.long_video.metrics import Report
    from extensions.long_video.pipeline import LongVideoPipeline, Part
    from lavie.cascade import Cascade


class LongProgress:
    """Follows the events of a pipeline: its current part, and the time of each part.

    place: part and parts, see `JobRow`.
    """

    def __init__(self, job_id: str, recipe: Recipe, timings: Timings, done: int):
        """done: segments or transitions that are stored already, from the first on."""
        self._job, self._recipe, self._timings, self._done = job_id, recipe, timings, done
        self._course = course_of(recipe.job)
        self._ends = list(accumulate(count * self._part_steps(BASE) for count in self._course.parts))  # last steps
        self._total, self._steps = 0, 0  # of the stage, and since `_began`
        self._began = time.monotonic()
        self.place = (0, 0)

    def follow(self, event: Any) -> None:
        """Follow an event; store the time of the part that it ends."""
        match event:
            case StageStarted():
                self._restart()
                self._total = event.steps
                self._move_to(event.stage, 0, event.steps)
            case Step():
                self._steps += 1
                self._move_to(event.stage, event.index, event.steps)
            case StageDone():
                if event.stage != BASE or self._course.together:
                    share = min(self._steps / max(self._total, 1), 1.0)  # the rest was stored already
                    base = len(self._course.parts) * self._course.window
                    self._store(event.stage, round(share * (base if event.stage == BASE else self._course.frames)))
            case Notice() | MemoryModeChanged():
                pass
            case _:  # a segment or transition is done
                self._done = event.number + 1
                self.place = (min(self._done + 1, len(self._ends)), len(self._ends))
                if not self._course.together:  # else the time of one means nothing
                    self._store(BASE, self._course.parts[event.number] * self._course.window)

    def _move_to(self, stage: str, index: int, steps: int) -> None:
        if stage == BASE:
            count = len(self._ends)
            # Made one by one, a segment may be missing between others; made together, they finish in order.
            under_way = self._done if self._course.together or not index else bisect_left(self._ends, index)
            self.place = (min(under_way + 1, count), count)
        else:
            count = max(steps // self._part_steps(stage), 1)
            self.place = (min(max(index - 1, 0) // self._part_steps(stage) + 1, count), count)

    def _part_steps(self, stage: str) -> int:
        """The steps of a window."""
        return require(self._recipe.request.sampling(stage).steps)

    def _store(self, stage: str, frames: int) -> None:
        """Store the time since the last part ended, if anything was made in it."""
        if self._steps and frames:
            self._timings.add(self._job, self._recipe, stage, time.monotonic() - self._began, frames)
        self._restart()

    def _restart(self) -> None:
        self._steps, self._began = 0, time.monotonic()


_SIGNALS = ("d", "a", "m", "s")
_ROUGH = ("d", "a", "m")  # those whose ratio is 1 at an invisible join
_BEFORE = 10  # frames before the join that the meters use


def judge(
    cascade: Cascade,
    keys: Sequence[str],
    parts: Mapping[str, Part],
    start: Tensor | None,
    seed: int,
    fps: float,
    folder: Path,
) -> dict[str, typing.Any]:
    """The measures of a candidate, as JSON values (`LongVideos.candidates`), with its `roughness`; less is better.

    Args:
        keys: of the segments; the last is the candidate.
        start: latents 1 C F h w that the video continues.
        fps: of the base stage.
        folder: for its moving picture.
    """
    part = parts[keys[-1]]
    before = _load_before(keys[:-1], parts, start)
    frames = _decode(cascade, part.latents, before)
    count = 0 if before is None else before.shape[2]
    seam = _measure_seam(frames, count)
    name = f"candidate-{seed}.webp"
    write_animation(folder / name, frames[max(count - 2, 0) :], fps)
    rough = [max(ratio, 1 / max(ratio, 1e-6)) for name in _ROUGH if (ratio := seam[name]) is not None]
    motion = part.facts.get("motion")
    return {
        "seed": seed,
        "key": keys[-1],
        "seam": seam,
        "motion": motion,
        "preview": name,
        "roughness": max(rough, default=0.0),
    }


def _load_before(keys: Sequence[str], parts: Mapping[str, Part], start: Tensor | None) -> Tensor | None:
    """Latents of the last frames before a segment, at most `_BEFORE`; None if there are none."""
    import torch

    found: list[Tensor] = []
    frames = 0
    for key in reversed(keys):
        if frames >= _BEFORE:
            break
        found.insert(0, parts[key].latents)
        frames += found[0].shape[2]
    if frames < _BEFORE and start is not None:
        found.insert(0, start)
    return torch.cat(found, dim=2)[:, :, -_BEFORE:] if found else None


def _decode(cascade: Cascade, latents: Tensor, before: Tensor | None) -> list[np.ndarray]:
    """The frames uint8 H W 3 of both, in order."""
    import torch

    from lavie import vae
    from lavie.latents import Whole
    from lavie.manifest import VAE

    both = latents if before is None else torch.cat([before, latents], dim=2)
    with torch.inference_mode():
        return list(vae.pictures(cascade.decode(VAE, Whole(both))))


def _measure_seam(frames: Sequence[np.ndarray], join: int) -> dict[str, float | None]:
    """The ratios of the four signals at the beginning of the segment; None if it continues nothing."""
    from extensions.long_video.metrics import join_between

    found = join_between(frames[:join], frames[join:]) if join else None
    return {name: round(getattr(found, name).ratio, 3) if found else None for name in _SIGNALS}


class LongWork:
    """Runs jobs with a plan of segments or of joined clips; see `app.worker.worker.Worker`."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace, self._models = workspace, models
        self._timings = Timings(workspace.database)
        self._initial_frames = InitialFramesStore(workspace.database, workspace.config.data)

    def render(self, run: JobRun) -> None:
        """Make the video, its file and its clip."""
        path = run.output()
        model = self._models.get(run.row.job.model)
        earlier = sum(seconds for _, seconds in self._timings.of_job(run.row.id))  # attempts before this one
        began = time.monotonic()
        parts = self._parts(run)
        recipe = run.start(model, parts.drop)
        try:
            pipeline = self._generate(run, model, recipe, parts)
        except StopRequested as stop:
            if stop.what != KEEP:
                raise
            recipe = run.recipe
            if run.stage == BASE:
                recipe = cut_short(recipe, _count_finished(self._pipeline(model, recipe, parts).keys, parts))
            run.cut_short(recipe)
            pipeline = self._generate(run, model, run.recipe, parts)
        recipe, report = self._write(run, pipeline, path)
        run.finish(path, recipe, pipeline.shape, pipeline.fps, earlier + time.monotonic() - began, report)
        parts.drop(INTERPOLATION, SUPER_RESOLUTION)  # large, and of no use once the frames are in a file

    def regenerate(self, run: JobRun) -> None:
        """Make the parent clip again, every part, and compare. A missing file is restored if the frames are equal."""
        stored = run.parent()
        model, parts = self._models.get(run.row.job.model), self._parts(run, shared=False)
        pipeline = self._generate(run, model, run.start(model, parts.drop), parts)
        digest = FrameHash(pipeline.shape)
        for frame in _frames(run, pipeline):
            digest.add(frame)
        recipe = replace(run.recipe, frame_hash=digest.hexdigest())
        comparison = compare_clips(stored.recipe, recipe, pipeline.frames, stored.path)
        if comparison.identical and not stored.path.exists():
            write_mp4(stored.path, pipeline.frames(), pipeline.fps, stored.recipe.to_json())
            check_file(self._workspace.gallery, stored.id)
        run.queue.finish(run.row.id, comparison.to_json())
        parts.drop()

    def candidates(self, run: JobRun) -> None:
        """Make the last segment of the plan with each of the job's seeds, and measure each."""
        row = run.row
        model, parts = self._models.get(row.job.model), self._parts(run)
        recipe = run.start(model, parts.drop)
        folder, found = self._workspace.config.data / "work" / row.id, []
        start = self._initial_frames.load(recipe.start) if recipe.start else None
        assert recipe.plan is not None  # a job with candidates has one
        for number, seed in enumerate(row.job.candidates, 1):
            *before, last = recipe.plan.segments
            plan = replace(recipe.plan, segments=(*before, replace(last, seed=seed)))
            which = (number, len(row.job.candidates))
            pipeline = self._generate(run, model, replace(recipe, long=plan), parts, which)
            fps = require(recipe.request.fps)
            found.append(judge(model.cascade, pipeline.keys, parts, start, seed, fps, folder))
        found.sort(key=lambda one: one.pop("roughness"))
        run.queue.finish(row.id, json.dumps(found))

    def _parts(self, run: JobRun, shared: bool = True) -> SegmentLatents:
        data, job_id = self._workspace.config.data, run.row.id
        warn = partial(run.queue.add_notice, job_id)
        return SegmentLatents(self._workspace.database, data, job_id, warn=warn, shared=shared)

    def _pipeline(self, model: Model, recipe: Recipe, parts: SegmentLatents) -> LongVideoPipeline:
        from extensions.long_video.pipeline import LongVideoPipeline

        model, load = self._workspace.adapters.attach(model, recipe.adapters), self._initial_frames.load
        assert recipe.long is not None  # a single clip is made by `ClipWork`
        return LongVideoPipeline(
            model.cascade,
            recipe.request,
            recipe.long,
            load(recipe.start) if recipe.start else None,
            parts,
            model.provenance,
            model.prepare,
            recipe.memory,
            clips=[partial(load, shot) for shot in recipe.shots],
        )

    def _generate(
        self, run: JobRun, model: Model, recipe: Recipe, parts: SegmentLatents, which: tuple[int, int] | None = None
    ) -> LongVideoPipeline:
        """Make all parts, reporting each event; a wish to stop takes effect after the step.

        which: the number of the candidate that is made, and how many there are.
        """
        pipeline = self._pipeline(model, recipe, parts)
        progress = LongProgress(run.row.id, recipe, self._timings, _count_finished(pipeline.keys, parts))
        # Close the generator on every exit path so that no work continues.
        with contextlib.closing(pipeline.make()) as events:
            for event in events:
                progress.follow(event)
                run.report(event, *(which or progress.place))
                run.check_stop()
        return pipeline

    def _write(self, run: JobRun, pipeline: LongVideoPipeline, path: Path) -> tuple[Recipe, Report]:
        """Write the file, measuring the frames as they pass; the recipe with their hash, and what the meters say."""
        from extensions.long_video.metrics import Meter

        meter, digest = Meter(pipeline.joins), FrameHash(pipeline.shape)

        def frames() -> Iterator[np.ndarray]:
            for frame in _frames(run, pipeline):
                meter.add(frame)
                digest.add(frame)
                yield frame

        def with_hash() -> Recipe:
            return replace(run.recipe, frame_hash=digest.hexdigest())

        write_mp4(path, frames(), pipeline.fps, lambda: with_hash().to_json())
        return with_hash(), meter.report()


def _frames(run: JobRun, pipeline: LongVideoPipeline) -> Iterator[np.ndarray]:
    """The video's frames, until the job is to stop. All parts are made: a wish to keep them changes nothing."""
    for frame in pipeline.frames():
        try:
            run.check_stop()
        except StopRequested as stop:
            if stop.what != KEEP:
                raise
            run.queue.clear_stop(run.row.id)
        yield frame


def _count_finished(keys: list[str], parts: SegmentLatents) -> int:
    """How many segments or transitions from the first on are stored."""
    return next((number for number, key in enumerate(keys) if key not in parts), len(keys))
