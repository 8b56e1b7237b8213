"""The life of a long video's job: what it stores, where it goes on, and what becomes of a wish to stop."""

import json
from dataclasses import replace

import pytest

from app.media import probe, read_recipe
from app.recipes.job_row import CANCELLED, DONE, PAUSED, QUEUED
from app.recipes.recipe import Recipe
from extensions.long_video.pipeline import LongVideoPipeline
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from tests.app.long_videos.videos import frame_hash, made, plan, request, segments_made
from tests.app.studios import ended, until


def whole(cascade, asked, wanted, start=None):
    """The hash of the frames as the extension makes them, without a studio."""
    from extensions.long_video.resolve import resolve_plan

    resolved = cascade.resolve(asked)
    return frame_hash(LongVideoPipeline(cascade, resolved, resolve_plan(cascade, resolved, wanted), start, {}))


def work(studio, job_id):
    return sorted(path.name.rpartition("-")[0] for path in (studio.config.data / "work" / job_id).glob("*"))


def test_a_long_video_is_what_the_extension_makes(studio, tiny_cascade):
    asked, wanted = request(interpolate=True, upscale=True), plan("a red star, a blue heart", ramp=2)
    job = made(studio, studio.long_videos.submit(asked, wanted))
    clip = job.clip
    assert clip.frame_hash == whole(tiny_cascade, asked, wanted)
    info = probe(clip.path)
    assert (info.frames, info.width, info.height, info.fps) == (clip.frames, 128, 64, 32.0) == (29, 128, 64, 32.0)
    assert set(job.stage_seconds) == {BASE, INTERPOLATION, SUPER_RESOLUTION}
    recipe = Recipe.from_json(read_recipe(clip.path))
    assert recipe == studio.gallery.get(clip.id).recipe
    assert recipe.frame_hash == clip.frame_hash and recipe.plan.seed == recipe.request.seed == clip.seed == 7
    assert [segment.prompt for segment in recipe.plan.segments] == ["a red star", "a blue heart", "a red star"]
    assert recipe.plan.strategy == "corrected" and recipe.plan.window == 4
    until(lambda: work(studio, clip.id) == ["base-00000", "base-00001", "base-00002"])


def test_what_the_meters_say_is_stored_with_it(studio):
    clip = made(studio, studio.long_videos.submit(request(interpolate=True), plan())).clip
    report = studio.gallery.report(clip.id)
    assert report.frames == clip.frames == 29 and [join.segment for join in report.joins] == [1, 2]
    sidecar = json.loads((studio.config.clips / f"{clip.id}.json").read_text())
    assert sidecar["report"] == json.loads(report.to_json())
    short = made(studio, studio.submit(request())).clip
    assert studio.gallery.report(short.id) is None and studio.gallery.report("nothing") is None


def test_where_it_stands_is_told_by_segment_and_window(studio, after):
    seen = []
    for count in range(1, 30):
        after("Step", count, lambda: seen.append(studio.queue.line()[0]))
    made(studio, studio.long_videos.submit(request(interpolate=True, base=request().base), plan(count=4)))
    places = dict.fromkeys((row.stage, row.part, row.parts) for row in seen)
    assert [place for place in places if place[0] == BASE] == [(BASE, number, 4) for number in (1, 2, 3, 4)]
    assert [place for place in places if place[0] == INTERPOLATION] == [(INTERPOLATION, n, 3) for n in (1, 2, 3)]
    assert all(row.recipe for row in seen)


def test_the_recipe_is_stored_before_the_first_step(studio, after):
    seen = []
    after("StageStarted", 1, lambda: seen.append(studio.queue.line()[0]))
    made(studio, studio.long_videos.submit(request(seed=None), plan()))
    recipe = Recipe.from_json(seen[0].recipe)
    assert recipe.plan.seed == recipe.request.seed is not None and recipe.frame_hash is None


@pytest.mark.parametrize("strategy", ["corrected", "codenoise"])
@pytest.mark.parametrize(("kind", "count"), [("SegmentDone", 1), ("SegmentDone", 3), ("StageDone", 2), ("Step", 3)])
def test_a_paused_job_goes_on_to_the_same_bits(studio, after, tiny_cascade, strategy, kind, count):
    asked, wanted = request(interpolate=True), plan("a red star, a blue heart", strategy=strategy)
    after(kind, count, lambda: studio.queue.pause(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(asked, wanted)
    studio.queue.resume_queue()
    until(lambda: studio.job(job_id).state == PAUSED)
    assert not (studio.config.clips / f"{job_id}.mp4").exists()
    studio.queue.resume(job_id)
    job = made(studio, job_id)
    assert job.clip.frame_hash == whole(tiny_cascade, asked, wanted)
    if strategy == "corrected":
        assert segments_made(studio, job_id) == 3  # none twice
    assert job.row.notices == ()


def test_a_cancelled_job_is_tried_again_from_its_last_segment(studio, after, tiny_cascade):
    after("SegmentDone", 2, lambda: studio.cancel(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(), plan())
    studio.queue.resume_queue()
    assert ended(studio, job_id).state == CANCELLED
    studio.queue.retry(job_id)
    assert made(studio, job_id).clip.frame_hash == whole(tiny_cascade, request(), plan())
    assert segments_made(studio, job_id) == 3


def test_closing_puts_it_first_and_the_next_studio_goes_on(make_long, after, tiny_cascade):
    studio = make_long(serve=False)
    job_id = studio.long_videos.submit(request(), plan())
    after("SegmentDone", 2, lambda: studio._workers._stopping.set())
    studio.serve()
    until(lambda: (row := studio.queue.get(job_id)).state == QUEUED and row.attempts == 1)
    studio.close()
    again = make_long()
    assert made(again, job_id).clip.frame_hash == whole(tiny_cascade, request(), plan())
    assert segments_made(again, job_id) == 3


@pytest.mark.parametrize("damage", ["gone", "bit"])
def test_a_damaged_segment_is_made_again_and_that_is_told(studio, after, tiny_cascade, damage):
    after("SegmentDone", 2, lambda: studio.queue.pause(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(), plan())
    studio.queue.resume_queue()
    until(lambda: studio.job(job_id).state == PAUSED)
    (path,) = (studio.config.data / "work" / job_id).glob("base-00000-*")
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    studio.queue.resume(job_id)
    job = made(studio, job_id)
    assert job.clip.frame_hash == whole(tiny_cascade, request(), plan())
    (told,) = job.row.notices
    assert "segment 1" in told and "that part is made again" in told


def test_keeping_makes_a_clip_of_the_segments_that_are_done(studio, after, tiny_cascade):
    after("SegmentDone", 2, lambda: studio.queue.keep(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(interpolate=True), plan(count=4))
    studio.queue.resume_queue()
    clip = made(studio, job_id).clip
    assert clip.frame_hash == whole(tiny_cascade, request(), plan(count=2))
    recipe = studio.gallery.get(clip.id).recipe
    assert len(recipe.plan.segments) == 2 and recipe.request.interpolation is None


def test_keeping_in_a_later_stage_keeps_the_stages_before_it(studio, after, tiny_cascade):
    after("StageStarted", 3, lambda: studio.queue.keep(job_id))
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(interpolate=True, upscale=True), plan())
    studio.queue.resume_queue()
    assert made(studio, job_id).clip.frame_hash == whole(tiny_cascade, request(interpolate=True), plan())


@pytest.mark.parametrize(
    ("strategy", "kind", "count", "words"),
    [("corrected", "Step", 1, "has finished no segment yet"), ("codenoise", "SegmentDone", 1, "all together")],
)
def test_what_cannot_be_kept_is_told_and_the_job_goes_on(studio, after, strategy, kind, count, words):
    said = []

    def keep():
        with pytest.raises(RequestError, match=words) as refused:
            studio.queue.keep(job_id)
        said.append(refused)

    after(kind, count, keep)
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(), plan(strategy=strategy))
    studio.queue.resume_queue()
    assert made(studio, job_id).clip and said


def test_a_full_disk_fails_the_job_in_words_and_a_retry_goes_on(studio, monkeypatch, tiny_cascade):
    import os

    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if "base-00001" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    job_id = studio.long_videos.submit(request(), plan())
    job = ended(studio, job_id)
    assert job.state == "failed" and "segment 2 cannot be kept" in job.row.error and "No space left" in job.row.error
    monkeypatch.setattr(os, "fsync", fsync)
    studio.queue.retry(job_id)
    assert made(studio, job_id).clip.frame_hash == whole(tiny_cascade, request(), plan())
    assert segments_made(studio, job_id) == 3


def test_a_job_of_a_plan_cannot_be_edited_and_what_is_too_long_is_refused(studio):
    studio.queue.pause_queue()
    job_id = studio.long_videos.submit(request(), plan())
    with pytest.raises(RequestError, match="makes a long video as it was planned and cannot be edited"):
        studio.edit(job_id, request(prompt="x"))
    wide = replace(plan().segments[0], prompt="x" * 4000)
    with pytest.raises(RequestError, match="prompts have together more than"):
        studio.long_videos.submit(request(), replace(plan(), segments=(wide,) * 200))


def test_a_copy_of_a_job_makes_nothing_twice(studio, clip):
    again = made(studio, studio.queue.duplicate(clip.id)).clip
    assert again.frame_hash == clip.frame_hash and segments_made(studio, again.id) == 0
    assert studio.job(again.id).state == DONE
