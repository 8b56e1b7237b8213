"""Projects: long videos that a person works on, each a plan of segments with its settings, in the database.

A project may be edited while one of its jobs runs; the job makes the plan that was queued.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.long_videos.plan_edits import check_locks, draw_seed
from app.recipes.initial_frames import InitialFrames
from app.sharing import note_owner, visitor
from app.storage.database import Database, new_id, now, storable
from extensions.long_video.plan import SegmentPlan
from lavie.errors import RequestError, short
from lavie.request import Request

MAX_TITLE = 200  # characters


@dataclass(frozen=True)
class Project:
    """A long video that a person works on.

    Attributes:
        plan, request, model, start: for its next job.
        clip: id of the last clip made of it.
        job: id of the last job queued for it.
        created, updated: UTC, ISO 8601.
    """

    id: str
    title: str
    plan: SegmentPlan
    request: Request
    model: str
    start: InitialFrames | None
    clip: str | None
    job: str | None
    created: str
    updated: str


class Projects:
    """All methods may be called from any thread and any process. Raises RequestError for an id that is not known."""

    def __init__(self, database: Database):
        self._database = database

    def create(
        self,
        plan: SegmentPlan,
        request: Request,
        model: str,
        start: InitialFrames | None = None,
        title: str = "",
        *,
        clip: str | None = None,
    ) -> str:
        """Store a new project; its id. An open seed is drawn now, so that the segments stay the same.

        clip: one that was made of it already.
        """
        drawn = draw_seed() if request.seed is None else request.seed
        plan = replace(plan, seed=drawn) if plan.seed is None else plan
        request = replace(request, seed=plan.seed)
        project = Project(new_id(), _title(title), plan, request, model, start, clip, None, now(), now())
        self._insert(project)
        return project.id

    def get(self, project_id: str) -> Project:
        rows = self._database.query(f"SELECT * FROM projects WHERE id = ? AND {visitor().own}", [storable(project_id)])
        if not rows:
            raise RequestError(f"no long video has the id {short(project_id)}: it was deleted, or never there")
        return _project(rows[0])

    def list(self, limit: int = 100) -> list[Project]:
        """All projects, the last changed first. Rows that this version cannot read are skipped."""
        found = []
        sql = f"SELECT * FROM projects WHERE {visitor().own} ORDER BY updated DESC, id DESC LIMIT ?"
        for row in self._database.query(sql, [limit]):
            with contextlib.suppress(RequestError):
                found.append(_project(row))
        return found

    def change(self, project_id: str, edit: Callable[[SegmentPlan], SegmentPlan]) -> Project:
        """Change its plan by an edit of `app.long_videos.plan_edits`, in one transaction.

        Raises RequestError, with nothing changed, if `edit` does or a locked segment would change.
        """
        with self._database.write():
            project = self.get(project_id)
            plan = check_locks(project.plan, edit(project.plan))
            plan = replace(plan, seed=draw_seed()) if plan.seed is None else plan
            return self._set(project, plan=plan, request=replace(project.request, seed=plan.seed))

    def set_request(self, project_id: str, request: Request) -> Project:
        """Change its settings, but for the seed. Another size or sampling changes all segments, locked ones too."""
        with self._database.write():
            project = self.get(project_id)
            return self._set(project, request=replace(request, seed=project.plan.seed))

    def rename(self, project_id: str, title: str) -> Project:
        with self._database.write():
            return self._set(self.get(project_id), title=_title(title))

    def delete(self, project_id: str) -> None:
        """Remove it. Its clips and jobs stay."""
        self.get(project_id)
        with self._database.write() as connection:
            connection.execute("DELETE FROM projects WHERE id = ?", [project_id])

    def duplicate(self, project_id: str) -> str:
        """Create a copy, a branch; its id. Segments that both have are made once."""
        project = replace(self.get(project_id), id=new_id(), job=None, created=now(), updated=now())
        self._insert(project)
        return project.id

    def note_job(self, project_id: str, job_id: str) -> None:
        """Note the job that was queued for it last."""
        with self._database.write():
            self._set(self.get(project_id), job=job_id)

    def note_clip(self, job_id: str) -> None:
        """Note that a job has made a clip, of the same id."""
        with self._database.write() as connection:
            connection.execute("UPDATE projects SET clip = job WHERE job = ?", [job_id])

    def _set(self, project: Project, **values: Any) -> Project:
        project = replace(project, **values, updated=now())
        with self._database.write() as connection:
            row = _row(project)
            changes = ", ".join(f"{name} = :{name}" for name in row)
            connection.execute(f"UPDATE projects SET {changes} WHERE id = :id", row)
        return project

    def _insert(self, project: Project) -> None:
        with self._database.write() as connection:
            connection.table("projects").insert(_row(project))
            note_owner(connection, project.id)


def _row(project: Project) -> dict[str, Any]:
    start = None if project.start is None else json.dumps(project.start.to_dict(), ensure_ascii=False)
    return {**vars(project), "plan": project.plan.to_json(), "request": project.request.to_json(), "start": start}


def _project(row: dict[str, Any]) -> Project:
    """Raises RequestError for a row that this version cannot read."""
    start = None if row["start"] is None else InitialFrames.from_dict(json.loads(row["start"]))
    plan, request = SegmentPlan.from_json(row["plan"]), Request.from_json(row["request"])
    return Project(**{**row, "plan": plan, "request": request, "start": start})


def _title(text: str) -> str:
    title = " ".join(storable(text or "").split())
    if len(title) > MAX_TITLE:
        raise RequestError(f"the title has {len(title)} characters: shorten it to {MAX_TITLE}")
    return title
