"""Whatever people have becomes frames to go on from: the last ones, by their times, in the model's size; or a sentence
that says what is wrong."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from app.long_videos.sources import SOURCE_LIMITS, fit_picture, preview, read_start
from app.media import ending, export_clip
from app.media.ending import read_ending
from app.recipes.initial_frames import CROP, FITS, LETTERBOX
from lavie.errors import MediaError, RequestError
from lavie.video import Video
from tests.app.media.clips import blocks, ffmpeg, noise, numbered, write_video

SIZE, FPS = (64, 40), 8.0


def timed(path, times, levels, keys=12):
    """A video whose frames are shown from these seconds on, each of one brightness."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=30, options={"crf": "4", "g": str(keys), "bf": "2", "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for second, level in zip(times, levels, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * second), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def brightness(video: Video) -> list[float]:
    return video.frames.mean((1, 2, 3)).tolist()


def long_video(folder, suffix="mp4", *options):
    """An hour of a small picture in 36,000 frames, a key frame every five seconds."""
    second = folder / "second.mp4"
    picture = "testsrc=size=64x40:rate=10:duration=10"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast", "-g", 50, second)
    ffmpeg("-stream_loop", 359, "-i", second, "-c", "copy", *options, folder / f"long.{suffix}")
    return folder / f"long.{suffix}"


def test_an_even_video_gives_every_third_frame_and_its_last(tmp_path):
    levels = np.linspace(20, 235, 72).round()
    path = timed(tmp_path / "a.mp4", np.arange(72) / 24, levels)
    start = read_start(path, SIZE, FPS, 16)
    assert start.video.frames.shape == (16, 40, 64, 3) and start.video.fps == FPS
    assert brightness(start.video) == pytest.approx(levels[71 - 3 * 15 :: 3].tolist(), abs=1.5)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_of_uneven_frames_those_shown_at_each_moment_are_taken(tmp_path, suffix):
    """As phones film: 30 a second in the sun, 15 in the dark, now and then one is missing."""
    gaps = np.random.default_rng(0).choice([1 / 30, 1 / 15, 1 / 24, 0.4], 60, p=[0.5, 0.3, 0.15, 0.05])
    times = np.cumsum(gaps)
    levels = np.linspace(20, 235, 60).round()
    start = read_start(timed(tmp_path / f"a.{suffix}", times, levels), SIZE, FPS, 16)
    moments = times[-1] - np.arange(15, -1, -1) / FPS
    found = np.interp(brightness(start.video), levels, np.arange(60)).round().astype(int)
    assert found[-1] == 59
    slack = 0.5 * gaps.mean() + 0.002
    for moment, number in zip(moments, found, strict=True):
        shown_until = times[number + 1] if number < 59 else np.inf
        assert times[number] - slack <= moment <= shown_until + 0.002


def test_a_frame_that_is_held_is_repeated(tmp_path):
    path = timed(tmp_path / "a.mp4", [0, 0.1, 0.2, 1.2], [40, 80, 120, 200])
    start = read_start(path, SIZE, FPS, 16)
    # Moments 1.2, 1.075, 0.95 … 0.2 and 0.075
    assert brightness(start.video) == pytest.approx([80] + [120] * 8 + [200], abs=2)
    assert start.notices[-1].startswith("7 of the 10 frames are repeated")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_of_an_hour_only_the_end_is_decoded(tmp_path, monkeypatch, kind):
    recorded = ["-live", 1] if kind == "webm" else []  # as browsers do: neither an index nor a length
    path = long_video(tmp_path, "mkv" if recorded else kind, *recorded)
    turned = []
    monkeypatch.setattr(ending, "to_rgb", lambda frame, real=ending.to_rgb: turned.append(1) or real(frame))
    found = read_ending(path, SOURCE_LIMITS, FPS, 16, lambda pixels, stretch: pixels)
    assert found.decoded <= 100 and len(turned) <= 16 == len(found.pictures)
    assert found.seconds == pytest.approx(3600, abs=0.2)
    whole = read_ending(tmp_path / "second.mp4", None, FPS, 16, lambda pixels, stretch: pixels)
    assert all(np.array_equal(one, other) for one, other in zip(found.pictures, whole.pictures, strict=True))


def test_sound_that_goes_on_behind_the_pictures_hides_none(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(40), "")
    tone = ["-f", "lavfi", "-i", "sine=duration=90"]
    for suffix in ("mp4", "mkv"):
        ffmpeg("-i", tmp_path / "a.mp4", *tone, "-map", 0, "-map", 1, "-c:v", "copy", tmp_path / f"b.{suffix}")
        start = read_start(tmp_path / f"b.{suffix}", (32, 16), FPS, 16)
        assert brightness(start.video) == pytest.approx(numbered(40).frames.mean((1, 2, 3))[-16:], abs=2)
        assert start.notices == ("The last 2 s of 5 s were taken.",)


def test_an_end_without_a_key_frame_is_refused_where_it_would_take_too_long(tmp_path, monkeypatch):
    path = timed(tmp_path / "a.mp4", np.arange(300) / 24, np.linspace(20, 235, 300), keys=1000)
    assert len(read_start(path, SIZE, FPS, 16).video) == 16
    monkeypatch.setattr(ending, "MOST_DECODED", 299 * 64 * 48)
    with pytest.raises(MediaError, match=r"no key frame in its last 12 seconds.*convert it"):
        read_start(path, SIZE, FPS, 16)


def test_what_is_shorter_gives_what_there_is(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(5), "")
    start = read_start(tmp_path / "a.mp4", (32, 16), FPS, 16)
    assert brightness(start.video) == pytest.approx(numbered(5).frames.mean((1, 2, 3)), abs=2)
    assert start.notices == ("All 0.6 s were taken.",)


@pytest.mark.parametrize("suffix", ["gif", "mov", "mkv", "webm", "avi"])
def test_every_kind_of_video_is_read(tmp_path, suffix):
    kinds = {"gif": "gif", "mov": "prores", "mkv": "ffv1", "webm": "webm"}
    write_video(tmp_path / "a.mp4", numbered(30), "")
    if suffix in kinds:
        export_clip(tmp_path / "a.mp4", tmp_path / f"b.{suffix}", kinds[suffix])
    else:
        ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "mpeg4", "-q:v", 2, "-bf", 2, tmp_path / f"b.{suffix}")
    start = read_start(tmp_path / f"b.{suffix}", (32, 16), FPS, 16)
    tolerance = 12 if suffix == "gif" else 4  # whose clock counts in hundredths
    assert brightness(start.video) == pytest.approx(numbered(30).frames.mean((1, 2, 3))[-16:], abs=tolerance)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.mp4"])
def test_a_picture_is_one_frame(tmp_path, name):
    picture = blocks(1, width=128, height=80).frames
    if name == "a.mp4":
        write_video(tmp_path / name, Video(picture, 8), "")
    else:
        Image.fromarray(picture[0]).save(tmp_path / name)
    start = read_start(tmp_path / name, SIZE, FPS, 16)
    assert start.video.frames.shape == (1, 40, 64, 3)
    assert start.notices == ("The picture was taken as one frame.",)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (1, 0)), (180, (1, 1)), (270, (0, 1))])
def test_a_phones_video_stands_upright(tmp_path, degrees, corner):
    frames = np.zeros((8, 40, 64, 3), np.uint8)
    frames[:, :20, :20] = 255
    write_video(tmp_path / "a.mp4", Video(frames, 8), "")
    ffmpeg("-display_rotation", degrees, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    frame = read_start(tmp_path / "b.mp4", (40, 64) if degrees != 180 else (64, 40), FPS, 4).video.frames[-1]
    rows, columns = (frame.mean(-1) > 128).nonzero()
    assert (int(rows.mean() > frame.shape[0] / 2), int(columns.mean() > frame.shape[1] / 2)) == corner


@pytest.mark.parametrize("degrees", [0, 90])
def test_pixels_that_are_not_square_are_made_so(tmp_path, degrees):
    """64×40 shown as 128×40."""
    write_video(tmp_path / "a.mp4", Video(np.full((8, 40, 64, 3), 200, np.uint8), 8), "")
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", "setsar=2", tmp_path / "b.mp4")
    ffmpeg("-display_rotation", degrees, "-i", tmp_path / "b.mp4", "-c", "copy", tmp_path / "c.mp4")
    frame = read_start(tmp_path / "c.mp4", (128, 128), FPS, 1, LETTERBOX).video.frames[0]
    rows, columns = (frame.mean(-1) > 100).nonzero()
    size = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert size == ((128, 40) if not degrees else (40, 128))


def test_a_crop_is_the_middle_in_its_own_shape():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 200  # the middle square
    square = fit_picture(picture, 1.0, (50, 50), CROP)
    assert np.abs(square[:, 2:-2].astype(int) - 200).max() <= 2
    wide = fit_picture(picture, 1.0, (75, 50), CROP)
    assert wide[:, :10].max() <= 2 and wide[:, 16:58].min() >= 198


def test_a_letterboxed_picture_is_whole_between_black_bars():
    picture = np.full((100, 300, 3), 200, np.uint8)
    framed = fit_picture(picture, 1.0, (60, 40), LETTERBOX)
    assert framed.shape == (40, 60, 3)
    assert (framed[10:30] == 200).all() and not framed[:10].any() and not framed[30:].any()


def test_fine_patterns_become_grey_instead_of_coarse_ones():
    stripes = np.zeros((410, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    small = fit_picture(stripes, 1.0, SIZE, CROP)
    assert np.abs(small.astype(int) - 127).max() <= 6


def test_a_preview_is_the_last_frame_as_the_model_sees_it(tmp_path):
    write_video(tmp_path / "a.mp4", blocks(20), "")
    Image.fromarray(blocks(1).frames[0]).save(tmp_path / "a.png")
    for name in ("a.mp4", "a.png"):
        shown = preview(tmp_path / name, (64, 64))
        assert list(shown) == list(FITS)
        for fit, data in shown.items():
            wanted = read_start(tmp_path / name, (64, 64), FPS, 16, fit).video.frames[-1]
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), wanted)


SAID = [
    ((1280, 720), 96, CROP, ["The last 2 s of 12 s were taken.", "cropped left and right to 64×40: 10%"]),
    ((720, 1280), 8, CROP, ["All 1 s were taken.", "cropped above and below to 64×40: 65%"]),
    ((720, 1280), 8, LETTERBOX, ["All 1 s were taken.", "Black bars were added left and right to make it 64×40"]),
    ((128, 80), 8, LETTERBOX, ["All 1 s were taken."]),
    ((32, 20), 8, CROP, ["All 1 s were taken.", "only 32×20 pixels and was enlarged"]),
]


@pytest.mark.parametrize(("shape", "frames", "fit", "words"), SAID)
def test_what_was_done_is_said(tmp_path, shape, frames, fit, words):
    write_video(tmp_path / "a.mp4", numbered(frames, width=shape[0], height=shape[1]), "")
    notices = read_start(tmp_path / "a.mp4", SIZE, FPS, 16, fit).notices
    assert len(notices) == len(words)
    assert all(part in notice for part, notice in zip(words, notices, strict=True))


def test_colours_of_hdr_are_warned_of(tmp_path):
    write_video(tmp_path / "a.mp4", blocks(8), "")
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", "setparams=color_trc=arib-std-b67", tmp_path / "b.mp4")
    assert "HDR" in read_start(tmp_path / "b.mp4", (96, 64), FPS, 4).notices[-1]


@pytest.mark.parametrize("read", [lambda path: read_start(path, SIZE, FPS, 16), lambda path: preview(path, SIZE)])
def test_what_is_neither_video_nor_picture_is_refused_with_the_next_step(tmp_path, read):
    write_video(tmp_path / "a.mp4", numbered(2), "")
    tone = ["-f", "lavfi", "-i", "sine=duration=1"]
    Image.fromarray(noise(1).frames[0]).save(tmp_path / "cover.png")
    ffmpeg(*tone, tmp_path / "tone.mp4")
    ffmpeg(*tone, tmp_path / "tone.wav")
    cover = ["-i", tmp_path / "cover.png", "-map", 0, "-map", 1, "-c:v", "png", "-disposition:v", "attached_pic"]
    ffmpeg(*tone, *cover, tmp_path / "song.mp4")
    contents = {
        "empty.mp4": (b"", "is empty, 0 bytes: get a whole copy"),
        "text.mp4": (b"hello\nthere", "is a text, not a video: choose a video"),
        "list.mp4": (b"#EXTM3U\n#EXTINF:1,\na.mp4\n", "is a playlist, not a video: choose a video"),
        "concat.mp4": (b"ffconcat version 1.0\nfile a.mp4\n", "is a playlist"),
        "phone.heic": (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", "is a HEIC picture, not a video: choose"),
        "rubbish.mp4": (noise(1).frames.tobytes(), "cannot be read as a video"),
        "tone.mp4": (None, "holds no video: choose a video"),
        "tone.wav": (None, "is sound, not a video: choose a video"),
        "song.mp4": (None, "is sound with a picture on its cover: choose a video"),
        "none.mp4": (None, "is no file: check the name"),
        "x\0y.mp4": (None, "is no file: check the name"),
    }
    for name, (content, words) in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=words) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "avi", "gif", "png", "jpg"])
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_what_was_cut_short_is_refused(tmp_path, kind, part):
    video = noise(40)
    write_video(tmp_path / "a.mp4", video, "")
    exports = {"webm": "webm", "gif": "gif", "mov": "prores", "mkv": "ffv1"}
    if kind in exports:
        export_clip(tmp_path / "a.mp4", tmp_path / f"a.{kind}", exports[kind])
    elif kind == "avi":
        ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "mjpeg", tmp_path / "a.avi")
    elif kind != "mp4":
        Image.fromarray(video.frames[0]).save(tmp_path / f"a.{kind}")
    assert read_start(tmp_path / f"a.{kind}", (96, 64), FPS, 4)
    content = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"b.{kind}").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(MediaError, match=r"damaged|cut short"):
        read_start(tmp_path / f"b.{kind}", (96, 64), FPS, 4)


def test_an_unknown_fit_is_refused(tmp_path):
    with pytest.raises(RequestError, match="fit is 'stretch': choose crop or letterbox"):
        read_start(tmp_path / "a.mp4", SIZE, FPS, 16, "stretch")
