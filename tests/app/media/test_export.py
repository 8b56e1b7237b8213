"""Every export has exactly the frames of the clip in their colours, with the recipe or clean of it."""

import io
import json
import os
import subprocess
import sys
import zipfile

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from app.media import EXPORTS, MAX_RECIPE_BYTES, frames_of, probe, read_recipe
from lavie.errors import MediaError
from lavie.video import Video
from tests.app.media.clips import RECIPE, blocks, exported, numbered, pixels, watched, write_video

VIDEOS = [kind for kind in EXPORTS if kind != "png"]
PIPED = ["webm", "prores", "ffv1"]


def pictures(path):
    """The pictures of a zip, in the order of their names."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert names == [f"frame-{number:06d}.png" for number in range(len(names))]
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]).astype(int)


@pytest.mark.parametrize("kind", EXPORTS)
def test_every_frame_is_there_in_its_colours(tmp_path, clip, kind):
    target = exported(clip, tmp_path, kind)
    before, after = pixels(clip), pictures(target) if kind == "png" else pixels(target)
    assert after.shape == before.shape
    difference = np.abs(after - before)
    assert difference.mean() <= 2.5
    for index, frame in enumerate(difference):  # the inside of block and ground, away from the edges
        left = 8 * (index % 9)
        assert frame[20:44, left + 4 : left + 20].max() <= 6 and frame[:12].max() <= 4
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("kind", ["h264", "png", "ffv1"])
def test_some_lose_nothing(tmp_path, clip, kind):
    target = exported(clip, tmp_path, kind)
    assert ((pictures(target) if kind == "png" else pixels(target)) == pixels(clip)).all()


@pytest.mark.parametrize(
    ("kind", "codec", "form"),
    [
        ("h264", "h264", "yuv420p"),
        ("webm", "vp9", "yuv420p"),
        ("gif", "gif", "bgra"),
        ("prores", "prores", "yuv422p10le"),
        ("ffv1", "ffv1", "bgr0"),
    ],
)
def test_each_is_what_it_says(tmp_path, clip, kind, codec, form):
    target = exported(clip, tmp_path, kind)
    info = probe(target)
    assert (info.frames, info.codec, info.pixel_format) == (18, codec, form)
    assert info.fps == pytest.approx(12, rel=0.01)
    if kind == "prores":
        assert b"apch" in target.read_bytes()  # the four letters of 422 HQ


@pytest.mark.parametrize("kind", ["webm", "prores"])
def test_colours_are_tagged(tmp_path, clip, kind):
    with av.open(str(exported(clip, tmp_path, kind))) as container:
        context = container.streams.video[0].codec_context
        assert [int(context.colorspace), int(context.color_primaries), int(context.color_trc)] == [1, 1, 1]


@pytest.mark.parametrize("fps", [0.5, 8, 23.976, 29.97, 60, 120])
@pytest.mark.parametrize("kind", PIPED)
def test_rates_and_counts_are_exact(tmp_path, kind, fps):
    for count in (1, 7):
        write_video(tmp_path / "a.mp4", numbered(count, fps), "")
        target = exported(tmp_path / "a.mp4", tmp_path, kind)
        assert np.abs(pixels(target) - pixels(tmp_path / "a.mp4")).max() <= 5
        assert probe(target).fps == pytest.approx(fps, rel=1e-3)
        assert probe(target).frames == count


@pytest.mark.parametrize("fps", [1, 8, 23.976, 30, 50])
def test_a_gif_lasts_as_long_and_loops(tmp_path, fps):
    write_video(tmp_path / "a.mp4", blocks(15, fps), "")
    with Image.open(exported(tmp_path / "a.mp4", tmp_path, "gif")) as picture:
        assert picture.info["loop"] == 0
        lasts = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert len(lasts) == 15
    assert sum(lasts) == pytest.approx(15_000 / fps, abs=10)


def test_a_gif_of_a_still_clip_has_all_its_frames(tmp_path):
    write_video(tmp_path / "a.mp4", Video(np.full((9, 16, 32, 3), 99, np.uint8), 8), "")
    assert probe(exported(tmp_path / "a.mp4", tmp_path, "gif")).frames == 9


def test_a_gif_has_the_colours_of_its_clip(tmp_path):
    ramp = np.zeros((3, 16, 128, 3), np.uint8)
    ramp[..., 0] = np.arange(128) + 100  # shades of one colour: a palette for everything would miss most of them
    write_video(tmp_path / "a.mp4", Video(ramp, 8), "")
    assert np.abs(pixels(exported(tmp_path / "a.mp4", tmp_path, "gif")) - pixels(tmp_path / "a.mp4")).max() <= 5


def test_what_a_gif_cannot_play_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(3, fps=60), "")
    with pytest.raises(MediaError, match="has 60 frames a second, a GIF at most 50: export another kind"):
        exported(tmp_path / "a.mp4", tmp_path, "gif")
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("kind", VIDEOS)
def test_the_recipe_goes_along(tmp_path, clip, kind):
    assert read_recipe(exported(clip, tmp_path, kind)) == RECIPE


def test_the_recipe_goes_into_the_zip(tmp_path, clip):
    with zipfile.ZipFile(exported(clip, tmp_path, "png")) as archive:
        assert archive.read("recipe.json").decode() == RECIPE


@pytest.mark.parametrize("kind", VIDEOS)
def test_the_longest_recipe_goes_along(tmp_path, kind):
    text = json.dumps("★;" * (MAX_RECIPE_BYTES // 4 - 1), ensure_ascii=False)
    write_video(tmp_path / "a.mp4", numbered(2), text)
    target = exported(tmp_path / "a.mp4", tmp_path, kind) if kind != "h264" else tmp_path / "a.mp4"
    assert read_recipe(target) == text


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_clean_copy_says_nothing(tmp_path, clip, kind):
    target = exported(clip, tmp_path, kind, recipe=False)
    content = target.read_bytes().lower()
    assert b"prompt" not in content and b"comment" not in content and b"lavie" not in content
    if kind == "png":
        with zipfile.ZipFile(target) as archive:
            assert len(archive.namelist()) == 18
    else:
        assert read_recipe(target) is None
        assert pixels(target).shape == pixels(clip).shape


@pytest.mark.parametrize("kind", EXPORTS)
def test_frames_are_not_gathered_in_memory(tmp_path, monkeypatch, clip, kind):
    if kind == "h264":
        monkeypatch.setattr("app.media.export.is_like_ours", lambda source: False)  # else there are no frames at all
    alive = []
    for module in ("export",):
        monkeypatch.setattr(f"app.media.{module}.frames_of", lambda path: watched(frames_of(path), alive))
    exported(clip, tmp_path, kind)
    assert len(alive) >= 18 and max(alive) <= 4


# In a process of its own, since the most memory ever used is all that a process can tell.
MEMORY = """
import resource, sys
from app.media import EXPORTS, export_clip

def used():
    mine, encoders = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine, encoders

for source in sys.argv[1:3]:
    for kind, chosen in EXPORTS.items():
        export_clip(source, sys.argv[3] + "/out" + chosen.suffix, kind)
    print(*used())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the unit of memory is another")
def test_a_long_clip_needs_no_more_memory_than_a_short_one(tmp_path):
    for name, count in [("short", 20), ("long", 320)]:  # the long one's frames, as filters keep them: 79 MB
        write_video(tmp_path / f"{name}.mp4", blocks(count, fps=24, width=320, height=192), "")
    code = [sys.executable, "-c", MEMORY, tmp_path / "short.mp4", tmp_path / "long.mp4", tmp_path]
    short, long = subprocess.run(code, capture_output=True, text=True, check=True).stdout.splitlines()
    growth = [int(after) - int(before) for before, after in zip(short.split(), long.split(), strict=True)]
    assert max(growth) < 30_000  # KiB


@pytest.mark.parametrize("kind", ["webm", "gif", "png", "ffv1"])
def test_odd_sizes_are_kept(tmp_path, kind):
    Image.fromarray(blocks(1, width=33, height=57).frames[0]).save(tmp_path / "a.png")
    target = exported(tmp_path / "a.png", tmp_path, kind)
    after = pictures(target) if kind == "png" else pixels(target)
    assert np.abs(after - pixels(tmp_path / "a.png")).mean() <= 4
    assert after.shape == (1, 57, 33, 3)


@pytest.mark.parametrize("kind", ["h264", "prores"])
def test_odd_sizes_are_refused_where_they_cannot_be(tmp_path, kind):
    Image.fromarray(blocks(1, width=33, height=57).frames[0]).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"33.*even.*export another kind"):
        exported(tmp_path / "a.png", tmp_path, kind)
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_foreign_video_becomes_h264(tmp_path, clip):
    foreign = exported(clip, tmp_path, "webm")
    target = exported(foreign, tmp_path, "h264")
    assert probe(target).codec == "h264" and np.abs(pixels(target) - pixels(foreign)).mean() <= 2
    assert read_recipe(target) == RECIPE


DOTENV = """
import os, sys
import dotenv
dotenv.find_dotenv = lambda *arguments, **options: sys.argv[1]
from app.media import export_clip
export_clip(sys.argv[2], sys.argv[3], "ffv1")
print(os.environ.get("FROM_DOTENV"), os.environ.get("PYTHON_DOTENV_DISABLED"), "moviepy" in sys.modules)
"""


def test_no_file_of_settings_is_loaded_behind_our_back(tmp_path, clip):
    (tmp_path / ".env").write_text("FROM_DOTENV=loaded\n")
    code = [sys.executable, "-c", DOTENV, tmp_path / ".env", clip, tmp_path / "a.mkv"]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None", "True"]
