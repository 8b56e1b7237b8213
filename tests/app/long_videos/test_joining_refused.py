"""What cannot be joined is refused in words, and nothing is queued for it."""

import json
from dataclasses import replace

import pytest

from app.storage.latents import StageLatents
from lavie.errors import MediaError, RequestError
from tests.app.long_videos.test_joining import RED, film_file, join, picture, pictures, recipe_of
from tests.app.long_videos.videos import made, plan, request
from tests.app.studios import ended

__all__ = ["pictures"]


def test_frames_that_are_gone_are_told_before_anything_is_queued(studio, pictures):
    clip = made(studio, join(studio, pictures, RED)).clip
    shot = recipe_of(studio, clip).shots[1]
    StageLatents(studio.database, studio.config.data).drop(f"start-{shot.hash}")
    for act in (studio.regenerate, studio.remix):
        with pytest.raises(RequestError, match=r"the frames of b.png that are to be joined are not kept any more"):
            act(clip.id)


def test_frames_that_are_damaged_fail_the_job_in_words(studio, pictures):
    studio.queue.pause_queue()
    job_id = join(studio, pictures, RED)
    for path in (studio.config.data / "work").glob("start-*/start.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])
    studio.queue.resume_queue()
    job = ended(studio, job_id)
    assert job.state == "failed" and "are damaged" in job.row.error and "join that clip or file anew" in job.row.error


def bad_sources(folder):
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("no video")
    right = picture(folder, "right.png")
    return {
        "one": [right],
        "none": [],
        "empty": [right, folder / "empty.mp4"],
        "words": [right, folder / "words.mp4"],
        "unknown": [right, "no-such-clip"],
        "right": [right, right],
    }


@pytest.mark.parametrize(
    ("which", "values", "words"),
    [
        ("one", {}, "the number of clips and files to join is 1: give 2 to 1000"),
        ("none", {}, "the number of clips and files to join is 0"),
        ("empty", {}, "empty.mp4 is empty, 0 bytes"),
        ("words", {}, "words.mp4 is a text"),
        ("unknown", {}, "'no-such-clip' is neither a clip nor a file"),
        ("right", {"frames": 3}, "a transition of 3 frames cannot be made at once: give 1 to 2"),
        ("right", {"frames": -1}, "a transition's frames is -1"),
        ("right", {"frames": True}, "a transition's frames is True"),
        ("right", {"prompts": ["a", "b"]}, "there are 2 prompts for 1 transitions"),
        ("right", {"prompts": []}, "nothing says what leads to right.png: give a prompt"),
        ("right", {"prompts": [" "]}, "a transition's prompt is empty"),
        ("right", {"prompts": [], "frames": 0}, "nothing says what the video shows: give a prompt"),
        ("right", {"fit": "stretch"}, "fit is 'stretch': choose crop or letterbox"),
        ("right", {"strategy": "codenoise"}, "strategy is 'codenoise': choose one of"),
        ("right", {"request": replace(request(), frames=2)}, "window is 2: give a whole number from 3"),
    ],
)
def test_what_cannot_be_joined_is_refused_and_nothing_is_queued(studio, tmp_path, which, values, words):
    sources = bad_sources(tmp_path)[which]
    with pytest.raises((RequestError, MediaError), match=words):
        studio.long_videos.join(sources, **{"prompts": [RED], "request": request(), **values})
    assert sum(studio.queue.counts().values()) == 0


def test_more_frames_than_can_be_kept_are_refused_before_they_are_decoded(studio, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("app.long_videos.initial_frames.MAX_JOINED", 7)
    with pytest.raises(MediaError, match=r"long.mp4 has 8 frames at 8 a second, more than the 7 that can be taken"):
        join(studio, [film_file(tmp_path, "long.mp4", 8)] * 2, RED)
    with pytest.raises(RequestError, match=f"the clip {clip.id} has 8 frames, more than the 7 that can be joined"):
        join(studio, [clip.id, clip.id], RED)


def test_a_plan_and_a_reel_are_not_one_job(studio, pictures):
    studio.queue.pause_queue()
    job = studio.queue.get(join(studio, pictures, RED)).job
    with pytest.raises(RequestError, match="give either"):
        type(job).from_json(json.dumps({**json.loads(job.to_json()), "plan": json.loads(plan().to_json())}))
    with pytest.raises(RequestError, match="the shots are not those that the reel names"):
        replace(job, shots=job.shots[::-1])
    with pytest.raises(RequestError, match="shots are 5: give a list"):
        type(job).from_json(json.dumps({**json.loads(job.to_json()), "shots": 5}))
