"""A GIF that was cut anywhere is refused, however its bytes fall; a whole one is taken, whoever wrote it."""

import io
import os
import time

import pytest
from PIL import Image

from app.media import export_clip, frames_of
from app.media.containers import check_whole
from lavie.errors import MediaError
from tests.app.media.clips import all_frames, noise, write_video

COMMENT = '{"prompt": "a; b; c"}; ;;;'  # full of end marks


@pytest.fixture(scope="module")
def gifs(tmp_path_factory):
    """The same frames as ffmpeg and as Pillow write them: one table of colours, or one for each picture."""
    folder = tmp_path_factory.mktemp("gifs")
    video = noise(3, width=24, height=16)
    write_video(folder / "a.mp4", video, COMMENT)
    export_clip(folder / "a.mp4", folder / "ffmpeg.gif", "gif")
    first, *others = [Image.fromarray(frame) for frame in video.frames]
    first.save(folder / "pillow.gif", save_all=True, append_images=others, duration=120, comment=COMMENT, loop=0)
    return {name: (folder / f"{name}.gif").read_bytes() for name in ("ffmpeg", "pillow")}


def whole(path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        with io.FileIO(path) as file:
            check_whole(path, file)
            assert file.tell() == 0
    except MediaError as error:
        assert "is cut short, the end of the GIF is missing" in str(error)
        return False
    return True


@pytest.mark.parametrize("name", ["ffmpeg", "pillow"])
def test_a_gif_cut_at_any_byte_is_refused(gifs, tmp_path, name):
    content = gifs[name]
    assert content[:-1].count(b";") > 5
    assert whole(tmp_path / "b.gif", content)
    for stop in range(len(content) - 1, 3, -1):
        os.truncate(tmp_path / "b.gif", stop)
        with pytest.raises(MediaError, match="the end of the GIF is missing"), io.FileIO(tmp_path / "b.gif") as file:
            check_whole(tmp_path / "b.gif", file)


@pytest.mark.parametrize("name", ["ffmpeg", "pillow"])
@pytest.mark.parametrize("behind", [b"\0", b"any other thing", b"GIF89a"])
def test_whatever_is_behind_the_end_is_fine(gifs, tmp_path, name, behind):
    assert whole(tmp_path / "b.gif", gifs[name] + behind)
    assert len(all_frames(tmp_path / "b.gif")) == 3


def test_zeros_between_two_pictures_are_passed(gifs, tmp_path):
    content = gifs["pillow"]
    second = content.index(b"\x21\xf9", content.index(b"\x21\xf9") + 1)
    assert whole(tmp_path / "b.gif", content[:second] + bytes(3) + content[second:])


@pytest.mark.parametrize("seed", range(20))
def test_rubbish_is_refused_in_words(tmp_path, seed):
    rubbish = b"GIF89a" + noise(1).frames.tobytes()[seed * 50 : seed * 50 + 2000]
    (tmp_path / "b.gif").write_bytes(rubbish)
    with pytest.raises(MediaError):
        next(frames_of(tmp_path / "b.gif"))


def test_a_large_one_takes_no_time(tmp_path):
    """50 MB in blocks of 255 bytes: 0.2 seconds of computing; a look at each byte takes 5."""
    header = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0])
    picture = b"\x2c" + bytes(9) + b"\x08" + (b"\xff" + bytes(255)) * 200_000 + b"\0"
    (tmp_path / "b.gif").write_bytes(header + picture + b";")
    start = time.process_time()
    with io.FileIO(tmp_path / "b.gif") as file:
        check_whole(tmp_path / "b.gif", file)
    assert time.process_time() - start < 2
