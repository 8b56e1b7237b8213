"""Long videos at toy size, and how to wait for them."""

from app.studio import Studio
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from lavie.video import FrameHash
from tests.app.studios import ended

ONE = Sampling(steps=1)


def request(interpolate=False, upscale=False, **values) -> Request:
    """A red star with seed 7; one step a stage."""
    asked = {"prompt": "a red star", "seed": 7, "base": ONE}
    asked["interpolation"] = Interpolation(ONE) if interpolate else None
    asked["super_resolution"] = SuperResolution(ONE) if upscale else None
    return Request(**{**asked, **values})


def plan(prompts="a red star", count=3, **values) -> SegmentPlan:
    """The prompts in turn."""
    written = prompts.split(", ")
    return SegmentPlan(tuple(Segment(written[place % len(written)]) for place in range(count)), **values)


def made(studio: Studio, job_id: str):
    """Its snapshot, done."""
    job = ended(studio, job_id)
    assert job.state == "done", job.row.error
    return job


def segments_made(studio: Studio, job_id: str) -> list[int]:
    """Numbers of the segments that a job has made itself, by the times it took for them: how many."""
    rows = studio.database.query("SELECT stage FROM timings WHERE job = ? AND stage = 'base'", [job_id])
    return len(rows)


def frame_hash(film: LongVideoPipeline) -> str:
    """Of the frames as the extension makes them, without a studio."""
    for _ in film.make():
        pass
    digest = FrameHash(film.shape)
    for frame in film.frames():
        digest.add(frame)
    return digest.hexdigest()
