"""From a long clip: the same again with proof, another take, later stages, more segments; and from other frames."""

import json
import os
from dataclasses import replace

import pytest
import torch

from app.gallery import Query
from app.gallery.lineage import find_parents
from app.gallery.rebuild import rebuild
from app.gallery.search import find_clips
from app.recipes.initial_frames import InitialFrames
from app.storage.latents import SegmentLatents, StageLatents
from extensions.long_video.plan import Segment
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION
from lavie.request import Interpolation
from tests.app.long_videos.test_making import whole
from tests.app.long_videos.videos import made, plan, request, segments_made
from tests.app.studios import until


def test_a_long_clip_is_regenerated_bit_identical_without_what_is_kept(studio, clip):
    job_id = studio.regenerate(clip.id)
    job = made(studio, job_id)
    assert job.comparison.identical and segments_made(studio, job_id) == 3
    until(lambda: not (studio.config.data / "work" / job_id).exists())
    path = studio.gallery.get(clip.id).path
    path.unlink()
    assert made(studio, studio.regenerate(clip.id)).comparison.identical and path.is_file()
    assert not studio.gallery.get(clip.id).missing


def test_what_differs_is_measured(studio, clip):
    stored = studio.gallery.get(clip.id)
    other = replace(stored.recipe, frame_hash="0" * 64, provenance={**stored.recipe.provenance, "device": "another"})
    with studio.database.write() as connection:
        connection.execute("UPDATE clip_recipes SET recipe = ?", [other.to_json()])
    proof = made(studio, studio.regenerate(clip.id)).comparison
    assert not proof.identical and proof.psnr > 20 and [one.name for one in proof.differences] == ["device"]


def test_a_remix_has_other_seeds_in_every_segment(studio):
    wanted = plan()
    wanted = replace(wanted, segments=(replace(wanted.segments[0], seed=3, locked=True), *wanted.segments[1:]))
    clip = made(studio, studio.long_videos.submit(request(), wanted)).clip
    remix = made(studio, studio.remix(clip.id)).clip
    recipe = studio.gallery.get(remix.id).recipe
    assert recipe.plan.seed == recipe.request.seed != 7 and recipe.plan.segments[0].seed is None
    assert remix.frame_hash != clip.frame_hash and segments_made(studio, remix.id) == 3
    assert studio.gallery.get(remix.id).parent == clip.id


def test_later_stages_are_added_without_making_a_segment(studio, clip, tiny_cascade):
    smooth = made(studio, studio.finish(clip.id, interpolate=True)).clip
    asked = replace(request(), interpolation=Interpolation())
    assert smooth.frame_hash == whole(tiny_cascade, asked, plan())
    assert set(studio.job(smooth.id).stage_seconds) == {INTERPOLATION} and segments_made(studio, smooth.id) == 0
    assert made(studio, studio.regenerate(smooth.id)).comparison.identical
    with pytest.raises(RequestError, match="has these stages already"):
        studio.finish(smooth.id, interpolate=True)


def test_more_segments_are_the_same_as_all_at_once(studio, clip, tiny_cascade):
    job_id = studio.long_videos.extend(clip.id, [Segment("a red star")] * 2)
    longer = made(studio, job_id).clip
    assert longer.frame_hash == whole(tiny_cascade, request(), plan(count=5))
    assert segments_made(studio, longer.id) == 2 and studio.gallery.get(longer.id).parent == clip.id


def test_a_short_clip_is_gone_on_from_by_its_latents(studio, tiny_cascade):
    short = made(studio, studio.submit(request())).clip
    latents = StageLatents(studio.database, studio.config.data).load(short.id, BASE)
    longer = made(studio, studio.long_videos.extend(short.id, [Segment("a blue heart")] * 2)).clip
    assert longer.frame_hash == whole(tiny_cascade, request(), plan("a blue heart", 2), latents)
    recipe = studio.gallery.get(longer.id).recipe
    assert (recipe.start.kind, recipe.start.name, recipe.start.frames) == ("clip", short.id, 4)
    assert longer.frames == 4 + 2 * 2
    assert [one.id for one in find_parents(studio.gallery, longer.id)] == [short.id]
    assert made(studio, studio.regenerate(longer.id)).comparison.identical
    assert made(studio, studio.remix(longer.id)).clip.frame_hash != longer.frame_hash
    report = studio.gallery.report(longer.id)
    assert [join.frame for join in report.joins] == [4, 6]


def test_frames_that_are_gone_are_told_before_anything_is_queued(studio):
    short = made(studio, studio.submit(request())).clip
    longer = made(studio, studio.long_videos.extend(short.id, [Segment("a blue heart")])).clip
    start = studio.gallery.get(longer.id).recipe.start
    StageLatents(studio.database, studio.config.data).drop(f"start-{start.hash}")
    waiting = studio.queue.counts()
    acts = [studio.regenerate, studio.remix, lambda clip: studio.finish(clip, upscale=True)]
    acts += [lambda clip: studio.long_videos.submit(request(), plan(), start=start)]
    for act in acts:
        with pytest.raises(RequestError, match=f"the frames of {short.id} .* are not kept any more"):
            act(longer.id)
    assert studio.queue.counts() == waiting


def test_a_start_that_is_damaged_fails_the_job_in_words(studio):
    short = made(studio, studio.submit(request())).clip
    studio.queue.pause_queue()
    job_id = studio.long_videos.extend(short.id, [Segment("a blue heart")])
    (path,) = (studio.config.data / "work").glob("start-*/start.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    studio.queue.resume_queue()
    until(lambda: not studio.job(job_id).open)
    job = studio.job(job_id)
    assert job.state == "failed" and "are damaged" in job.row.error and "extend that clip or file anew" in job.row.error


def test_where_latents_are_of_another_autoencoder_the_file_is_read(studio, monkeypatch):
    short = made(studio, studio.submit(request())).clip
    recipe = studio.gallery.get(short.id).recipe
    weights = {file: "0" * 64 for file in recipe.provenance["weights"]}
    other = replace(recipe, provenance={**recipe.provenance, "weights": weights})
    ours = studio.long_videos.start_from_clip(short.id)
    with studio.database.write() as connection:
        connection.execute("UPDATE clip_recipes SET recipe = ?", [other.to_json()])
    theirs = studio.long_videos.start_from_clip(short.id)
    assert theirs.hash != ours.hash and (theirs.name, theirs.frames) == (short.id, 4)


def test_a_start_of_a_long_clip_is_its_last_frames(studio, clip):
    start = studio.long_videos.start_from_clip(clip.id)
    parts = SegmentLatents(studio.database, studio.config.data, clip.id)
    latents = torch.cat([parts[key].latents for key in parts.keys_of(BASE)], dim=2)
    kept = studio.long_videos._loader._store.load(start)
    assert torch.equal(kept, latents) and start.frames == latents.shape[2] == 8


def test_starts_are_swept_when_nothing_names_them(studio):
    short = made(studio, studio.submit(request())).clip
    start = studio.long_videos.start_from_clip(short.id)
    project = studio.long_videos.projects.create(plan(), request(), studio.model, start)
    starts = studio.long_videos._loader._store

    def swept():
        with studio.database.write() as connection:
            connection.execute("UPDATE artefacts SET created = '2020' WHERE stage = 'start'")
        starts.sweep()
        return not starts.has(start)

    assert not swept()
    job_id = studio.long_videos.render(project)
    studio.long_videos.projects.delete(project)
    assert made(studio, job_id) and not swept()
    with studio.database.write() as connection:
        connection.execute("DELETE FROM jobs WHERE id = ?", [job_id])
    assert swept()


def test_a_new_start_outlives_a_sweep_before_it_is_used(studio):
    short = made(studio, studio.submit(request())).clip
    start = studio.long_videos.start_from_clip(short.id)
    studio.long_videos._loader._store.sweep()
    assert studio.long_videos._loader._store.has(start)


def test_a_start_that_another_process_is_storing_is_left_alone(studio):
    work = studio.config.data / "work"
    young, old = (work / f"start-{letter * 64}" for letter in "ab")
    for folder in (young, old):
        folder.mkdir(parents=True)
        (folder / "start.partial").write_bytes(b"half")
    os.utime(old, (0, 0))
    StageLatents(studio.database, studio.config.data).sweep(7)
    assert (young / "start.partial").is_file() and not old.exists()


def test_the_gallery_comes_back_from_files_with_reports_and_plans(studio, clip, make_long, tmp_path):
    report, recipe = studio.gallery.report(clip.id), studio.gallery.get(clip.id).recipe
    studio.gallery.rate(clip.id, 4)
    assert studio.gallery.report(clip.id) == report  # a change of what people say keeps it
    with studio.database.write() as connection:
        connection.execute("DELETE FROM clips")
    assert studio.gallery.report(clip.id) is None
    assert rebuild(studio.gallery).found == (clip.id,)
    stored = studio.gallery.get(clip.id)
    assert (studio.gallery.report(clip.id), stored.recipe, stored.rating) == (report, recipe, 4)


def test_a_long_clip_is_found_by_the_words_of_any_segment(studio):
    clip = made(studio, studio.long_videos.submit(request(), plan("a red star, a blue heart"))).clip
    assert [one.id for one in find_clips(studio.gallery, Query(text="heart")).clips] == [clip.id]


@pytest.mark.parametrize(
    "wrong", [{"joins": 3}, {"drift": {}}, {"frames": "x"}, {"findings": [{"where": 1, "what": 2, "cure": "y"}]}]
)
def test_a_sidecar_with_a_strangers_report_is_refused(studio, clip, wrong):
    from app.gallery.sidecar import Sidecar

    text = (studio.config.clips / f"{clip.id}.json").read_text()
    data = json.loads(text)
    assert Sidecar.from_json(text).report is not None
    data["report"] |= wrong
    with pytest.raises(RequestError):
        Sidecar.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "wrong", [{"kind": "dream"}, {"name": ""}, {"hash": "ab"}, {"frames": 0}, {"frames": 65}, {"frames": None}]
)
def test_a_start_that_makes_no_sense_is_refused(wrong):
    right = {"kind": "clip", "name": "x", "hash": "ab" * 32, "frames": 4}
    assert InitialFrames.from_dict(right).to_dict() == right
    with pytest.raises(RequestError):
        InitialFrames.from_dict({**right, **wrong})
