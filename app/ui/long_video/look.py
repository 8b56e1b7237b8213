"""From the studio to what the tab shows: which long video is meant, how it stands, what was tried."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from dataclasses import replace

from app.queue.job import CANDIDATES, DONE, JobRow
from app.studio import Studio
from app.ui.gallery.facts import moment
from app.ui.i18n import Words
from app.ui.long_video.view_model import ROWS, Candidate, Seconds, View, ViewModel
from extensions.long_video.plan import Layout, SegmentPlan
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.long_videos.projects import Project
    from app.queue.status import JobStatus

MOST = 100  # long videos in the chooser
_LOOKED_AT = 30  # jobs in which candidates are looked for
_TITLE = 60  # characters of a prompt that stands for a title


def known(studio: Studio, say: Words) -> list[tuple[str, str]]:
    """Id and name of the long videos, those changed last first."""
    return [(project.id, title(project, say)) for project in studio.long.projects.list(MOST)]


def title(project: Project, say: Words) -> str:
    """What a person calls it, else how it begins."""
    prompt = project.plan.segments[0].prompt
    name = project.title or (prompt if len(prompt) <= _TITLE else f"{prompt[:_TITLE]}…")
    return say("long_named", name=name, count=len(project.plan.segments), created=moment(project.created))


def look(studio: Studio, view: View, say: Words) -> ViewModel | None:
    """The long video of a view as it stands; None where there is none, any more or yet."""
    project = _project(studio, view.project)
    if project is None:
        return None
    clip = studio.gallery.get(project.clip) if project.clip else None
    stale = frozenset(studio.long.stale(project.id))
    fps = project.request.fps or (studio.card.fps if studio.card else 8.0)
    page = min(max(view.page, 0), (len(project.plan.segments) - 1) // ROWS)
    running, tried = _tried(studio, project, view)
    return ViewModel(
        project,
        replace(view, project=project.id, page=page),
        fps,
        stale,
        clip=clip,
        report=studio.long.report(clip.id) if clip else None,
        made=_made(clip) if clip else None,
        job=studio.job(project.job),
        trying=running,
        tried=tried,
        seconds=_seconds(studio, project, stale),
    )


def candidate_address(job_id: str, name: str) -> str:
    """Of a candidate's moving picture. See `app.ui.server`."""
    return f"studio/candidate/{job_id}/{name}"


def _project(studio: Studio, project_id: str) -> Project | None:
    """The one of this id, else the one changed last."""
    projects = studio.long.projects
    if project_id:
        try:
            return projects.get(project_id)
        except LavieError:  # deleted since, or of a newer version
            pass
    try:
        return next(iter(projects.list(1)), None)
    except LavieError:
        return None


def _made(clip: StoredClip) -> Layout | None:
    """Where the segments of a clip lie."""
    try:
        recipe = clip.recipe
    except LavieError:
        return None
    return Layout(recipe.plan, recipe.start.frames if recipe.start else 0) if recipe.plan else None


def _seconds(studio: Studio, project: Project, stale: frozenset[int]) -> Seconds:
    try:
        found = studio.long.estimate(project.request, project.plan, project.start, stale)
    except LavieError:
        return Seconds()
    return Seconds(found.segment, found.whole) if found else Seconds()


def _tried(studio: Studio, project: Project, view: View) -> tuple[JobStatus | None, dict[int, list[Candidate]]]:
    """The job that makes candidates now, or failed last, and those that there are of segments that are still so."""
    running, tried = None, {}
    for row in _candidate_jobs(studio, project):
        number = len(row.job.plan.segments) - 1
        if row.id in view.hidden or number in tried:
            continue
        if row.state == DONE:
            tried[number] = _candidates(row)
        elif running is None and (row.open or row.error):
            running = studio.job(row.id)
            tried.setdefault(number, [])
    return running, tried


def _candidate_jobs(studio: Studio, project: Project) -> Iterator[JobRow]:
    """Those that fit what the project is now, the latest first."""
    rows = [*reversed(studio.jobs.line(_LOOKED_AT)), *studio.jobs.recent(_LOOKED_AT)]
    for row in rows:
        if row.kind != CANDIDATES:
            continue
        try:
            job = row.job
        except LavieError:
            continue
        same = (job.request.base, job.request.width, job.request.height) == (
            project.request.base,
            project.request.width,
            project.request.height,
        )
        if same and job.start == project.start and job.plan and _fits(job.plan, project.plan):
            yield row


def _fits(cut: SegmentPlan, plan: SegmentPlan) -> bool:
    """Whether a plan is the beginning of another, but for the seed of its last segment."""
    last = len(cut.segments) - 1
    if last >= len(plan.segments):
        return False
    as_whole = replace(cut, segments=plan.segments[:1], negative_prompt=plan.negative_prompt, seed=plan.seed)
    if as_whole != replace(plan, segments=plan.segments[:1]):
        return False
    pairs = zip(cut.segments, plan.segments, strict=False)
    alike = all((ours.prompt, ours.frames) == (theirs.prompt, theirs.frames) for ours, theirs in pairs)
    return alike and all(cut.seed_of(number) == plan.seed_of(number) for number in range(last))


def _candidates(row: JobRow) -> list[Candidate]:
    """What a job of candidates has told."""
    return [
        Candidate(
            row.id,
            one["seed"],
            {name: ratio for name, ratio in (one["seam"] or {}).items() if ratio is not None},
            one["motion"],
            candidate_address(row.id, one["preview"]),
        )
        for one in json.loads(row.result or "[]")
    ]
