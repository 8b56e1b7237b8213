"""Our mp4 holds exactly the frames that were made, or is not there."""

import os
import subprocess
import sys

import av
import numpy as np
import pytest

from app.media import MAX_RECIPE_BYTES, check_output, encode, probe, read_recipe, read_video, write_mp4
from lavie.errors import MediaError
from lavie.video import Video
from tests.app.media.clips import leftovers, numbered, watched, write_video

COLOURS = [(200, 30, 30), (30, 180, 40)]


@pytest.mark.parametrize("size", [(2, 2), (96, 64), (384, 256), (512, 320), (1280, 720)])
def test_colours_survive(tmp_path, size):
    width, height = size
    frames = np.zeros((2, height, width, 3), np.uint8)
    frames[0], frames[1] = COLOURS
    write_video(tmp_path / "a.mp4", Video(frames, 8), "{}")
    back = read_video(tmp_path / "a.mp4").frames.astype(int)
    assert back.shape == frames.shape
    assert np.abs(back - frames).max() <= 3


@pytest.mark.parametrize("fps", [1, 8, 10, 12, 23.976, 24, 24000 / 1001, 29.97, 32, 60, 120])
@pytest.mark.parametrize("count", [1, 2, 61])
def test_every_frame_is_there_in_order_at_its_rate(tmp_path, fps, count):
    video = numbered(count, fps)
    write_video(tmp_path / "a.mp4", video, "{}")
    back = read_video(tmp_path / "a.mp4")
    assert len(back) == count
    assert back.fps == pytest.approx(fps, rel=1e-4)
    assert np.abs(back.frames.astype(int) - video.frames).max() <= 3


def test_the_file_is_what_browsers_play(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(4), "{}")
    info = probe(tmp_path / "a.mp4")
    assert (info.frames, info.width, info.height, info.codec, info.pixel_format) == (4, 32, 16, "h264", "yuv420p")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = [context.colorspace, context.color_primaries, context.color_trc, context.color_range]
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]  # BT.709 three times, limited range
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # faststart


def test_the_recipe_comes_back_unchanged(tmp_path):
    text = '{"prompt": "ein \\"roter\\" Stern\\n★ 日本", "long": "' + "x" * 60_000 + '"}'
    write_video(tmp_path / "a.mp4", numbered(2), text)
    assert read_recipe(tmp_path / "a.mp4") == text


def test_a_file_without_a_comment_has_no_recipe(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), "")
    assert read_recipe(tmp_path / "a.mp4") is None


@pytest.mark.parametrize("size", [(33, 16), (32, 17)])
def test_odd_sizes_are_refused(tmp_path, size):
    with pytest.raises(MediaError, match=f"{size[0]}×{size[1]}.*even"):
        write_video(tmp_path / "a.mp4", numbered(2, width=size[0], height=size[1]), "{}")
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be_are_named_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for path, words in [
        (tmp_path / "missing" / "a.mp4", "does not exist: create it"),
        (tmp_path / "file" / "a.mp4", "does not exist: create it"),
        (tmp_path / "folder.mp4", "is a folder: name a file"),
        (tmp_path, "is a folder: name a file"),
        (tmp_path / "a.avi", "does not end in .mp4: name it"),
        (tmp_path / ("x" * 252 + ".mp4"), "too long: shorten it"),
    ]:
        with pytest.raises(MediaError, match=words) as caught:
            check_output(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # not chmod: it does not stop root
    with pytest.raises(MediaError, match="no permission: choose a folder"):
        check_output(tmp_path / "a.mp4")


def test_checking_an_output_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    check_output(tmp_path / "a.mp4")
    check_output(tmp_path / "b.mp4")
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


def test_the_longest_name_can_be_written(tmp_path):
    name = "ä" * 125 + ".mp4"  # 254 bytes
    write_video(tmp_path / name, numbered(2), "{}")
    assert os.listdir(tmp_path) == [name]


# In a process of its own, because a limit on the size of files, once lowered, stays. It stands for a full disk: the
# same call of the system fails half-way through the file.
FULL_DISK = """
import resource, sys
import numpy as np
from app.media import write_mp4
from lavie.errors import MediaError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
try:
    write_mp4(sys.argv[1], noise, 8, "{}")
except MediaError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files to test with")
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(2), "old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert str(path) in done.stdout and "larger than this system allows" in done.stdout
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert read_recipe(path) == "old"


def test_a_full_disk_is_called_so(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MediaError, match="the disk is full: free some space"):
        write_video(tmp_path / "a.mp4", numbered(2), "{}")
    assert os.listdir(tmp_path) == []


def test_an_interruption_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(2), "old")

    def interrupt(partial, path):
        assert leftovers(tmp_path)  # it is all written, only the name is missing
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_video(path, numbered(3), "new")
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert read_recipe(path) == "old"


def test_a_file_that_lost_frames_never_gets_its_name(tmp_path, monkeypatch):
    whole = encode.encode_h264
    monkeypatch.setattr(
        encode, "encode_h264", lambda partial, path, frames, *more: 1 + whole(partial, path, frames[1:], *more)
    )
    with pytest.raises(MediaError, match="3 of 4 frames"):
        write_video(tmp_path / "a.mp4", numbered(4), "{}")
    assert os.listdir(tmp_path) == []


def test_a_file_that_came_out_damaged_never_gets_its_name(tmp_path, monkeypatch):
    whole = encode.encode_h264

    def damage(partial, *more):
        count = whole(partial, *more)
        partial.write_bytes(partial.read_bytes()[:-300])
        return count

    monkeypatch.setattr(encode, "encode_h264", damage)
    with pytest.raises(MediaError, match=r"a\.mp4 was not written.*check the disk"):
        write_video(tmp_path / "a.mp4", numbered(4), "{}")
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_replaced_by_the_whole_new_one(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), "old")
    write_video(tmp_path / "a.mp4", numbered(5), "new")
    assert (probe(tmp_path / "a.mp4").frames, read_recipe(tmp_path / "a.mp4")) == (5, "new")


def test_frames_may_come_one_at_a_time(tmp_path):
    video = numbered(40)
    alive = []
    assert write_mp4(tmp_path / "a.mp4", watched((frame.copy() for frame in video.frames), alive), 8) == 40
    assert probe(tmp_path / "a.mp4").frames == 40
    assert 1 <= max(alive) <= 4


def test_a_comment_may_tell_of_all_frames(tmp_path):
    seen = []

    def frames():
        for frame in numbered(12).frames:
            seen.append(frame)
            yield frame

    assert write_mp4(tmp_path / "a.mp4", frames(), 8, lambda: f"{len(seen)} ★") == 12
    write_mp4(tmp_path / "b.mp4", numbered(12).frames, 8, "12 ★")
    assert read_recipe(tmp_path / "a.mp4") == read_recipe(tmp_path / "b.mp4") == "12 ★"
    assert np.array_equal(read_video(tmp_path / "a.mp4").frames, read_video(tmp_path / "b.mp4").frames)
    assert probe(tmp_path / "a.mp4").fps == 8 and sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("comment", "error"), [(lambda: "x" * (MAX_RECIPE_BYTES + 1), MediaError), (lambda: 1 / 0, ZeroDivisionError)]
)
def test_a_late_comment_that_cannot_be_leaves_no_file(tmp_path, comment, error):
    with pytest.raises(error):
        write_mp4(tmp_path / "a.mp4", numbered(2).frames, 8, comment)
    assert os.listdir(tmp_path) == []


def test_an_error_in_the_frames_goes_through_and_leaves_the_old_file(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), "old")

    def frames():
        yield from numbered(30).frames
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(tmp_path / "a.mp4", frames(), 8)
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert read_recipe(tmp_path / "a.mp4") == "old"


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "without a frame: give at least one"),
        ([np.zeros((16, 32), np.uint8)], r"uint8 H W 3, not uint8 \(16, 32\): convert"),
        ([np.zeros((16, 32, 3))], "not float64"),
        ([np.zeros((16, 32, 3), np.uint8), np.zeros((16, 34, 3), np.uint8)], r"frame 1 is \(16, 34, 3\), the first"),
    ],
)
def test_what_are_no_frames_is_refused(tmp_path, frames, words):
    with pytest.raises(MediaError, match=words):
        write_mp4(tmp_path / "a.mp4", frames, 8)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -1, 1e-9, 1e9, float("nan")])
def test_a_rate_that_cannot_be_is_refused(tmp_path, fps):
    with pytest.raises(MediaError, match=f"{fps} frames a second: choose between"):
        write_mp4(tmp_path / "a.mp4", numbered(2).frames, fps)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("comment", "words"),
    [("x" * (MAX_RECIPE_BYTES + 1), "has 1,048,577 bytes, a recipe has at most 1,048,576"), ("\ud800", "half charact")],
)
def test_a_comment_that_could_not_be_read_back_is_not_written(tmp_path, comment, words):
    with pytest.raises(MediaError, match=words):
        write_video(tmp_path / "a.mp4", numbered(2), comment)
    assert os.listdir(tmp_path) == []
