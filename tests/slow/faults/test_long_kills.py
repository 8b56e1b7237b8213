"""Long videos in a process that is really killed: they go on from the last segment that is whole, to the same bits.

python -m pytest tests/slow/faults [--kills 50]
"""

import itertools

import pytest

from app.config import StudioConfig
from app.media import is_partial, read_recipe
from app.recipes.job_row import DONE, INTERRUPTED
from app.recipes.recipe import Recipe
from app.studio import Studio
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import Segment, SegmentPlan
from extensions.long_video.resolve import resolve_plan
from lavie.request import Interpolation, Request
from tests.app.long_videos.videos import frame_hash
from tests.slow.faults.test_kills import PATIENCE, config, start, work_to_the_end
from tests.slow.faults.victim import POINTS, WRITE

__all__ = ["config"]  # a fixture

LONG = [
    (
        Request("a red star", seed=1, interpolation=Interpolation()),
        SegmentPlan((Segment("a red star"), Segment("a blue heart")) * 3, ramp=2),
    ),
    (Request("a red star", seed=2), SegmentPlan((Segment("a red star"),) * 4, strategy="codenoise")),
]
# Where it dies, and at which passing from the start of the process on: each in the middle of a long job's work.
DEATHS = [(WRITE, 2), ("after rename", 3), ("after commit", 30), *zip(POINTS, (4, 1, 20, 45), strict=True), (WRITE, 3)]


@pytest.fixture(scope="module")
def expected(tiny_cascade):
    """The frame hashes of undisturbed runs."""
    return [undisturbed(tiny_cascade, *asked) for asked in LONG]


def undisturbed(cascade, request: Request, plan: SegmentPlan) -> str:
    request = cascade.resolve(request)
    return frame_hash(LongVideoPipeline(cascade, request, resolve_plan(cascade, request, plan), None, {}))


def segments_kept(studio: Studio) -> int:
    """How many segments are stored whole; what a kill leaves of others has no row."""
    rows = studio.database.query("SELECT path FROM parts WHERE stage = 'base'")
    assert all((studio.config.data / row["path"]).is_file() for row in rows)
    return len(rows)


def go_on(config: StudioConfig) -> int:
    """As a person would behind a kill; the segments that are kept."""
    studio = Studio(config)
    for row in studio.queue.line():
        if row.state == INTERRUPTED:
            studio.queue.retry(row.id)
    kept = segments_kept(studio)
    studio.close()
    return kept


def test_a_long_video_that_is_killed_again_and_again_is_the_same(config, expected, pytestconfig):
    studio = Studio(config)
    jobs = [studio.long_videos.submit(*asked) for asked in LONG]
    studio.close()
    died, kept = 0, 0
    for point, number in itertools.islice(itertools.cycle(DEATHS), pytestconfig.getoption("--kills")):
        died += start(config, "--die", point, str(number)).wait(PATIENCE) == -9
        now = go_on(config)
        assert now >= kept  # nothing that was stored is lost
        kept = now
    assert died
    work_to_the_end(config)
    check(config, jobs, expected)


def check(config: StudioConfig, jobs: list[str], expected: list[str]) -> None:
    """Everything is there once, whole, and as an undisturbed run would have made it."""
    studio = Studio(config)
    try:
        for job_id, frame_hash, (_, plan) in zip(jobs, expected, LONG, strict=True):
            snapshot = studio.job(job_id)
            assert snapshot.state == DONE, snapshot.row.error
            assert snapshot.clip.frame_hash == frame_hash
            recipe = Recipe.from_json(read_recipe(snapshot.clip.path))
            assert (recipe.frame_hash, recipe.plan.segments) == (frame_hash, plan.segments)
            assert studio.gallery.report(job_id).frames == snapshot.clip.frames
        assert segments_kept(studio) == sum(len(plan.segments) for _, plan in LONG)
        assert sorted(path.stem for path in config.clips.glob("*.mp4")) == sorted(jobs)
        assert not [path for path in config.data.rglob("*") if is_partial(path.name) or path.suffix == ".partial"]
    finally:
        studio.close()
