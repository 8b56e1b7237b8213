"""Cuts fall where they were asked for, and clips follow each other without a frame too many or too few."""

import os
from itertools import pairwise

import numpy as np
import pytest

from app.media import frames_of, probe, read_recipe, read_video
from app.media.export import join, trim
from lavie.errors import MediaError
from lavie.video import Video
from tests.app.media.clips import numbered, pixels, watched, write_video


def flat(level, count, fps=8.0, width=32, height=16):
    return Video(np.full((count, height, width, 3), level, np.uint8), fps)


@pytest.fixture
def clips(tmp_path):
    """Three clips of one gray each, of 6, 5 and 4 frames."""
    for name, level, count in [("a", 40, 6), ("b", 200, 5), ("c", 100, 4)]:
        write_video(tmp_path / f"{name}.mp4", flat(level, count), f"recipe of {name}")
    return [tmp_path / f"{name}.mp4" for name in "abc"]


def levels(path):
    return pixels(path).mean(axis=(1, 2, 3))


@pytest.mark.parametrize(("start", "stop"), [(0, 61), (0, 1), (60, 61), (7, 31), (59, 61)])
def test_a_part_has_exactly_its_frames(tmp_path, start, stop):
    video = numbered(61, fps=23.976)
    write_video(tmp_path / "a.mp4", video, "{}")
    trim(tmp_path / "a.mp4", tmp_path / "b.mp4", start, stop)
    part = read_video(tmp_path / "b.mp4")
    assert len(part) == stop - start and part.fps == pytest.approx(23.976, rel=1e-4)
    assert np.abs(part.frames.astype(int) - video.frames[start:stop]).max() <= 4
    assert read_recipe(tmp_path / "b.mp4") is None


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 2), (0, 7), (6, 9)])
def test_a_part_that_is_not_there_is_refused(tmp_path, clips, start, stop):
    with pytest.raises(MediaError, match=f"has frames 0 … 5, not {start} … {stop - 1}: choose a part"):
        trim(clips[0], tmp_path / "d.mp4", start, stop)
    assert not (tmp_path / "d.mp4").exists()


def test_a_recipe_can_be_given(tmp_path, clips):
    trim(clips[0], tmp_path / "d.mp4", 1, 3, "of the part")
    join(clips, tmp_path / "e.mp4", recipe_json="of the whole")
    assert (read_recipe(tmp_path / "d.mp4"), read_recipe(tmp_path / "e.mp4")) == ("of the part", "of the whole")


def test_a_cut_puts_clips_one_after_another(tmp_path, clips):
    join(clips, tmp_path / "d.mp4")
    assert levels(tmp_path / "d.mp4") == pytest.approx([40] * 6 + [200] * 5 + [100] * 4, abs=2)
    assert probe(tmp_path / "d.mp4").fps == 8 and read_recipe(tmp_path / "d.mp4") is None


def test_a_cross_fade_is_linear(tmp_path, clips):
    join(clips[:2], tmp_path / "d.mp4", crossfade=3)
    wanted = [40] * 3 + [80, 120, 160] + [200] * 2
    assert levels(tmp_path / "d.mp4") == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize("crossfade", [0, 1, 2, 3, 4])
def test_a_cross_fade_has_the_right_number_of_frames(tmp_path, clips, crossfade):
    join(clips, tmp_path / "d.mp4", crossfade=crossfade)
    assert probe(tmp_path / "d.mp4").frames == 15 - 2 * crossfade
    seen = levels(tmp_path / "d.mp4")
    assert seen[0] == pytest.approx(40, abs=2)
    assert seen[-1] == pytest.approx(100, abs=2 if not crossfade else 25)
    steps = [abs(after - before) for before, after in pairwise(seen)]
    assert max(steps) <= 160 / (crossfade + 1) + 3


def test_one_clip_is_joined_to_itself(tmp_path, clips):
    join(clips[:1], tmp_path / "d.mp4", crossfade=50)
    assert levels(tmp_path / "d.mp4") == pytest.approx([40] * 6, abs=2)


@pytest.mark.parametrize("crossfade", [0, 3])
def test_joining_keeps_few_frames_in_memory(tmp_path, monkeypatch, crossfade):
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", numbered(40), "")
    alive = []
    monkeypatch.setattr("app.media.export.frames_of", lambda path: watched(frames_of(path), alive))
    join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "d.mp4", crossfade)
    assert len(alive) >= 80 and max(alive) <= crossfade + 4


def test_what_does_not_fit_is_named(tmp_path, clips):
    write_video(tmp_path / "wide.mp4", flat(9, 6, width=48), "")
    write_video(tmp_path / "fast.mp4", flat(9, 6, fps=24), "")
    for sources, crossfade, words in [
        ([clips[0], tmp_path / "wide.mp4"], 0, r"wide\.mp4 is 48×16 at 8 fps, .*a\.mp4 is 32×16 at 8 fps: join clips"),
        ([clips[0], tmp_path / "fast.mp4"], 0, r"fast\.mp4 is 32×16 at 24 fps, .*: join clips of one size and rate"),
        (clips, 5, r"c\.mp4 has 4 frames, fewer than the 5 to blend: choose a shorter fade"),
        (clips, -1, "a cross-fade of -1 frames cannot be"),
        ([], 0, "nothing to join"),
        ([clips[0], tmp_path / "no.mp4"], 0, r"no\.mp4 is no file"),
    ]:
        with pytest.raises(MediaError, match=words):
            join(sources, tmp_path / "d.mp4", crossfade)
    with pytest.raises(MediaError, match="would replace what it is made from"):
        join(clips, clips[1])
    with pytest.raises(MediaError, match="would replace what it is made from"):
        trim(clips[0], clips[0], 0, 2)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4", "c.mp4", "fast.mp4", "wide.mp4"]
