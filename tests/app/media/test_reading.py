"""Whatever is dropped in: its frames and measures, or a sentence that says what is wrong with it."""

import io
import os

import av
import numpy as np
import pytest
from PIL import Image

from app.media import MAX_RECIPE_BYTES, UPLOAD_LIMITS, export_clip, frames_of, probe, read_recipe, read_video
from lavie.errors import MediaError
from lavie.video import Video
from tests.app.media.clips import all_frames, blocks, ffmpeg, noise, numbered, pixels, watched, write_video


def test_a_file_is_measured(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(12, fps=24), "{}")
    info = probe(tmp_path / "a.mp4", UPLOAD_LIMITS)
    assert (info.frames, info.width, info.height, info.fps, info.codec) == (12, 32, 16, 24, "h264")
    assert info.duration == pytest.approx(0.5)
    assert info.bytes == os.path.getsize(tmp_path / "a.mp4")


def test_frames_come_one_at_a_time(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(40), "{}")
    alive = []
    frames = [frame.mean() for frame in watched(frames_of(tmp_path / "a.mp4"), alive)]
    assert len(frames) == 40 and frames == sorted(frames)
    assert 1 <= max(alive) <= 3


def test_closing_the_frames_closes_the_file(tmp_path, monkeypatch):
    closed = []

    class Watched(io.FileIO):
        def close(self):
            closed.append(self)
            super().close()

    write_video(tmp_path / "a.mp4", numbered(9), "{}")
    monkeypatch.setattr("io.FileIO", Watched)
    frames = frames_of(tmp_path / "a.mp4")
    next(frames)
    assert closed == []
    frames.close()
    assert closed


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "wrong name.mp4", "%03d.png"])
def test_a_picture_is_a_video_of_one_frame(tmp_path, name):
    picture = blocks(1).frames[0]
    kind = None if name.endswith(("gif", "jpg", "webp")) else "PNG"
    Image.fromarray(picture).save(tmp_path / name, kind, **({"quality": 95} if kind is None else {}))
    video = read_video(tmp_path / name, UPLOAD_LIMITS)
    assert len(video) == 1 and video.fps > 0
    middle = video.frames[0][24:40, 6:18].astype(int)
    assert np.abs(middle - (220, 40, 40)).max() <= 6
    info = probe(tmp_path / name, UPLOAD_LIMITS)
    assert (info.frames, info.width, info.height) == (1, 96, 64)
    assert read_recipe(tmp_path / name) is None


def test_a_moving_gif_is_a_video(tmp_path):
    first, *others = [Image.fromarray(frame) for frame in blocks(5).frames]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=120, loop=0)
    video = read_video(tmp_path / "a.gif", UPLOAD_LIMITS)
    assert np.abs(video.frames.astype(int) - blocks(5).frames).max() <= 1
    assert video.fps == pytest.approx(1 / 0.12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_phones_stand_upright(tmp_path, orientation):
    turned = np.zeros((32, 64, 3), np.uint8)
    turned[:16, :16] = 255  # a corner, told apart in all eight positions
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(turned).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_video(tmp_path / "a.jpg").frames[0].mean(-1) > 128
    rows, columns = upright.nonzero()
    corner = (rows.mean() > upright.shape[0] / 2, columns.mean() > upright.shape[1] / 2)
    top, left = False, False
    bottom, right = True, True
    wanted = [(top, left), (top, right), (bottom, right), (bottom, left), (top, left), (top, right)]
    wanted += [(bottom, right), (bottom, left)]
    assert upright.shape == ((32, 64) if orientation < 5 else (64, 32))
    assert corner == wanted[orientation - 1]


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_videos_of_phones_stand_upright(tmp_path, degrees, turns):
    write_video(tmp_path / "a.mp4", blocks(3), "{}")
    ffmpeg("-display_rotation", degrees, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    assert (pixels(tmp_path / "b.mp4") == np.rot90(pixels(tmp_path / "a.mp4"), turns, axes=(1, 2))).all()
    info = probe(tmp_path / "b.mp4")
    assert (info.width, info.height) == ((64, 96) if turns % 2 else (96, 64))


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparency_lies_over_black(tmp_path, name):
    picture = np.full((8, 8, 4), (200, 100, 50, 255), np.uint8)
    picture[:4, :, 3] = 0
    Image.fromarray(picture).save(tmp_path / name, lossless=True)
    frame = read_video(tmp_path / name).frames[0]
    assert not frame[:4].any() and (frame[4:] == (200, 100, 50)).all()


def test_a_gif_with_holes_lies_over_black(tmp_path):
    picture = np.full((8, 8, 4), (200, 100, 50, 255), np.uint8)
    picture[:4, :, 3] = 0
    Image.fromarray(picture).save(tmp_path / "a.gif")
    frame = read_video(tmp_path / "a.gif").frames[0]
    assert not frame[:4].any() and np.abs(frame[4:].astype(int) - (200, 100, 50)).max() <= 8


def test_gray_of_16_bits_is_scaled(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8040, np.uint16)).save(tmp_path / "a.png")
    assert (read_video(tmp_path / "a.png").frames == 128).all()


def test_sound_is_left_out(tmp_path):
    write_video(tmp_path / "a.mp4", blocks(8), "{}")
    tone = ["-f", "lavfi", "-i", "sine=duration=1"]
    ffmpeg(*tone, "-i", tmp_path / "a.mp4", "-map", "0", "-map", "1", "-c:v", "copy", tmp_path / "b.mp4")
    assert (pixels(tmp_path / "b.mp4") == pixels(tmp_path / "a.mp4")).all()
    ffmpeg("-i", tmp_path / "b.mp4", "-vn", tmp_path / "c.mp4")
    with pytest.raises(MediaError, match="holds no video"):
        probe(tmp_path / "c.mp4", UPLOAD_LIMITS)


@pytest.mark.parametrize("read", [read_video, read_recipe, probe, all_frames])
def test_what_is_no_video_is_refused(tmp_path, read):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(noise(1).frames.tobytes())
    (tmp_path / "a.mp4").mkdir()
    for name, words in [
        ("text.mp4", "cannot be read as a video"),
        ("noise.mp4", "cannot be read as a video"),
        ("empty.mp4", "is empty, 0 bytes"),
        ("no.mp4", "is no file"),
        ("a.mp4", "is no file"),
        ("x" * 10_000, "is no file"),
    ]:
        with pytest.raises(MediaError, match=words) as caught:
            read(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["#EXTM3U\n#EXTINF:1,\na.mp4\n", "ffconcat version 1.0\nfile a.mp4\n"])
def test_a_playlist_opens_no_other_file(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_video("a.mp4", numbered(2), "{}")
    (tmp_path / "b.mp4").write_text(content)
    with pytest.raises(MediaError, match="cannot be read as a video"):
        probe("b.mp4")


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "gif", "png", "jpg", "webp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("read", [all_frames, probe])
def test_what_was_cut_short_is_refused(whole_files, tmp_path, kind, part, read):
    content = (whole_files / f"a.{kind}").read_bytes()
    (tmp_path / f"b.{kind}").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(MediaError, match=r"damaged|cut short"):
        read(tmp_path / f"b.{kind}")
    assert len(all_frames(whole_files / f"a.{kind}")) in (1, 12)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """One file of each kind that is read, without a comment that would take the cut instead of the frames."""
    folder = tmp_path_factory.mktemp("whole")
    video = noise(12)
    write_video(folder / "a.mp4", video, "")
    for kind, suffix in [("webm", "webm"), ("gif", "gif"), ("prores", "mov"), ("ffv1", "mkv")]:
        export_clip(folder / "a.mp4", folder / f"a.{suffix}", kind)
    for suffix in ("png", "jpg", "webp"):
        Image.fromarray(video.frames[0]).save(folder / f"a.{suffix}")
    return folder


def test_a_cut_between_two_frames_is_noticed(tmp_path):
    write_video(tmp_path / "a.mp4", noise(12), "")
    with av.open(str(tmp_path / "a.mp4")) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[: starts[6]])
    with pytest.raises(MediaError, match="cut short, 6 of 12 frames"):
        probe(tmp_path / "b.mp4")


def test_a_change_of_size_on_the_way_is_refused(tmp_path):
    for name, width in [("a", 32), ("b", 48)]:
        write_video(tmp_path / f"{name}.mp4", numbered(3, width=width), "")
        ffmpeg("-i", tmp_path / f"{name}.mp4", "-c", "copy", tmp_path / f"{name}.ts")
    (tmp_path / "c.ts").write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    ffmpeg("-i", tmp_path / "c.ts", "-c", "copy", tmp_path / "c.mkv")
    with pytest.raises(MediaError, match="changes its size at frame 3"):
        read_video(tmp_path / "c.mkv")


def test_a_moving_webp_is_refused_instead_of_losing_frames(tmp_path):
    first, *others = [Image.fromarray(frame) for frame in blocks(3).frames]
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    with pytest.raises(MediaError, match="moving WEBP: save it as gif or mp4"):
        read_video(tmp_path / "a.webp")


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_recipe_of_hostile_size_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("app.media.reading.MAX_RECIPE_BYTES", 2 * MAX_RECIPE_BYTES)
    write_video(tmp_path / "a.mp4", numbered(2), "ä" * (MAX_RECIPE_BYTES // 2 + 1))
    monkeypatch.undo()
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / f"b.{kind}")
    with pytest.raises(MediaError, match="has 1,048,578 bytes, a recipe has at most 1,048,576"):
        read_recipe(tmp_path / f"b.{kind}")
    assert probe(tmp_path / f"b.{kind}").frames == 2


def test_a_recipe_of_the_largest_size_comes_back(tmp_path):
    text = "★" * (MAX_RECIPE_BYTES // 3)
    write_video(tmp_path / "a.mp4", numbered(2), text)
    assert read_recipe(tmp_path / "a.mp4") == text


def test_a_comment_in_another_encoding_does_not_spoil_the_video(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), "marker")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content.replace(b"marker", b"m\xe4rker"))
    assert read_recipe(tmp_path / "a.mp4") == "m\ufffdrker"
    assert probe(tmp_path / "a.mp4").frames == 2


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", numbered(2), "{}")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # not chmod: it does not stop root
    with pytest.raises(MediaError, match=r"cannot be read .Permission denied.: check who may read it"):
        probe(tmp_path / "a.mp4")


def test_untagged_colours_are_those_ffmpeg_shows(tmp_path):
    frames = np.full((2, 64, 96, 3), (200, 30, 30), np.uint8)
    write_video(tmp_path / "a.mp4", Video(frames, 8), "")
    untagged = "scale=out_color_matrix=bt601,setparams=colorspace=unknown"
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", untagged, tmp_path / "b.mp4")
    assert np.abs(pixels(tmp_path / "b.mp4") - frames).max() <= 4
