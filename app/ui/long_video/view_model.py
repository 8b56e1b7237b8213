"""Values of the long-video tab: what an open page looks at, and one long video as it stands, read from the studio."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.gallery import Clip
from app.long_videos.projects import Project
from app.queue.estimates import LongEstimate
from app.queue.status import JobStatus
from app.recipes.job_row import CANDIDATES, DONE, RUNNING, WAITING, JobRow
from app.studio import Studio
from app.ui.html import format_minute
from app.ui.i18n import Words
from extensions.long_video.metrics import Report
from extensions.long_video.plan import Layout, SegmentPlan
from lavie.errors import LavieError

ROWS = 40  # segments on a page of the table
HUES = 8  # colours of prompts (`lv-hue-0` … in the style sheet)
_MAX_PROJECTS = 100  # in the chooser
_MAX_JOBS = 30  # jobs in which candidates are looked for
_MAX_TITLE = 60  # characters of a prompt in place of a title


@dataclass(frozen=True)
class View:
    """What one open page looks at; it is not stored.

    project: id of the long video, empty for none. chosen: the marked segment, from 0. page: of the table. message: HTML
    of the last message. focus: where typing goes on, `row …` or `type …` with a new suffix each time. undo: the plan
    before the last removal. refused: changes with each refused change, so that fields show the stored values again.
    hidden: jobs whose candidates are not shown any more.
    """

    project: str = ""
    chosen: int | None = None
    page: int = 0
    message: str = ""
    focus: str = ""
    undo: SegmentPlan | None = None
    refused: str = ""
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A segment made with another seed. seam: signal → its ratio at the join before the segment, empty for the first.
    preview: address of its moving picture."""

    job: str
    seed: int
    seam: Mapping[str, float]
    motion: float | None
    preview: str


@dataclass(frozen=True)
class ViewModel:
    """A long video as it stands.

    outdated: segments, from 0, that the next render makes. clip, report, clip_layout: the last rendered clip, its
    measurements and where its segments lie. job: the last render. candidate_job: the job that makes candidates, or
    failed to. candidates: those that exist, by segment.
    """

    project: Project
    view: View
    fps: float
    outdated: frozenset[int] = frozenset()
    clip: Clip | None = None
    report: Report | None = None
    clip_layout: Layout | None = None
    job: JobStatus | None = None
    candidate_job: JobStatus | None = None
    candidates: Mapping[int, Sequence[Candidate]] = field(default_factory=dict)
    estimate: LongEstimate | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.project.plan, self.project.start.frames if self.project.start else 0)

    @property
    def rendering(self) -> bool:
        return self.job is not None and self.job.state == RUNNING

    @property
    def waiting(self) -> bool:
        return self.job is not None and self.job.state in WAITING

    @property
    def current_segment(self) -> int | None:
        """The segment that is being made, from 0."""
        row = self.job.row if self.job is not None and self.rendering else None
        return row.part - 1 if row is not None and row.stage == "base" and row.part and row.kind != CANDIDATES else None

    def state_of(self, number: int) -> str:
        """State of a segment: `now` being made, `wait` in the queue, `new` to be made at the next render, `done`."""
        if number == self.current_segment:
            return "now"
        if number not in self.outdated:
            return "done"
        return "wait" if self.rendering or self.waiting else "new"


def assign_hues(prompts: Sequence[str]) -> list[int]:
    """A colour for each prompt in order of appearance; equal prompts share one."""
    hues: dict[str, int] = {}
    return [hues.setdefault(prompt, len(hues)) % HUES for prompt in prompts]


def list_projects(studio: Studio, say: Words) -> list[tuple[str, str]]:
    return [(project.id, _name(project, say)) for project in studio.long_videos.projects.list(_MAX_PROJECTS)]


def _name(project: Project, say: Words) -> str:
    """The title, or else the first prompt, with the number of segments and the time of creation."""
    prompt = project.plan.segments[0].prompt
    name = project.title or (prompt if len(prompt) <= _MAX_TITLE else f"{prompt[:_MAX_TITLE]}…")
    return say("long_named", name=name, count=len(project.plan.segments), created=format_minute(project.created))


def build_view_model(studio: Studio, view: View) -> ViewModel | None:
    """Read the long video of a view from the studio; None if there is none."""
    project = _find_project(studio, view.project)
    if project is None:
        return None
    clip = studio.gallery.get(project.clip) if project.clip else None
    outdated = frozenset(studio.long_videos.outdated(project.id))
    page = min(max(view.page, 0), (len(project.plan.segments) - 1) // ROWS)
    candidate_job, candidates = _find_candidates(studio, project, view)
    return ViewModel(
        project,
        replace(view, project=project.id, page=page),
        fps=project.request.fps or (studio.card.fps if studio.card else 8.0),
        outdated=outdated,
        clip=clip,
        report=studio.gallery.report(clip.id) if clip else None,
        clip_layout=_read_layout(clip) if clip else None,
        job=studio.job(project.job),
        candidate_job=candidate_job,
        candidates=candidates,
        estimate=_estimate(studio, project, outdated),
    )


def _find_project(studio: Studio, project_id: str) -> Project | None:
    projects = studio.long_videos.projects
    if project_id:
        try:
            return projects.get(project_id)
        except LavieError:  # deleted since, or of a newer version
            pass
    try:
        return next(iter(projects.list(1)), None)
    except LavieError:
        return None


def _read_layout(clip: Clip) -> Layout | None:
    try:
        recipe = clip.recipe
    except LavieError:
        return None
    return Layout(recipe.plan, recipe.start.frames if recipe.start else 0) if recipe.plan else None


def _estimate(studio: Studio, project: Project, outdated: frozenset[int]) -> LongEstimate | None:
    try:
        return studio.long_videos.estimate(project.request, project.plan, project.start, outdated)
    except LavieError:
        return None


def _find_candidates(
    studio: Studio, project: Project, view: View
) -> tuple[JobStatus | None, dict[int, list[Candidate]]]:
    """The last job of candidates that is open or failed, and the candidates of segments that have not changed since."""
    open_job: JobStatus | None = None
    candidates: dict[int, list[Candidate]] = {}
    for row, plan in _candidate_rows(studio, project):
        number = len(plan.segments) - 1
        if row.id in view.hidden or number in candidates:
            continue
        if row.state == DONE:
            candidates[number] = _read_candidates(row)
        elif open_job is None and (row.open or row.error):
            open_job = studio.job(row.id)
            candidates.setdefault(number, [])
    return open_job, candidates


def _candidate_rows(studio: Studio, project: Project) -> Iterator[tuple[JobRow, SegmentPlan]]:
    """Jobs of candidates that fit the project as it is, with their plans, the latest first."""
    request = project.request
    for row in [*reversed(studio.queue.line(_MAX_JOBS)), *studio.queue.recent(_MAX_JOBS)]:
        if row.kind != CANDIDATES:
            continue
        try:
            job = row.job
        except LavieError:
            continue
        size = (job.request.base, job.request.width, job.request.height)
        same = size == (request.base, request.width, request.height) and job.start == project.start
        if same and job.plan and _is_beginning(job.plan, project.plan):
            yield row, job.plan


def _is_beginning(cut: SegmentPlan, plan: SegmentPlan) -> bool:
    """Whether `cut` is the beginning of `plan`, apart from the seed of the last segment of `cut`."""
    last = len(cut.segments) - 1
    if last >= len(plan.segments):
        return False
    whole = replace(cut, segments=plan.segments[:1], negative_prompt=plan.negative_prompt, seed=plan.seed)
    if whole != replace(plan, segments=plan.segments[:1]):
        return False
    pairs = zip(cut.segments, plan.segments, strict=False)
    alike = all((ours.prompt, ours.frames) == (theirs.prompt, theirs.frames) for ours, theirs in pairs)
    return alike and all(cut.seed_of(number) == plan.seed_of(number) for number in range(last))


def _read_candidates(row: JobRow) -> list[Candidate]:
    return [
        Candidate(
            row.id,
            one["seed"],
            {name: ratio for name, ratio in (one["seam"] or {}).items() if ratio is not None},
            one["motion"],
            f"studio/candidate/{row.id}/{one['preview']}",  # see `app.ui.server`
        )
        for one in json.loads(row.result or "[]")
    ]
