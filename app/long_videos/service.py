"""Long videos for the studio: queues them as jobs, stores the frames that they continue, and edits projects."""

from __future__ import annotations

import shutil
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from app.long_videos.initial_frames import InitialFramesLoader
from app.long_videos.join import JoinRequest, plan_join
from app.long_videos.plan_edits import draw_seed, segment_of, set_segment
from app.long_videos.projects import Project, Projects
from app.models.card import ModelCard
from app.models.loaded import Model
from app.queue.estimates import LongEstimate
from app.recipes.initial_frames import CLIP, InitialFrames
from app.recipes.job_row import CANDIDATES
from app.recipes.options import base_only
from app.recipes.recipe import MAX_RECIPE, Job, Recipe
from app.recipes.segments import course_of
from app.storage.latents import InitialFramesStore, find_stored
from app.workspace import Workspace
from extensions.long_video.plan import CODENOISE, Segment, SegmentPlan, outdated_segments
from extensions.lora.tags import with_tags
from lavie.errors import LavieError, RequestError
from lavie.events import BASE
from lavie.request import Request
from lavie.values import require

if typing.TYPE_CHECKING:
    from extensions.lora.adapter import Adapter

MAX_CANDIDATES = 8
_ROOM = 1 << 16  # characters of a recipe besides those of its job
# Bytes of a frame's latents for each pixel of a small frame: 4 channels of float32, an eighth of its sides, or all.
_SMALL, _LARGE = 4 * 4 / 64, 4 * 4
_WINDOWS = 4 / 3  # windows of the later stages are stored whole, and each repeats some frames of the one before


class LongVideos:
    """Queues long videos and edits their projects. All methods may be called from any thread.

    Raises RequestError for ids that are not known.
    """

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self.projects = Projects(workspace.database)
        self._loader = InitialFramesLoader(workspace)

    def start_from_clip(self, clip_id: str) -> InitialFrames:
        """Store the last frames of a clip, to be continued: its latents if they are stored, else its file's frames.

        Raises MediaError if there is neither.
        """
        return self._loader.load_clip(self._workspace.gallery.require(clip_id))

    def start_from_file(
        self, path: Path, fit: str = "crop", request: Request | None = None
    ) -> tuple[InitialFrames, tuple[str, ...]]:
        """Store the last frames of a video, or a picture, to be continued; with notices for the person.

        Loads the model's autoencoder. Raises MediaError for a file that cannot be read.

        Args:
            fit: `crop` or `letterbox`, if the shape differs from that of the request.
            request: gives size and rate [the model's].
        """
        return self._loader.load_file(Path(path), fit, request)

    def check_start(self, start: InitialFrames | None) -> None:
        """Raises RequestError if the frames to be continued are not stored any more."""
        if start is not None:
            self._loader.check(start)

    def check_frames(self, job: Job) -> None:
        """Raises RequestError if the frames that a job continues or joins are not stored any more."""
        self.check_start(job.start)
        for shot in job.shots:
            self._loader.check(shot)

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
        """Queue a long video; the id of its job, and of the clip to be.

        Args:
            request: gets the prompt of the first segment, and the plan's seed if that has one.
            start: from `start_from_clip` or `start_from_file`; the video begins with these frames.
            model: [the one for new jobs].
            adapters: besides those that tags in the prompts ask for.
        """
        self.check_start(start)
        job = Job(*_match(request, model or self._workspace.model, plan), start, adapters=tuple(adapters))
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
        """Continue a clip, with its adapters; the job's id. The new clip begins with the old one.

        The segments of a long video are followed by the new ones, and stored ones are not made again.

        Args:
            change: changes the clip's request, for example to add stages.
            values: other fields of the plan (`SegmentPlan`).
        """
        recipe, segments = self._workspace.gallery.require(clip_id).recipe, tuple(segments)
        adapters = recipe.adapters
        if recipe.plan is not None:
            plan = replace(recipe.plan, segments=(*recipe.plan.segments, *segments), **values)
            request = change(recipe.request)
            return self.submit(
                request, plan, start=recipe.start, model=recipe.model, output=output, parent=clip_id, adapters=adapters
            )
        request = change(self._request_of(clip_id, recipe.request))
        plan = SegmentPlan(segments, **{"seed": recipe.request.seed, **values})
        start = self.start_from_clip(clip_id)
        return self.submit(request, plan, start=start, output=output, parent=clip_id, adapters=adapters)

    def join(
        self,
        sources: Sequence[str | Path],
        prompts: Sequence[str] = (),
        *,
        report: Callable[[str], None] = lambda text: None,
        output: Path | None = None,
        **values: typing.Any,
    ) -> str:
        """Make one video of clips, videos and pictures, with new frames that lead from each to the next; the job's id.

        The sources are shown whole, frame for frame as the base stage has them. Each transition is made by itself, so
        that an exchanged clip changes only the two beside it. Loads the model's autoencoder to encode files. Raises
        MediaError for a file that cannot be read.

        Args:
            sources, prompts, values: see `JoinRequest`.
            report: gets notices for the person on how the sources were fitted.
        """
        job, parent = plan_join(self._workspace, self._loader, JoinRequest(sources, prompts, **values), report)
        return self._add(job, parent=parent, output=str(output.absolute()) if output else None)

    def render(self, project_id: str) -> str:
        """Queue a project's video; the job's id. Only outdated segments will be made."""
        with self._workspace.database.write():
            project = self.projects.get(project_id)
            self.check_start(project.start)
            job = Job(*_match(project.request, project.model, project.plan), project.start)
            continued = project.start.name if project.start and project.start.kind == CLIP else None
            return self._add(job, parent=project.clip or continued, project=project)

    def outdated(self, project_id: str) -> set[int]:
        """The numbers, from 0, of the segments that `render` will make: their latents are not stored."""
        return find_outdated(self._workspace, self.projects.get(project_id))

    def candidates(self, project_id: str, number: int, count: int = 4) -> str:
        """Make a segment of a project `count` times (2 … 8), each with its own seed; the job's id.

        The job's `result`, JSON, is a list of `{"seed", "key", "seam": {"d", "a", "m", "s"}, "motion", "preview"}`, the
        smoothest first: ratios of `metrics.Join` (None if nothing is joined), and the name of a moving picture
        (`candidate_picture`). Outdated segments before it are made too. `choose` takes one without making it again.
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
        request = base_only(project.request)
        seeds = tuple(draw_seed() for _ in range(count))
        job = Job(*_match(request, project.model, cut), project.start, seeds)
        return self._add(job, kind=CANDIDATES, parent=project.clip)

    def candidate_picture(self, job_id: str, name: str) -> Path | None:
        """The file of a candidate's moving picture; None if there is none."""
        if self._workspace.queue.get(job_id) is None:  # another name could be a path to anywhere
            return None
        path = self._workspace.config.data / "work" / job_id / Path(name).name
        return path if path.suffix == ".webp" and path.is_file() else None

    def choose(self, project_id: str, number: int, seed: int) -> Project:
        return self.projects.change(project_id, lambda plan: set_segment(plan, number, seed=seed))

    def project_of(self, clip_id: str) -> str:
        """Create a project from a clip; its id. A long video is edited as it was made, a short clip is continued."""
        stored = self._workspace.gallery.require(clip_id)
        recipe = stored.recipe
        if recipe.plan is not None:
            plan = _with_tags(recipe.plan, recipe.adapters)
            return self.projects.create(plan, recipe.request, recipe.model, recipe.start, clip=clip_id)
        plan = _with_tags(SegmentPlan((Segment(recipe.request.prompt),), seed=recipe.request.seed), recipe.adapters)
        start = self.start_from_clip(clip_id)
        return self.projects.create(plan, self._request_of(clip_id, recipe.request), self._workspace.model, start)

    def estimate(
        self,
        request: Request,
        plan: SegmentPlan,
        start: InitialFrames | None = None,
        outdated: Iterable[int] | None = None,
    ) -> LongEstimate | None:
        """How long it will take: one segment through the base stage, and the whole; None if that is not known.

        outdated: the segments that are to be made [all].
        """
        job = Job(*_match(request, self._workspace.model, plan), start)
        return self._workspace.estimates.of_long(job, None if outdated is None else set(outdated))

    def _request_of(self, clip_id: str, request: Request) -> Request:
        """A short clip's request for continuing it: sampling that was left open is open again, since the network that
        continues may need another."""
        row = self._workspace.queue.get(clip_id)
        return request if row is None else replace(request, base=row.job.request.base)

    def _add(self, job: Job, *, project: Project | None = None, **values: typing.Any) -> str:
        job = self._workspace.adapters.resolve_tags(job)
        if len(job.to_json()) > MAX_RECIPE - _ROOM:
            raise RequestError(
                f"the video's prompts have together more than the {MAX_RECIPE - _ROOM:,} characters that fit in a "
                "video's file: shorten them"
            )
        check_space(job, self._workspace.card, self._workspace.config.data)
        with self._workspace.database.write():
            job_id = self._workspace.queue.add(job, **values)
            if project is not None:
                self.projects.note_job(project.id, job_id)
        return job_id


def _match(request: Request, model: str, plan: SegmentPlan) -> tuple[Request, str, SegmentPlan]:
    """Give the request and the plan the same prompt, negative prompt and seed."""
    seed = request.seed if plan.seed is None else plan.seed
    seed = draw_seed() if seed is None else seed
    request = replace(request, prompt=plan.segments[0].prompt, seed=seed)
    return request, model, replace(plan, seed=seed, negative_prompt=request.negative_prompt)


def _with_tags(plan: SegmentPlan, adapters: Sequence[Adapter]) -> SegmentPlan:
    """The plan with the active adapters as tags in its prompts, where a person sees and changes them."""
    active = [adapter for adapter in adapters if adapter.weight]
    segments = [replace(segment, prompt=with_tags(segment.prompt, active)) for segment in plan.segments]
    return replace(plan, segments=tuple(segments))


def find_outdated(workspace: Workspace, project: Project) -> set[int]:
    """The numbers, from 0, of the segments whose latents are not stored.

    Compares keys if the project's model is loaded, else the plan with that of the project's last job.
    """
    count = len(project.plan.segments)
    model = workspace.models.loaded
    try:
        if model is not None and model.name == project.model:
            return _find_missing(workspace, model, project)
        return set(_find_changed(workspace, project))
    except LavieError:
        return set(range(count))  # it cannot be rendered as it is; rendering it reports why


def _find_missing(workspace: Workspace, model: Model, project: Project) -> set[int]:
    from extensions.long_video.pipeline import LongVideoPipeline
    from extensions.long_video.resolve import resolve

    request = base_only(project.request)
    job = workspace.adapters.resolve_tags(Job(request, model.name, project.plan))
    request, plan = resolve(model.cascade, request, project.plan)
    model = workspace.adapters.attach(model, job.adapters)
    store = InitialFramesStore(workspace.database, workspace.config.data)
    start = store.load(project.start) if project.start else None
    keys = LongVideoPipeline(model.cascade, request, plan, start, {}, model.provenance).keys
    kept = find_stored(workspace.database, workspace.config.data, keys)
    return {number for number, key in enumerate(keys) if key not in kept}


def _find_changed(workspace: Workspace, project: Project) -> range:
    """The segments that differ from the project's last job, or whose files are gone."""
    count = len(project.plan.segments)
    row = workspace.queue.get(project.job) if project.job else None
    if row is None or row.recipe is None:
        return range(count)
    made, asked = Recipe.from_json(row.recipe).plan, row.job.plan
    before, now = (replace(base_only(one), prompt="any", seed=None) for one in (row.job.request, project.request))
    if made is None or asked is None or before != now or row.job.start != project.start:
        return range(count)
    # Only the recipe has what the model decided: compare the plans as they were asked for.
    free = replace(project.plan, segments=tuple(replace(one, locked=False) for one in project.plan.segments))
    anew = outdated_segments(replace(asked, negative_prompt=free.negative_prompt), free)
    rows = workspace.database.query("SELECT number, path FROM parts WHERE job = ? AND stage = ?", [row.id, BASE])
    there = {row["number"] for row in rows if (workspace.config.data / row["path"]).is_file()}
    first = next((number for number in range(count) if number in anew or number not in there), count)
    return range(min(first, len(made.segments)), count)


def count_bytes(job: Job, card: ModelCard) -> int:
    """The disk space for all parts of a long video."""
    request = card.fill_size(job.request)
    frames = course_of(job).frames
    needed = _SMALL * frames
    if request.interpolation is not None:
        frames = card.outcome(request)["frames"] * frames // require(request.frames)
        needed += _SMALL * frames * _WINDOWS
    if request.super_resolution is not None:
        needed += _LARGE * frames * _WINDOWS
    return round(needed * require(request.width) * require(request.height))


def check_space(job: Job, card: ModelCard | None, folder: Path) -> None:
    """Raises RequestError if the disk of `folder` has no room for the parts of a long video.

    Without a card the size of the frames is not known, and nothing is checked.
    """
    if card is None or job.long is None:
        return
    needed, free = count_bytes(job, card), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"this video needs about {needed / 1e9:.1f} GB in {folder} while it is made, and {free / 1e9:.1f} GB are "
            "free: free some, choose fewer segments or clips, or leave super-resolution out"
        )
