"""Clips, videos and pictures joined by new frames: the job, what is kept of it, and what comes of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from app.gallery import Query
from app.gallery.search import find_clips
from app.media import read_recipe, write_mp4
from app.recipes.job_row import CANCELLED, PAUSED, QUEUED
from app.recipes.recipe import Recipe
from app.storage.latents import StageLatents
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import Segment
from extensions.long_video.resolve import resolve_plan
from lavie.errors import RequestError
from lavie.events import BASE
from tests.app.long_videos.videos import frame_hash, made, request, segments_made
from tests.app.studios import ended, until

RED = "a red star becomes a blue one"


def picture(folder, name, size=(32, 16), seed=0):
    path = folder / name
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def film_file(folder, name, frames, fps=8.0, size=(32, 16)):
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    write_mp4(folder / name, pixels, fps, "")
    return folder / name


@pytest.fixture
def pictures(tmp_path):
    return [picture(tmp_path, "a.png"), picture(tmp_path, "b.png", seed=1)]


def join(studio, sources, *prompts, frames=None, **values):
    return studio.long_videos.join(sources, prompts, frames=frames, request=request(**values))


def clips_of(studio, recipe):
    """Latents of what was joined, as they are kept."""
    return [studio.long_videos._loader._store.load(shot) for shot in recipe.shots]


def whole(studio, cascade, recipe):
    """The hash of the frames as the extension makes them, without what is kept."""
    resolved = cascade.resolve(recipe.request)
    clips = clips_of(studio, recipe)
    reel = resolve_plan(cascade, resolved, recipe.reel)
    return frame_hash(
        LongVideoPipeline(cascade, resolved, reel, None, {}, clips=[lambda one=one: one for one in clips])
    )


def recipe_of(studio, clip):
    return studio.gallery.get(clip.id).recipe


def test_two_pictures_become_a_video(studio, tiny_cascade, pictures):
    told = []
    job_id = studio.long_videos.join(pictures, [RED], request=request(interpolate=True), report=told.append)
    clip = made(studio, job_id).clip
    recipe = Recipe.from_json(read_recipe(clip.path))
    assert recipe == recipe_of(studio, clip)
    assert recipe.request.prompt == RED and recipe.plan is None and recipe.reel.seed == recipe.request.seed == 7
    shots = [(shot.kind, shot.name, shot.frames) for shot in recipe.shots]
    assert shots == [("file", "a.png", 1), ("file", "b.png", 1)]
    assert (recipe.reel.window, recipe.reel.strategy, recipe.reel.frames) == (4, "corrected", 4)
    assert (clip.frames, clip.fps) == (13, 32.0) and clip.frame_hash == whole(studio, tiny_cascade, recipe)
    assert studio.gallery.get(clip.id).parent is None
    assert told == ["a.png: The picture was taken as one frame.", "b.png: The picture was taken as one frame."]
    assert [join.frame for join in studio.gallery.report(clip.id).joins] == [3, 11]
    assert [one.id for one in find_clips(studio.gallery, Query(text="becomes")).clips] == [clip.id]


def test_it_is_regenerated_bit_identical_and_remixed_to_another(studio, pictures):
    clip = made(studio, join(studio, pictures, RED)).clip
    job = made(studio, studio.regenerate(clip.id))
    assert job.comparison.identical and segments_made(studio, job.row.id) == 1
    path = studio.gallery.get(clip.id).path
    path.unlink()
    assert made(studio, studio.regenerate(clip.id)).comparison.identical and path.is_file()
    other = made(studio, studio.remix(clip.id)).clip
    assert other.frame_hash != clip.frame_hash and recipe_of(studio, other).reel.seed not in (None, 7)
    smooth = made(studio, studio.finish(clip.id, interpolate=True)).clip
    assert smooth.frames == 13 and segments_made(studio, smooth.id) == 0


def test_a_clip_is_seen_as_it_was_made_and_its_prompt_leads_to_it(studio, pictures):
    short = made(studio, studio.submit(request())).clip
    clip = made(studio, join(studio, [pictures[0], short.id])).clip
    recipe = recipe_of(studio, clip)
    assert [one.prompt for one in recipe.reel.transitions] == ["a red star"]
    assert [shot.prompt for shot in recipe.reel.shots] == ["", "a red star"]
    assert studio.gallery.get(clip.id).parent == short.id
    latents = StageLatents(studio.database, studio.config.data).load(short.id, BASE)
    assert torch.equal(clips_of(studio, recipe)[1], latents) and clip.frames == 1 + 2 + 4


def test_clips_keep_every_frame_and_an_exchange_makes_two_transitions(studio, clip, tiny_cascade, pictures):
    """A long one, which continues a short one, in the middle."""
    short = made(studio, studio.submit(request())).clip
    longer = made(studio, studio.long_videos.extend(short.id, [Segment("a blue heart")] * 2)).clip
    sources = [clip.id, longer.id, short.id, clip.id]
    first = made(studio, join(studio, sources, "a", "b", "c", frames=1)).clip
    recipe = recipe_of(studio, first)
    assert [shot.frames for shot in recipe.shots] == [8, 8, 4, 8] and first.frames == 31
    assert studio.gallery.get(first.id).parent == clip.id and segments_made(studio, first.id) == 3
    assert first.frame_hash == whole(studio, tiny_cascade, recipe)
    exchanged = made(studio, join(studio, [sources[0], pictures[0], *sources[2:]], "a", "b", "c", frames=1)).clip
    assert segments_made(studio, exchanged.id) == 2
    begins_alike = made(studio, join(studio, [sources[0], short.id, *sources[2:]], "a", "b", "c", frames=1)).clip
    assert segments_made(studio, begins_alike.id) == 1  # the long one begins with the short one
    again = made(studio, join(studio, [first.id, short.id], "d", frames=0)).clip
    shots = clips_of(studio, recipe_of(studio, again))
    assert shots[0].shape[2] == 31 and torch.equal(shots[0][:, :, 9:17], clips_of(studio, recipe)[1])
    start = studio.long_videos.start_from_clip(first.id)
    assert start.frames == 31 and made(studio, studio.long_videos.extend(first.id, [Segment("x")])).clip.frames == 33


def test_a_clip_whose_latents_are_gone_or_of_another_size_is_read_from_its_file(studio, pictures):
    short = made(studio, studio.submit(request())).clip
    StageLatents(studio.database, studio.config.data).drop(short.id)
    wide = made(studio, studio.submit(request(width=64))).clip
    told = []
    job_id = studio.long_videos.join([short.id, wide.id, pictures[1]], [RED], request=request(), report=told.append)
    shots = recipe_of(studio, made(studio, job_id).clip).shots
    assert [(shot.kind, shot.name, shot.frames) for shot in shots][:2] == [("clip", short.id, 4), ("clip", wide.id, 4)]
    assert f"{wide.id}: It has 64×16 at 8 fps, the new video 32×16 at 8: its file is read and fitted." in told
    assert any("It was cropped left and right" in one for one in told)


def test_all_frames_of_a_video_are_taken_at_the_models_rate(studio, tmp_path):
    files = [film_file(tmp_path, "long.mp4", 150, fps=16.0), film_file(tmp_path, "one.mp4", 1)]
    recipe = recipe_of(studio, made(studio, join(studio, files, RED)).clip)
    assert [shot.frames for shot in recipe.shots] == [75, 1]


@pytest.mark.parametrize(("kind", "count"), [("SegmentDone", 1), ("Step", 3), ("StageDone", 2)])
def test_a_stopped_job_goes_on_behind_the_bridges_that_are_kept(studio, after, tiny_cascade, pictures, kind, count):
    after(kind, count, lambda: studio.queue.pause(job_id))
    studio.queue.pause_queue()
    job_id = join(studio, [*pictures, pictures[0]], RED, "back again", interpolate=True)
    studio.queue.resume_queue()
    until(lambda: studio.job(job_id).state == PAUSED)
    studio.queue.resume(job_id)
    clip = made(studio, job_id).clip
    assert clip.frame_hash == whole(studio, tiny_cascade, recipe_of(studio, clip))
    assert segments_made(studio, job_id) == 2


def test_a_studio_that_ends_goes_on_with_it_at_the_next_start(make_long, after, tiny_cascade, pictures):
    studio = make_long(serve=False)
    job_id = join(studio, [*pictures, pictures[0]], RED)
    after("SegmentDone", 1, lambda: studio._workers._stopping.set())
    studio.serve()
    until(lambda: (row := studio.queue.get(job_id)).state == QUEUED and row.attempts == 1)
    studio.close()
    again = make_long()
    clip = made(again, job_id).clip
    assert clip.frame_hash == whole(again, tiny_cascade, recipe_of(again, clip)) and segments_made(again, job_id) == 2


def test_what_is_joined_so_far_can_be_kept(studio, after, pictures):
    after("Step", 3, lambda: studio.queue.keep(job_id))
    studio.queue.pause_queue()
    job_id = join(studio, [*pictures, pictures[0], pictures[1]], RED)
    studio.queue.resume_queue()
    recipe = recipe_of(studio, made(studio, job_id).clip)
    assert recipe.reel.frames == 4 and len(recipe.shots) == 2
    assert made(studio, studio.regenerate(job_id)).comparison.identical


def test_a_job_that_joins_is_cancelled_and_never_edited(studio, pictures):
    studio.queue.pause_queue()
    job_id = join(studio, pictures, RED)
    with pytest.raises(RequestError, match="cannot be edited"):
        studio.edit(job_id, request())
    studio.cancel(job_id)
    assert ended(studio, job_id).state == CANCELLED
    studio.queue.resume_queue()
    assert made(studio, studio.queue.duplicate(job_id)).clip


def test_cuts_alone_need_no_prompt_of_a_file(studio, clip, pictures):
    joined = made(studio, join(studio, [clip.id, pictures[0]], frames=0)).clip
    assert joined.frames == 9 and segments_made(studio, joined.id) == 0
    assert studio.gallery.report(joined.id).joins == ()


def test_how_long_it_takes_is_known_from_the_past(studio, pictures):
    made(studio, join(studio, pictures, RED))
    studio.queue.pause_queue()
    join(studio, pictures, RED)
    assert studio.estimates.of_jobs(studio.queue.line()) > 0


def test_shots_are_swept_when_nothing_names_them(studio, pictures):
    studio.queue.pause_queue()
    job_id = join(studio, pictures, RED)
    shots, starts = studio.queue.get(job_id).job.shots, studio.long_videos._loader._store

    def swept():
        with studio.database.write() as connection:
            connection.execute("UPDATE artefacts SET created = '2020' WHERE stage = 'start'")
        starts.sweep()
        return [not starts.has(shot) for shot in shots]

    assert swept() == [False, False]
    with studio.database.write() as connection:
        connection.execute("DELETE FROM jobs WHERE id = ?", [job_id])
    assert swept() == [True, True]
