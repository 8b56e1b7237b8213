"""A long video that is worked on: rendered, changed, and only what is stale made again."""

import json

import pytest
from PIL import Image

from app.gallery.lineage import find_parents
from app.long_videos import plan_edits
from extensions.long_video.plan import Segment
from lavie.errors import RequestError
from tests.app.long_videos.test_making import whole
from tests.app.long_videos.videos import made, plan, request, segments_made
from tests.app.studios import until


@pytest.fixture
def project(studio):
    return studio.long_videos.projects.create(plan(count=4), request(), studio.model)


def render(studio, project_id):
    return made(studio, studio.long_videos.render(project_id)).clip


def test_only_what_is_stale_is_made(studio, project, tiny_cascade):
    long, change = studio.long_videos, studio.long_videos.projects.change
    assert long.outdated(project) == {0, 1, 2, 3}
    first = render(studio, project)
    assert long.outdated(project) == set() and long.projects.get(project).clip == first.id
    change(project, lambda plan: plan_edits.set_segment(plan, 2, prompt="a blue heart"))
    assert long.outdated(project) == {2, 3}
    second = render(studio, project)
    assert segments_made(studio, second.id) == 2 and studio.gallery.get(second.id).parent == first.id
    assert second.frame_hash == whole(tiny_cascade, request(), long.projects.get(project).plan)
    change(project, lambda plan: plan_edits.set_segment(plan, 2, prompt="a red star"))
    assert long.outdated(project) == set()  # as it was before: all of it is kept
    third = render(studio, project)
    assert third.frame_hash == first.frame_hash and segments_made(studio, third.id) == 0
    assert [one.id for one in find_parents(studio.gallery, third.id)] == [second.id, first.id]


def test_what_is_stale_is_known_before_the_model_is_loaded(studio, project, make_long):
    render(studio, project)
    studio.close()
    cold = make_long(serve=False)
    assert cold.models.loaded is None and cold.long_videos.outdated(project) == set()
    cold.long_videos.projects.change(project, lambda plan: plan_edits.append(plan_edits.reroll(plan, 3), Segment("x")))
    assert cold.long_videos.outdated(project) == {3, 4}
    cold.long_videos.projects.set_request(project, request(width=64))
    assert cold.long_videos.outdated(project) == {0, 1, 2, 3, 4}


def test_a_branch_shares_what_is_alike(studio, project):
    render(studio, project)
    branch = studio.long_videos.projects.duplicate(project)
    assert studio.long_videos.outdated(branch) == set()
    studio.long_videos.projects.change(branch, lambda plan: plan_edits.reroll(plan, 3))
    assert studio.long_videos.outdated(branch) == {3} and studio.long_videos.outdated(project) == set()
    assert segments_made(studio, render(studio, branch).id) == 1


def test_a_plan_edited_while_it_renders_is_the_next_ones(studio, project, after, tiny_cascade):
    was = studio.long_videos.projects.get(project).plan

    def edit(plan):
        return plan_edits.set_segment(plan, 1, prompt="a blue heart")

    after("SegmentDone", 2, lambda: studio.long_videos.projects.change(project, edit))
    clip = render(studio, project)
    assert clip.frame_hash == whole(tiny_cascade, request(), was)
    assert studio.long_videos.projects.get(project).clip == clip.id
    assert studio.long_videos.outdated(project) == {1, 2, 3}


def test_the_best_of_several_is_chosen_and_costs_nothing_more(studio, project, tiny_cascade):
    render(studio, project)
    job = made(studio, studio.long_videos.candidates(project, 2, 3))
    found = json.loads(job.row.result)
    assert len({one["seed"] for one in found}) == len({one["key"] for one in found}) == 3
    for one in found:
        assert set(one) == {"seed", "key", "seam", "motion", "preview"} and set(one["seam"]) == set("dams")
        assert one["motion"] > 0
        with Image.open(studio.long_videos.candidate_picture(job.row.id, one["preview"])) as picture:
            assert picture.n_frames == 4 and picture.size == (32, 16)  # two before the join, two new
    assert segments_made(studio, job.row.id) == 3 and job.clip is None and job.comparison is None
    studio.long_videos.choose(project, 2, found[1]["seed"])
    assert studio.long_videos.outdated(project) == {3}
    clip = render(studio, project)
    assert segments_made(studio, clip.id) == 1
    assert clip.frame_hash == whole(tiny_cascade, request(), studio.long_videos.projects.get(project).plan)


def test_candidates_of_the_first_segment_join_nothing(studio, project):
    job = made(studio, studio.long_videos.candidates(project, 0, 2))
    (one, _) = json.loads(job.row.result)
    assert one["seam"] == dict.fromkeys("dams")


def test_a_job_of_candidates_goes_on_after_a_pause(studio, project, after):
    after("SegmentDone", 4, lambda: studio.queue.pause(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.candidates(project, 2, 2)
    studio.queue.resume_queue()
    until(lambda: studio.job(job_id).state == "paused")
    studio.queue.resume(job_id)
    made(studio, job_id)
    assert segments_made(studio, job_id) == 4  # two before, two candidates


def test_what_cannot_be_tried_is_told(studio, project):
    long = studio.long_videos
    with pytest.raises(RequestError, match="no segment 5"):
        long.candidates(project, 4, 2)
    for count in (1, 9, True, 2.0):
        with pytest.raises(RequestError, match="give 2 to 8"):
            long.candidates(project, 1, count)
    long.projects.change(project, lambda plan: plan_edits.lock(plan, 1))
    with pytest.raises(RequestError, match="segment 2 is locked"):
        long.candidates(project, 1, 2)
    with pytest.raises(RequestError, match="segment 2 is locked"):
        long.choose(project, 1, 5)
    together = long.projects.create(plan(strategy="codenoise"), request(), studio.model)
    with pytest.raises(RequestError, match="all segments together"):
        long.candidates(together, 1, 2)
    assert long.candidate_picture("../..", "studio.webp") is None
    assert long.candidate_picture("nothing", "x.webp") is None


def test_a_clip_becomes_a_project_of_its_own(studio, clip):
    project = studio.long_videos.project_of(clip.id)
    assert studio.long_videos.outdated(project) == set()
    assert len(studio.long_videos.projects.get(project).plan.segments) == 3
    short = made(studio, studio.submit(request())).clip
    begun = studio.long_videos.projects.get(studio.long_videos.project_of(short.id))
    assert begun.start.name == short.id and len(begun.plan.segments) == 1
    assert studio.gallery.get(render(studio, begun.id).id).parent == short.id


def test_how_long_it_will_take_is_known_once_something_was_made(studio, clip, after):
    wanted = plan(count=6)
    whole_of = studio.long_videos.estimate(request(), wanted)
    assert 0 < whole_of.segment < whole_of.whole
    some = studio.long_videos.estimate(request(), wanted, outdated={4, 5})
    assert some.whole == pytest.approx(2 * some.segment) and some.whole < whole_of.whole / 2
    assert studio.long_videos.estimate(request(), wanted, outdated=set()).whole == 0
    assert studio.long_videos.estimate(request(interpolate=True), wanted) is None
    left = []

    def look():
        row = studio.queue.line()[0]
        left.append((studio.estimates.left_of_long(row, 10.0), studio.estimates.left_of_long(row)))

    after("SegmentDone", 2, look)
    made(studio, studio.long_videos.submit(request(seed=8), plan(count=5)))
    measured, guessed = left[0]
    assert (measured.segment, measured.whole) == (10, 30)  # two of five steps are done, and as many segments
    assert 0 < guessed.segment < guessed.whole
