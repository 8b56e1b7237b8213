"""Long videos that are being worked on: kept, changed, branched."""

from dataclasses import replace

import pytest

from app.long_videos import plan_edits
from app.long_videos.plan_edits import lock, set_segment
from app.long_videos.projects import Projects
from app.recipes.initial_frames import InitialFrames
from app.storage.database import Database
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, Sampling

PLAN = SegmentPlan((Segment("a red star"), Segment("ein „Herz“ ★", 7, 3)), seed=5, overlap=2)
REQUEST = Request("a red star", seed=5, base=Sampling(steps=3), interpolation=Interpolation())
START = InitialFrames("file", "my film.mp4", "ab" * 32, 16)


@pytest.fixture
def projects(database):
    return Projects(database)


def test_a_project_is_there_as_it_was_put(projects, database, tmp_path):
    project_id = projects.create(PLAN, REQUEST, "nano", START, "  my   film ")
    project = Projects(Database(tmp_path)).get(project_id)
    assert (project.plan, project.request, project.model, project.start) == (PLAN, REQUEST, "nano", START)
    assert (project.title, project.clip, project.job) == ("my film", None, None)


def test_open_seeds_are_drawn_once(projects):
    project = projects.get(projects.create(replace(PLAN, seed=None), replace(REQUEST, seed=None), "nano"))
    assert project.plan.seed is not None and project.request.seed == project.plan.seed
    assert projects.get(projects.create(replace(PLAN, seed=None), REQUEST, "nano")).plan.seed == REQUEST.seed
    for seed in (None, 9):
        assert projects.set_request(project.id, replace(REQUEST, seed=seed)).request.seed == project.plan.seed
    changed = projects.change(project.id, lambda plan: replace(plan, seed=None))
    assert changed.request.seed == changed.plan.seed not in (None, project.plan.seed)


def test_changes_are_kept_and_the_last_one_changed_comes_first(projects):
    first, second = (projects.create(PLAN, REQUEST, "nano") for _ in range(2))
    assert [project.id for project in projects.list()] == [second, first]
    projects.change(first, lambda plan: set_segment(plan, 0, prompt="x"))
    projects.rename(first, "new")
    assert [project.id for project in projects.list()] == [first, second]
    assert [project.id for project in projects.list(1)] == [first]
    project = projects.get(first)
    assert (project.plan.segments[0].prompt, project.title) == ("x", "new")
    assert projects.get(second).plan == PLAN


def test_a_change_that_a_lock_forbids_changes_nothing(projects):
    project_id = projects.create(PLAN, REQUEST, "nano")
    projects.change(project_id, lambda plan: lock(plan, 1))
    with pytest.raises(RequestError, match="segment 2 is locked"):
        projects.change(project_id, lambda plan: replace(plan, segments=plan.segments[:1]))
    with pytest.raises(RequestError, match="at least one"):
        projects.change(project_id, lambda plan: plan_edits.remove(plan_edits.remove(lock(plan, 1, False), 0), 0))
    assert projects.get(project_id).plan == lock(PLAN, 1)


def test_a_branch_goes_its_own_way(projects):
    project_id = projects.create(PLAN, REQUEST, "nano", START, "film", clip="clip")
    projects.note_job(project_id, "job")
    branch = projects.duplicate(project_id)
    projects.change(branch, lambda plan: set_segment(plan, 1, seed=1))
    assert projects.get(project_id).plan == PLAN
    there = projects.get(branch)
    assert (there.title, there.start, there.clip, there.job) == ("film", START, "clip", None)


def test_the_clip_of_a_job_is_the_projects(projects):
    one, other = (projects.create(PLAN, REQUEST, "nano") for _ in range(2))
    projects.note_job(one, "job 1")
    projects.note_job(other, "job 2")
    projects.note_clip("job 1")
    projects.note_clip("a job of no project")
    assert (projects.get(one).clip, projects.get(other).clip) == ("job 1", None)


def test_a_deleted_one_is_gone(projects):
    project_id = projects.create(PLAN, REQUEST, "nano")
    projects.delete(project_id)
    for act in (projects.get, projects.delete, projects.duplicate):
        with pytest.raises(RequestError, match="no long video has the id"):
            act(project_id)
    assert projects.list() == []


def test_one_of_a_newer_version_does_not_hide_the_others(projects, database):
    kept, newer = (projects.create(PLAN, REQUEST, "nano") for _ in range(2))
    with database.write() as connection:
        connection.execute("UPDATE projects SET plan = json_set(plan, '$.schema', 99) WHERE id = ?", [newer])
    assert [project.id for project in projects.list()] == [kept]
    with pytest.raises(RequestError, match="schema 99"):
        projects.get(newer)


def test_a_title_has_an_end(projects):
    with pytest.raises(RequestError, match="title has 201 characters"):
        projects.create(PLAN, REQUEST, "nano", title="x" * 201)
