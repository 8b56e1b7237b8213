"""Cuts fall where they were asked for, and clips follow each other without a frame too many or too few."""

import os
import sys
from itertools import islice, pairwise

import av
import numpy as np
import pytest

from app.media import frames_of, probe, read_recipe, read_video
from app.media.export import Effects, _fit_sound, join, trim
from app.media.reading import SOUND_RATE, samples_of
from lavie.errors import MediaError
from lavie.video import Video
from tests.app.media.clips import exported, ffmpeg, numbered, pixels, watched, write_video

AAC_FRAME = 1024 / SOUND_RATE  # seconds


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


@pytest.fixture
def sound(tmp_path):
    """A function that makes a file with a tone of some seconds, of the kind of its suffix."""

    def make(name="tone.wav", seconds=1.0, *options):
        ffmpeg(
            "-f",
            "lavfi",
            "-i",
            f"sine=duration={seconds}:sample_rate={SOUND_RATE}",
            *options,
            tmp_path / name,
        )
        return tmp_path / name

    return make


def heard(path):
    """All samples of a file, between -1 and 1, and how loud each twentieth of them is."""
    samples = np.concatenate(list(samples_of(path))) / 32768
    return samples, [float(np.abs(part).max()) for part in np.array_split(samples, 20)]


def stream_seconds(path):
    """Kind → (codec, seconds) of a file's streams."""
    with av.open(str(path)) as container:
        return {
            stream.type: (stream.codec_context.name, float(stream.duration * stream.time_base))
            for stream in container.streams
        }


@pytest.mark.parametrize("fps", [8, 23.976, 30])
@pytest.mark.parametrize(
    ("speed", "loop"), [(2, 1), (4, 1), (0.25, 1), (0.5, 1), (1.1, 1), (1.5, 1), (3, 1), (1, 3), (2, 3), (0.7, 2)]
)
def test_speed_and_loops_pick_exactly_the_frames(tmp_path, fps, speed, loop):
    write_video(tmp_path / "a.mp4", numbered(47, fps), "")
    source = pixels(tmp_path / "a.mp4").mean(axis=(1, 2, 3))
    trim(tmp_path / "a.mp4", tmp_path / "b.mp4", 3, 44, effects=Effects(speed, loop))
    numbers = [number for number in (int(round(place * speed, 6)) for place in range(200)) if number < 41]
    assert levels(tmp_path / "b.mp4") == pytest.approx(np.tile(source[3:44][numbers], loop), abs=2)
    assert probe(tmp_path / "b.mp4").fps == pytest.approx(fps, rel=1e-4)


def test_double_speed_halves_the_number_of_frames(tmp_path, clips):
    trim(clips[0], tmp_path / "d.mp4", 0, 6, effects=Effects(speed=2))
    assert probe(tmp_path / "d.mp4").frames == 3


@pytest.mark.parametrize("crossfade", [0, 3])
def test_joined_clips_change_their_speed_and_play_again(tmp_path, clips, crossfade):
    join(clips, tmp_path / "d.mp4", crossfade)
    whole = levels(tmp_path / "d.mp4")
    join(clips, tmp_path / "e.mp4", crossfade, "of the whole", Effects(0.5, 2))
    assert levels(tmp_path / "e.mp4") == pytest.approx(np.tile(np.repeat(whole, 2), 2), abs=2)
    assert read_recipe(tmp_path / "e.mp4") == "of the whole"


def test_effects_that_change_nothing_give_the_same_file_without_moviepy(tmp_path, clips, monkeypatch):
    join(clips, tmp_path / "d.mp4", 2)
    monkeypatch.setitem(sys.modules, "moviepy", None)  # cannot be imported
    join(clips, tmp_path / "e.mp4", 2, effects=Effects(speed=1.0, loop=1))
    assert (tmp_path / "d.mp4").read_bytes() == (tmp_path / "e.mp4").read_bytes()


def test_effects_keep_few_frames_in_memory(tmp_path, monkeypatch, sound):
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", numbered(40), "")
    alive = []
    monkeypatch.setattr("app.media.export.frames_of", lambda path: watched(frames_of(path), alive))
    join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "d.mp4", 3, effects=Effects(0.5, 3, sound()))
    assert probe(tmp_path / "d.mp4").frames == 77 * 2 * 3
    assert len(alive) >= 240 and max(alive) <= 8


@pytest.mark.parametrize("seconds", [0.3, 30])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tone.mp3", []),
        ("tone.wav", []),
        ("tone.m4a", []),
        ("vorbis.ogg", ["-c:a", "libvorbis"]),
        ("opus.ogg", ["-c:a", "libopus"]),
        ("tone.flac", ["-ac", "1", "-ar", "22050"]),
        ("video.mkv", ["-f", "lavfi", "-i", "testsrc=size=32x16:duration=1"]),
    ],
)
def test_sound_is_repeated_or_cut_to_the_length_of_the_video(tmp_path, sound, name, options, seconds):
    write_video(tmp_path / "a.mp4", numbered(53, 23.976), "of a")
    trim(tmp_path / "a.mp4", tmp_path / "b.mp4", 0, 53, "of b", Effects(sound=sound(name, seconds, *options)))
    streams = stream_seconds(tmp_path / "b.mp4")
    assert streams["audio"][0] == "aac"
    assert streams["audio"][1] == pytest.approx(streams["video"][1], abs=AAC_FRAME)
    samples, loud = heard(tmp_path / "b.mp4")
    assert len(samples) / SOUND_RATE == pytest.approx(53 / 23.976, abs=AAC_FRAME)
    assert min(loud[:15]) > 0.08 and loud[15] > loud[17] > loud[19] and np.abs(samples[-100:]).max() < 0.01
    assert np.abs(pixels(tmp_path / "b.mp4") - pixels(tmp_path / "a.mp4")).max() <= 4
    assert read_recipe(tmp_path / "b.mp4") == "of b"


def test_sound_is_repeated_to_the_sample_and_fades_at_the_end_alone(sound):
    tone = np.concatenate(list(samples_of(sound(seconds=0.123))))
    assert tone.shape == (round(0.123 * SOUND_RATE), 2)
    length = 3 * SOUND_RATE + 7
    fitted = np.concatenate(list(_fit_sound(sound(seconds=0.123), length)))
    endless = np.resize(tone, (length, 2))
    fade = np.minimum((length - np.arange(length)) / (SOUND_RATE // 2), 1)
    assert np.array_equal(fitted, np.rint(endless * fade[:, None]))


def test_the_sound_does_not_follow_the_speed(tmp_path, clips, sound):
    tone = sound(seconds=5)
    join(clips, tmp_path / "d.mp4", effects=Effects(2, 2, tone))
    assert probe(tmp_path / "d.mp4").frames == 16
    samples, _ = heard(tmp_path / "d.mp4")
    spectrum = np.abs(np.fft.rfft(samples[:SOUND_RATE, 0]))
    assert len(samples) == pytest.approx(2 * SOUND_RATE, abs=1024) and spectrum.argmax() == 440  # ffmpeg's tone


@pytest.mark.parametrize("name", ["tone.mp3", "tone.wav", "tone.m4a", "tone.flac", "tone.ogg", "tone.mkv"])
def test_damaged_sound_is_refused(tmp_path, clips, sound, name):
    options = ["-c:a", "libvorbis"] if name == "tone.ogg" else []
    whole = sound(name, 2, *options).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no sound at all " * 99, b""):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(MediaError, match=f"{name} (is cut short|cannot be read as sound|is empty)") as caught:
            trim(clips[0], tmp_path / "d.mp4", 0, 6, effects=Effects(sound=tmp_path / name))
        assert "\n" not in str(caught.value) and len(str(caught.value)) - len(str(tmp_path)) <= 200
    assert sorted(os.listdir(tmp_path)) == sorted(["a.mp4", "b.mp4", "c.mp4", name])


def test_sound_that_is_none_is_refused(tmp_path, clips, sound):
    (tmp_path / "list.mp3").write_text(f"#EXTM3U\n#EXTINF:1,\n{sound()}\n#EXT-X-ENDLIST\n")
    for path, words in [
        (clips[1], r"b\.mp4 holds no sound: choose a sound file"),
        (tmp_path / "no.mp3", r"no\.mp3 is no file: check the name"),
        (tmp_path, "is no file"),
        (tmp_path / "list.mp3", r"list\.mp3 cannot be read as sound"),
        (sound("adpcm.wav", 1, "-c:a", "adpcm_ms"), r"adpcm\.wav is coded as adpcm_ms: convert it to mp3 or wav"),
    ]:
        with pytest.raises(MediaError, match=words):
            join(clips, tmp_path / "d.mp4", effects=Effects(sound=path))
    tone = sound("tone.mp4")
    with pytest.raises(MediaError, match="would replace what it is made from"):
        trim(clips[0], tone, 0, 2, effects=Effects(sound=tone))
    assert not (tmp_path / "d.mp4").exists() and not [name for name in os.listdir(tmp_path) if "partial" in name]


def test_a_streamed_wav_without_its_length_is_taken(tmp_path, clips, sound):
    data = bytearray(sound(seconds=0.5).read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(data)
    trim(clips[0], tmp_path / "d.mp4", 0, 6, effects=Effects(sound=tmp_path / "streamed.wav"))
    assert min(heard(tmp_path / "d.mp4")[1][:9]) > 0.08


def test_what_effects_cannot_be_is_named(tmp_path, clips):
    for options, words in [
        ({"speed": 0.2}, "a speed of 0.2 cannot be: choose between 0.25 and 4"),
        ({"speed": 4.1}, "a speed of 4.1 cannot be: choose between 0.25 and 4"),
        ({"speed": float("nan")}, "a speed of nan cannot be"),
        ({"loop": 0}, "a clip cannot play 0 times: choose between 1 and 20"),
        ({"loop": 21}, "a clip cannot play 21 times"),
    ]:
        with pytest.raises(MediaError, match=words):
            Effects(**options)
    write_video(tmp_path / "slow.mp4", numbered(30, fps=1), "")
    with pytest.raises(MediaError, match=r"d\.mp4 has 2,400.00 seconds, more than the 600.00 seconds allowed: cut it"):
        join([tmp_path / "slow.mp4"], tmp_path / "d.mp4", effects=Effects(0.25, 20))
    assert not (tmp_path / "d.mp4").exists()


def test_an_interrupted_cut_leaves_nothing(tmp_path, clips, sound, monkeypatch):
    def interrupted(path):
        yield from islice(frames_of(path), 4)
        raise KeyboardInterrupt

    tone = sound()
    monkeypatch.setattr("app.media.export.frames_of", interrupted)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        join(clips[:1], tmp_path / "d.mp4", effects=Effects(2, 20, tone))
    assert sorted(os.listdir(tmp_path)) == before


def test_a_cut_with_sound_can_be_exported(tmp_path, clips, sound):
    join(clips, tmp_path / "d.mp4", effects=Effects(sound=sound()))
    assert probe(exported(tmp_path / "d.mp4", tmp_path, "ffv1")).frames == 15
