"""Posters show the middle of a clip, previews all of it, at its speed."""

import os

import numpy as np
import pytest
from PIL import Image

from app.media import frames_of, write_poster, write_preview
from lavie.errors import MediaError
from tests.app.media.clips import blocks, numbered, watched, write_video


def shown(path):
    """The pictures of a webp and how long each lasts, in milliseconds."""
    pictures, lasts = [], []
    with Image.open(path) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
            lasts.append(picture.info["duration"])
    return pictures, lasts


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 1), (3, 1), (16, 8), (61, 30)])
def test_a_poster_is_the_middle_frame(tmp_path, count, middle):
    video = numbered(count)
    write_video(tmp_path / "a.mp4", video, "{}")
    write_poster(tmp_path / "a.mp4", tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as poster:
        assert (poster.format, poster.size) == ("WEBP", (32, 16))
        assert abs(np.asarray(poster.convert("RGB")).mean() - video.frames[middle].mean()) <= 2


@pytest.mark.parametrize(
    ("size", "poster", "preview"),
    [((96, 64), (96, 64), (96, 64)), ((1024, 256), (512, 128), (256, 64)), ((64, 1024), (32, 512), (16, 256))],
)
def test_large_clips_are_shown_small_in_their_shape(tmp_path, size, poster, preview):
    write_video(tmp_path / "a.mp4", blocks(3, width=size[0], height=size[1]), "")
    write_poster(tmp_path / "a.mp4", tmp_path / "a.webp")
    write_preview(tmp_path / "a.mp4", tmp_path / "b.webp")
    with Image.open(tmp_path / "a.webp") as one, Image.open(tmp_path / "b.webp") as other:
        assert (one.size, other.size) == (poster, preview)


@pytest.mark.parametrize(("count", "fps"), [(2, 8), (16, 8), (24, 23.976), (25, 30), (61, 32), (200, 60)])
def test_a_preview_shows_all_of_the_clip_at_its_speed(tmp_path, count, fps):
    video = numbered(count, fps)
    write_video(tmp_path / "a.mp4", video, "")
    write_preview(tmp_path / "a.mp4", tmp_path / "a.webp")
    pictures, lasts = shown(tmp_path / "a.webp")
    assert len(pictures) == min(count, 24)
    assert sum(lasts) == pytest.approx(1000 * count / fps, abs=1)
    assert max(lasts) - min(lasts) <= 1
    levels = np.array([picture.mean() for picture in pictures])
    assert (np.diff(levels) > 0).all()
    step = video.frames[:, 0, 0, 0].astype(int)[len(video) // 24 + 1 if count > 24 else 0]
    assert levels[0] <= step + 3 and levels[-1] >= 255 - step - 3
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.info["loop"] == 0


def test_a_preview_keeps_few_frames_in_memory(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", numbered(60), "")
    alive = []
    monkeypatch.setattr("app.media.encode.frames_of", lambda path: watched(frames_of(path), alive))
    write_preview(tmp_path / "a.mp4", tmp_path / "a.webp")
    assert len(alive) >= 58 and max(alive) <= 3


@pytest.mark.parametrize("write", [write_poster, write_preview])
def test_a_picture_can_be_shown_too(tmp_path, write):
    Image.fromarray(blocks(1).frames[0]).save(tmp_path / "a.png")
    write(tmp_path / "a.png", tmp_path / "b.webp")
    with Image.open(tmp_path / "b.webp") as picture:
        assert np.abs(np.asarray(picture.convert("RGB"))[20:44, 4:20].astype(int) - (220, 40, 40)).max() <= 12


@pytest.mark.parametrize("write", [write_poster, write_preview])
def test_a_clip_shorter_than_its_packets_said_is_shown(tmp_path, monkeypatch, write):
    write_video(tmp_path / "a.mp4", numbered(3), "")
    monkeypatch.setattr("app.media.encode.count_frames", lambda path: 400)
    write(tmp_path / "a.mp4", tmp_path / "a.webp")
    assert len(shown(tmp_path / "a.webp")[0] if write is write_preview else [1]) == 1


@pytest.mark.parametrize("write", [write_poster, write_preview])
def test_nothing_is_left_where_it_fails(tmp_path, monkeypatch, write):
    write_video(tmp_path / "a.mp4", numbered(3), "")
    (tmp_path / "text.mp4").write_text("hello")
    before = sorted(os.listdir(tmp_path))
    for source, target, words in [
        ("no.mp4", "a.webp", "is no file"),
        ("text.mp4", "a.webp", "cannot be read"),
        ("a.mp4", "a.png", r"does not end in \.webp"),
        ("a.mp4", "missing/a.webp", "does not exist: create it"),
    ]:
        with pytest.raises(MediaError, match=words):
            write(tmp_path / source, tmp_path / target)
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MediaError, match="the disk is full"):
        write(tmp_path / "a.mp4", tmp_path / "a.webp")
    assert sorted(os.listdir(tmp_path)) == before
