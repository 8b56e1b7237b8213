"""From a stored clip: remixed, finished from its latents, and made again with proof."""

import pytest

from app.gallery.files import hash_file
from app.gallery.lineage import find_children, find_parents
from app.gallery.rebuild import check_files
from app.gallery.search import find_clips
from app.gallery.trash import move_to_trash, purge
from app.media import read_recipe
from app.recipes.comparison import Difference
from app.recipes.job_row import DONE, FAILED, PAUSED
from app.recipes.recipe import Job
from app.storage.latents import StageLatents, find_shared_stages
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from tests.app.studios import At, damage, ended, until
from tests.fakes import FakeCascade


@pytest.fixture
def cascade():
    return FakeCascade()


@pytest.fixture
def studio(make_studio, cascade):
    return make_studio(cascade)


def made(studio, request):
    return ended(studio, studio.submit(request)).clip


def proved(studio, clip_id):
    job = ended(studio, studio.regenerate(clip_id))
    assert job.state == DONE, job.row.error
    return job.comparison


def test_a_remix_keeps_all_but_the_seed(studio):
    asked = Request("a red star", negative_prompt="blur", seed=7, base=Sampling(steps=2), interpolation=Interpolation())
    clip = made(studio, asked)
    job = studio.queue.get(studio.remix(clip.id))
    remix = job.job.request
    assert (remix.seed, job.parent) == (None, clip.id)
    assert (remix.prompt, remix.negative_prompt, remix.base.steps, remix.width) == ("a red star", "blur", 2, 96)
    assert remix.interpolation is not None and remix.super_resolution is None


def test_a_draft_is_finished_from_its_latents(studio, cascade):
    draft = made(studio, Request("a red star", seed=7))
    smooth = ended(studio, studio.finish(draft.id, interpolate=True)).clip
    assert cascade.ran == [BASE, INTERPOLATION]
    large = ended(studio, studio.finish(smooth.id, upscale=True)).clip
    assert cascade.ran == [BASE, INTERPOLATION, SUPER_RESOLUTION]
    whole = made(
        studio, Request("a red star", seed=7, interpolation=Interpolation(), super_resolution=SuperResolution())
    )
    assert large.frame_hash == whole.frame_hash
    assert [parent.id for parent in find_parents(studio.gallery, large.id)] == [smooth.id, draft.id]
    assert [child.id for child in find_children(studio.gallery, draft.id)] == [smooth.id]
    assert list(studio.job(smooth.id).stage_seconds) == [INTERPOLATION]  # what the draft took is the draft's


def test_finishing_goes_on_from_its_own_latents_after_a_pause(make_studio):
    cascade = FakeCascade(at_step=At(SUPER_RESOLUTION, 1, lambda: studio.queue.pause(job_id)))
    studio = make_studio(cascade)
    draft = made(studio, Request("a red star", seed=7))
    studio.queue.pause_queue()
    job_id = studio.finish(draft.id, interpolate=True, upscale=True)
    studio.queue.resume_queue()
    until(lambda: studio.job(job_id).state == PAUSED)
    studio.queue.resume(job_id)
    assert ended(studio, job_id).state == DONE
    assert cascade.ran == [BASE, INTERPOLATION, SUPER_RESOLUTION, SUPER_RESOLUTION]


def test_stages_are_shared_as_far_as_the_requests_are_alike(cascade):
    def recipe(**values):
        return cascade.resolve(Request(**{"prompt": "x", "seed": 1, **values}))

    smooth, large = Interpolation(Sampling(steps=2)), SuperResolution()
    assert find_shared_stages(recipe(), recipe(interpolation=smooth)) == {BASE}
    assert find_shared_stages(recipe(interpolation=smooth), recipe(interpolation=Interpolation())) == {BASE}
    both = recipe(interpolation=smooth, super_resolution=large)
    assert find_shared_stages(recipe(interpolation=smooth), both) == {BASE, INTERPOLATION}
    for other in ({"seed": 2}, {"prompt": "y"}, {"negative_prompt": "z"}, {"base": Sampling(steps=9)}):
        assert find_shared_stages(recipe(), recipe(**other)) == set()


def test_a_stage_before_one_that_is_there_is_made_from_the_base_on(studio, cascade):
    draft = made(studio, Request("a red star", seed=7, super_resolution=SuperResolution()))
    both = ended(studio, studio.finish(draft.id, interpolate=True, upscale=True)).clip
    assert cascade.ran == [BASE, SUPER_RESOLUTION, INTERPOLATION, SUPER_RESOLUTION]
    whole = Request("a red star", seed=7, interpolation=Interpolation(), super_resolution=SuperResolution())
    assert both.frame_hash == made(studio, whole).frame_hash


def test_latents_of_other_weights_are_not_finished_from(studio, make_studio):
    draft = made(studio, Request("a red star", seed=7))
    studio.close()
    other = FakeCascade(weights="2", shade=5)
    again = make_studio(other)
    job = ended(again, again.finish(draft.id, interpolate=True))
    assert job.state == DONE and other.ran == [BASE, INTERPOLATION]
    said = f"the clip {draft.id} was made with other weights, adapters or versions, or on another device"
    assert f"{said}: it is made again from its first stage" in job.row.notices


@pytest.mark.parametrize("kind", ["bit", "cut", "gone", "forgotten"])
def test_a_draft_whose_latents_are_damaged_is_made_again_and_that_is_told(studio, cascade, kind):
    draft = made(studio, Request("a red star", seed=7))
    path = studio.config.data / "work" / draft.id / "base.safetensors"
    if kind == "forgotten":
        StageLatents(studio.database, studio.config.data).drop(draft.id)
    else:
        damage(path, kind)
    job = ended(studio, studio.finish(draft.id, interpolate=True))
    assert job.state == DONE and cascade.ran == [BASE, BASE, INTERPOLATION]
    whole = made(studio, Request("a red star", seed=7, interpolation=Interpolation()))
    assert job.clip.frame_hash == whole.frame_hash
    last = f"no whole latents of the clip {draft.id} are kept: it is made again from its first stage"
    assert last in job.row.notices
    told = [text for text in job.row.notices if str(path) in text]
    assert len(told) == (kind != "forgotten") and all("that stage is made again" in text for text in told)


def test_a_stage_that_is_to_run_otherwise_is_not_taken_from_the_draft(studio, cascade):
    draft = made(studio, Request("a red star", seed=7, interpolation=Interpolation(Sampling(steps=2))))
    other = Request("a red star", seed=7, interpolation=Interpolation(Sampling(steps=4)))
    studio.queue.pause_queue()
    job_id = studio.finish(draft.id, upscale=True)
    studio.queue.edit(job_id, Job(other, "nano"))
    studio.queue.resume_queue()
    assert ended(studio, job_id).state == DONE
    assert cascade.ran == [BASE, INTERPOLATION, INTERPOLATION]


def test_what_a_remix_cannot_share_with_its_parent_is_no_news(studio):
    draft = made(studio, Request("a red star", seed=7))
    job = ended(studio, studio.remix(draft.id))
    assert job.state == DONE and job.row.notices == ("the word <b>flurb</b> is not known",)


def test_there_must_be_something_to_finish(studio):
    draft = made(studio, Request("a red star", interpolation=Interpolation()))
    with pytest.raises(RequestError, match=f"the clip {draft.id} has these stages already: ask for one that it lacks"):
        studio.finish(draft.id, interpolate=True)
    for ask in (studio.finish, studio.remix, studio.regenerate):
        with pytest.raises(RequestError, match=r"no clip has the id 'nothing': `gallery list`"):
            ask("nothing")
    assert len(studio.queue.recent(10)) == 1


def test_a_clip_made_again_is_bit_identical(studio, cascade):
    clip = made(studio, Request("a red star"))
    proof = proved(studio, clip.id)
    assert (proof.identical, proof.psnr, proof.differences) == (True, None, ())
    assert str(proof) == "bit-identical"
    assert cascade.ran == [BASE, BASE]  # made, not taken from what is kept
    assert find_clips(studio.gallery).total == 1 and len(list(studio.config.clips.glob("*.mp4"))) == 1
    until(lambda: [path.name for path in (studio.config.data / "work").iterdir()] == [clip.id])


def test_a_file_that_was_deleted_is_put_back(studio):
    clip = made(studio, Request("a red star"))
    file = studio.config.clips / f"{clip.id}.mp4"
    before = read_recipe(file)
    file.unlink()
    check_files(studio.gallery)
    assert studio.gallery.get(clip.id).missing
    assert proved(studio, clip.id).identical
    assert read_recipe(file) == before and not studio.gallery.get(clip.id).missing


def test_putting_a_file_back_looks_at_no_other_clip(studio):
    clip, other, moved = (made(studio, Request("a red star", seed=seed)) for seed in (1, 2, 3))
    for gone in (clip, other):
        (studio.config.clips / f"{gone.id}.mp4").unlink()
    away = studio.config.clips / "away.mp4"
    (studio.config.clips / f"{moved.id}.mp4").rename(away)
    before = [studio.gallery.get(each.id) for each in (other, moved)]
    assert proved(studio, clip.id).identical
    assert [studio.gallery.get(each.id) for each in (other, moved)] == before  # neither marked nor found
    stored = studio.gallery.get(clip.id)
    assert stored.path.is_file() and stored.file_hash == hash_file(stored.path) and not stored.missing


def test_what_differs_is_said_with_a_distance(studio, make_studio):
    clip = made(studio, Request("a red star", seed=7))
    studio.close()
    again = make_studio(FakeCascade(weights="2", shade=5))
    proof = proved(again, clip.id)
    assert not proof.identical and 30 < proof.psnr < 37  # 5 levels off are 34 dB, the encoding aside
    assert proof.differences == (Difference("weights.base/weights.safetensors", "1", "2"),)
    assert str(proof) == f"differs: PSNR {proof.psnr:.1f} dB; weights.base/weights.safetensors was 1, is 2"
    file = again.config.clips / f"{clip.id}.mp4"
    file.unlink()
    assert proved(again, clip.id).psnr is None
    assert not file.exists()  # other frames are not put in its place


def test_another_attention_is_among_what_differs(studio, make_studio):
    clip = made(studio, Request("a red star", seed=7))
    studio.close()
    proof = proved(make_studio(FakeCascade(attention="sdpa math", shade=5)), clip.id)
    assert proof.differences == (Difference("attention", "sdpa", "sdpa math"),)


def test_a_clip_that_is_purged_meanwhile_fails_in_words(studio, make_studio):
    clip = made(studio, Request("a red star"))
    studio.queue.pause_queue()
    job_id = studio.regenerate(clip.id)
    move_to_trash(studio.gallery, clip.id)
    purge(studio.gallery)
    studio.queue.resume_queue()
    job = ended(studio, job_id)
    assert (job.state, job.comparison) == (FAILED, None)
    assert job.row.error == f"the clip {clip.id} is not in the gallery any more: nothing to make again"


def test_a_real_draft_is_finished_and_proved_bit_identical(make_studio, tiny_cascade):
    studio = make_studio(tiny_cascade)
    draft = made(studio, Request("a red star", seed=7))
    large = ended(studio, studio.finish(draft.id, upscale=True)).clip
    *_, whole = tiny_cascade.generate(Request("a red star", seed=7, super_resolution=SuperResolution()))
    assert (large.frame_hash, large.width) == (whole.video.frame_hash, 128)
    assert list(studio.job(large.id).stage_seconds) == [SUPER_RESOLUTION]
    assert proved(studio, large.id).identical
