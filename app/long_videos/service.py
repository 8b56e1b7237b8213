"""What the studio does with long videos: takes them as jobs, keeps what they continue, and works on projects.

`Studio.long`. Knows plans, projects and jobs; how a long video is made is `app.worker.long_video`.
"""

from __future__ import annotations

import shutil
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from app.long_videos.initial_frames import InitialFramesLoader
from app.long_videos.join import JoinRequest, job_of, source_of
from app.long_videos.plan_edits import draw_seed, segment_of, set_segment
from app.long_videos.projects import Project, Projects
from app.long_videos.stale import stale_segments
from app.models.card import ModelCard
from app.queue.estimates import LongEstimate, LongLeft
from app.queue.job import CANDIDATES, JobRow
from app.recipes.initial_frames import InitialFrames
from app.recipes.recipe import MAX_RECIPE, Job
from app.recipes.segments import course_of, plan_of
from extensions.long_video.plan import CODENOISE, Segment, SegmentPlan
from extensions.lora.tags import with_tags
from lavie.errors import RequestError
from lavie.request import Request

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.studio import Studio
    from extensions.long_video.metrics import Report
    from extensions.lora.adapter import Adapter


# Bytes of a frame's latents for each pixel of a small frame: 4 channels of float32, an eighth of its sides, or all.
_SMALL, _LARGE = 4 * 4 / 64, 4 * 4
_WINDOWS = 4 / 3  # windows of the later stages are kept whole, and each shows some frames of the one before


def bytes_needed(job: Job, card: ModelCard) -> int:
    """Of the parts of a long video, all of them, none made yet."""
    request = card.resolved(job.request)
    frames = course_of(job).frames
    needed = _SMALL * frames
    if request.interpolation is not None:
        frames = card.outcome(request)["frames"] * frames // request.frames
        needed += _SMALL * frames * _WINDOWS
    if request.super_resolution is not None:
        needed += _LARGE * frames * _WINDOWS
    return round(needed * request.width * request.height)


def check_space(job: Job, card: ModelCard | None, folder: Path) -> None:
    """Raises RequestError where the disk of `folder` has not room for the parts of a long video.

    Does nothing without a card: then nobody knows how large the frames are.
    """
    if card is None or job.long is None:
        return
    needed, free = bytes_needed(job, card), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"this video needs about {needed / 1e9:.1f} GB in {folder} while it is made, and {free / 1e9:.1f} GB are "
            "free: free some, choose fewer segments or clips, or leave super-resolution out"
        )


MAX_CANDIDATES = 8
_ROOM = 1 << 16  # characters of a recipe beside what its job says


class LongVideos:
    """All methods may be called from any thread. Raises RequestError for ids that are not known.

    projects: those being worked on, see `app.long_videos.projects`.
    """

    def __init__(self, studio: Studio):
        self._studio = studio
        self.projects = Projects(studio.database)
        self._starts = InitialFramesLoader(studio)

    def source(self, name: str) -> StoredClip | Path:
        """A clip of this id, else the file of this name. Raises RequestError for what is neither."""
        return source_of(self._studio, name)

    def start_from_clip(self, clip_id: str) -> InitialFrames:
        """Keep the last frames of a clip, to be continued: its latents, or where none are kept, its file's frames.

        Raises MediaError where there is neither.
        """
        return self._starts.from_clip(self._studio.gallery.require(clip_id))

    def start_from_file(
        self, path: Path, fit: str = "crop", request: Request | None = None
    ) -> tuple[InitialFrames, tuple[str, ...]]:
        """Keep the last frames of a video, or a picture, to be continued; and what a person should know of that.

        fit: `crop` or `letterbox`, where its shape is not that of `request` [the model's]. Loads the model's
        autoencoder for it. Raises MediaError for a file that cannot be read.
        """
        return self._starts.from_file(Path(path), fit, request)

    def check_start(self, start: InitialFrames | None) -> None:
        """Raises RequestError where the frames that are to be continued are not kept any more."""
        if start is not None:
            self._starts.check(start)

    def check_frames(self, job: Job) -> None:
        """Raises RequestError where the frames that a job continues or joins are not kept any more."""
        self.check_start(job.start)
        for shot in job.shots:
            self._starts.check(shot)

    def plan(self, prompts: Iterable[str], count: int | None = None, **values: typing.Any) -> SegmentPlan:
        """A plan with these prompts; the last one goes on to the `count`-th segment. values: of `SegmentPlan`."""
        return plan_of(list(prompts), count, **values)

    def submit(
        self,
        request: Request,
        plan: SegmentPlan,
        *,
        start: InitialFrames | None = None,
        output: Path | None = None,
        parent: str | None = None,
        model: str | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> str:
        """Put a long video at the end of the line; its job's id, which will be the clip's.

        request: its prompt becomes that of the first segment, its seed that of the plan where there is one. start: of
        `start_from_clip` or `start_from_file`; the video begins with these frames. model: [the studio's]. adapters:
        beside those that tags in the prompts ask for.
        """
        self.check_start(start)
        job = Job(*_matched(request, model or self._studio.model, plan), start, adapters=tuple(adapters))
        return self._add(job, parent=parent, output=str(output.absolute()) if output else None)

    def extend(
        self,
        clip_id: str,
        segments: Iterable[Segment],
        *,
        change: Callable[[Request], Request] = lambda request: request,
        output: Path | None = None,
        **values: typing.Any,
    ) -> str:
        """Go on behind a clip; the job's id. The new clip begins with the old one.

        Of a long video, the segments are put behind its plan's, and those that are kept are not made again. The clip's
        adapters are worn on. change:
        of the clip's request, as to add stages. values: other fields of the plan (`SegmentPlan`).
        """
        recipe, segments = self._studio.gallery.require(clip_id).recipe, tuple(segments)
        adapters = recipe.adapters
        if recipe.plan is not None:
            plan = replace(recipe.plan, segments=(*recipe.plan.segments, *segments), **values)
            request = change(recipe.request)
            return self.submit(
                request, plan, start=recipe.start, model=recipe.model, output=output, parent=clip_id, adapters=adapters
            )
        request = change(self._asked(clip_id, recipe.request))
        plan = SegmentPlan(segments, **{"seed": recipe.request.seed, **values})
        start = self.start_from_clip(clip_id)
        return self.submit(request, plan, start=start, output=output, parent=clip_id, adapters=adapters)

    def join(
        self,
        sources: Sequence[str | Path],
        prompts: Sequence[str] = (),
        *,
        tell: Callable[[str], None] = lambda text: None,
        output: Path | None = None,
        **values: typing.Any,
    ) -> str:
        """Make one video of clips, videos and pictures, with new frames that lead from each to the next; the job's id.

        They are seen whole, frame for frame as the base stage has them; each transition is made by itself, so that an
        exchanged clip has only the two beside it made anew.

        sources, prompts, and values, which may be `frames`, `request`, `fit` and `strategy`: see `JoinRequest`. tell:
        gets what a person should know of how they were fitted. Loads the model's autoencoder where a file is to be
        encoded. Raises MediaError for a file that cannot be read.
        """
        job, parent = job_of(self._studio, self._starts, JoinRequest(sources, prompts, **values), tell)
        return self._add(job, parent=parent, output=str(output.absolute()) if output else None)

    def render(self, project_id: str) -> str:
        """Put a project's video at the end of the line; the job's id. Only stale segments will be made."""
        with self._studio.database.write():
            project = self.projects.get(project_id)
            self.check_start(project.start)
            job = Job(*_matched(project.request, project.model, project.plan), project.start)
            parent = project.clip or (project.start.name if _is_clip(project.start) else None)
            job_id = self._add(job, parent=parent, project=project)
        self._studio.wake()  # once the row is there for others
        return job_id

    def stale(self, project_id: str) -> set[int]:
        """The segments whose latents are not kept: those that `render` will make. From 0."""
        return stale_segments(self._studio, self.projects.get(project_id))

    def candidates(self, project_id: str, number: int, count: int = 4) -> str:
        """Make a segment of a project `count` times (2 … 8), with seeds of their own; the job's id.

        Its `result`, JSON, is a list of `{"seed", "key", "seam": {"d", "a", "m", "s"}, "motion", "preview"}`, the
        smoothest first: ratios of `meters.Join` (None where nothing is joined), and the name of a moving picture
        (`candidate_picture`). Segments before it that are stale are made too. To take one costs nothing (`choose`).
        """
        project = self.projects.get(project_id)
        plan = project.plan
        segment = segment_of(plan, number)
        if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MAX_CANDIDATES:
            raise RequestError(f"the number of candidates is {count}: give 2 to {MAX_CANDIDATES}")
        if segment.locked:
            raise RequestError(f"segment {number + 1} is locked: unlock it first, to choose among others")
        if plan.strategy == CODENOISE:
            raise RequestError("the strategy 'codenoise' makes all segments together: one cannot be chosen by itself")
        cut = replace(plan, segments=plan.segments[: number + 1])
        request = replace(project.request, interpolation=None, super_resolution=None)
        seeds = tuple(draw_seed() for _ in range(count))
        job = Job(*_matched(request, project.model, cut), project.start, seeds)
        return self._add(job, kind=CANDIDATES, parent=project.clip)

    def candidate_picture(self, job_id: str, name: str) -> Path | None:
        """Where a candidate's moving picture lies; None if there is none."""
        if self._studio.jobs.get(job_id) is None:  # a name that is no job's may lead anywhere
            return None
        path = self._studio.config.data / "work" / job_id / Path(name).name
        return path if path.suffix == ".webp" and path.is_file() else None

    def choose(self, project_id: str, number: int, seed: int) -> Project:
        """Give a segment the seed of a candidate."""
        return self.projects.change(project_id, lambda plan: set_segment(plan, number, seed=seed))

    def project_of(self, clip_id: str) -> str:
        """A new project that is a clip as it was made, to be changed; its id. A short clip is what it continues."""
        stored = self._studio.gallery.require(clip_id)
        recipe = stored.recipe
        if recipe.plan is not None:
            plan = _tagged(recipe.plan, recipe.adapters)
            return self.projects.create(plan, recipe.request, recipe.model, recipe.start, clip=clip_id)
        plan = _tagged(SegmentPlan((Segment(recipe.request.prompt),), seed=recipe.request.seed), recipe.adapters)
        start = self.start_from_clip(clip_id)
        return self.projects.create(plan, self._asked(clip_id, recipe.request), self._studio.model, start)

    def report(self, clip_id: str) -> Report | None:
        """What the meters said of a long video; None for a short clip."""
        return self._studio.gallery.report(clip_id)

    def estimate(
        self,
        request: Request,
        plan: SegmentPlan,
        start: InitialFrames | None = None,
        stale: Iterable[int] | None = None,
    ) -> LongEstimate | None:
        """How long it will take: one segment through the base stage, and the whole; None where that is not known.

        stale: the segments that are to be made [all].
        """
        job = Job(*_matched(request, self._studio.model, plan), start)
        return self._studio.estimates.of_long(job, None if stale is None else set(stale))

    def left(self, row: JobRow, seconds_a_step: float | None = None) -> LongLeft | None:
        """How long a running job's segment and the whole still take. seconds_a_step: as measured [as in past runs]."""
        return self._studio.estimates.left_of_long(row, seconds_a_step)

    def _asked(self, clip_id: str, request: Request) -> Request:
        """A short clip's request, for going on from it: sampling that nobody asked for is left open again, since the
        network that goes on may want another."""
        row = self._studio.jobs.get(clip_id)
        return request if row is None else replace(request, base=row.job.request.base)

    def _add(self, job: Job, *, project: Project | None = None, **values: typing.Any) -> str:
        """Queue a job, and note that it is a project's."""
        job = self._studio.adapters.resolve_tags(job)
        if len(job.to_json()) > MAX_RECIPE - _ROOM:
            raise RequestError(
                f"the video's prompts have together more than the {MAX_RECIPE - _ROOM:,} characters that fit in a "
                "video's file: shorten them"
            )
        check_space(job, self._studio.card, self._studio.config.data)
        with self._studio.database.write():
            job_id = self._studio.jobs.add(job, **values)
            if project is not None:
                self.projects.queued(project.id, job_id)
        self._studio.wake()
        return job_id


def _matched(request: Request, model: str, plan: SegmentPlan) -> tuple[Request, str, SegmentPlan]:
    """What both the request and the plan say is made the same: prompt, negative prompt and seed."""
    seed = request.seed if plan.seed is None else plan.seed
    seed = draw_seed() if seed is None else seed
    request = replace(request, prompt=plan.segments[0].prompt, seed=seed)
    return request, model, replace(plan, seed=seed, negative_prompt=request.negative_prompt)


def _tagged(plan: SegmentPlan, adapters: Sequence[Adapter]) -> SegmentPlan:
    """The plan with what is worn in its prompts, where a person sees and changes it."""
    worn = [adapter for adapter in adapters if adapter.weight]
    segments = [replace(segment, prompt=with_tags(segment.prompt, worn)) for segment in plan.segments]
    return replace(plan, segments=tuple(segments))


def _is_clip(start: InitialFrames | None) -> bool:
    return start is not None and start.kind == "clip"
