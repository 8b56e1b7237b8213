"""Whether two clips are the same, and what is said where they are not."""

import math

import numpy as np
import pytest

from app.recipes.comparison import Comparison, Difference, compare_clips, differences
from app.recipes.recipe import Recipe
from lavie.request import Request
from lavie.video import Video
from tests.app.media.clips import write_video

WAS = {"device": "cpu", "weights": {"base": "a" * 64, "vae": "b"}, "versions": {"torch": "2.1"}}
NOW = {"device": "cuda", "weights": {"base": "c" * 64, "text": "d"}, "versions": {"torch": "2.1"}}


def video(level, frames=4, size=16):
    return Video(np.full((frames, size, size, 3), level, np.uint8), 8.0)


def recipe(frame_hash, provenance=WAS):
    return Recipe(Request("x", seed=1), "nano", provenance, frame_hash=frame_hash)


@pytest.fixture
def file(tmp_path):
    """A stored clip of level 120."""
    path = tmp_path / "a.mp4"
    write_video(path, video(120), "{}")
    return path


def test_the_same_frames_are_identical_whatever_else_changed(tmp_path):
    proof = compare_clips(recipe("same"), recipe("same", NOW), lambda: video(1).frames, tmp_path / "gone.mp4")
    assert proof == Comparison(True) and str(proof) == "bit-identical"


def test_other_frames_are_measured_and_explained(file):
    proof = compare_clips(recipe("one"), recipe("other", NOW), lambda: video(140).frames, file)
    assert not proof.identical
    assert proof.psnr == pytest.approx(20 * math.log10(255 / 20), abs=0.5)  # the encoding is a level off at most
    assert proof.differences == (
        Difference("device", "cpu", "cuda"),
        Difference("weights.base", "a" * 64, "c" * 64),
        Difference("weights.text", None, "d"),
        Difference("weights.vae", "b", None),
    )
    assert str(proof) == (
        f"differs: PSNR {proof.psnr:.1f} dB; device was cpu, is cuda; weights.base was aaaaaaaaaaaa…, "
        "is cccccccccccc…; weights.text was absent, is d; weights.vae was b, is absent"
    )
    assert Comparison.from_json(proof.to_json()) == proof


def test_the_distance_is_over_all_frames(file):
    frames = video(120).frames.copy()
    frames[3] = 200
    proof = compare_clips(recipe("one"), recipe("other"), lambda: frames, file)
    assert proof.psnr == pytest.approx(20 * math.log10(255 / (80 / 2)), abs=0.5)  # a quarter of the squares
    assert str(proof).endswith("; nothing recorded differs")


@pytest.mark.parametrize("made", [video(120, frames=3), video(120, frames=5), video(120, size=32)])
def test_frames_of_another_shape_have_no_distance(file, made):
    proof = compare_clips(recipe("one"), recipe("other"), lambda: made.frames, file)
    assert proof == Comparison(False) and "not comparable with the stored file" in str(proof)


def test_a_file_that_is_gone_or_broken_has_no_distance(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name in ("gone.mp4", "broken.mp4"):
        assert compare_clips(recipe("one"), recipe("other"), lambda: video(1).frames, tmp_path / name).psnr is None


def test_differences_are_told_leaf_by_leaf():
    assert list(differences(WAS, WAS)) == []
    was, now = {"a": {"b": 1, "c": [1, 2]}, "d": {}}, {"a": {"b": 1, "c": [1, 3]}, "d": 4}
    assert list(differences(was, now)) == [Difference("a.c", [1, 2], [1, 3]), Difference("d", {}, 4)]


def test_how_attention_ran_and_where_weights_were_kept_is_told_and_that_a_recipe_does_not_say_it(file):
    was, now = {**WAS, "attention": "sdpa", "offload": "none"}, {**WAS, "attention": "sdpa math", "offload": "model"}
    proof = compare_clips(recipe("one", was), recipe("other", now), lambda: video(140).frames, file)
    assert proof.differences == (Difference("attention", "sdpa", "sdpa math"), Difference("offload", "none", "model"))
    assert str(proof).endswith("attention was sdpa, is sdpa math; offload was none, is model")
    older = compare_clips(recipe("one", WAS), recipe("other", now), lambda: video(140).frames, file)
    assert older.differences == (Difference("attention", None, "sdpa math"), Difference("offload", None, "model"))
