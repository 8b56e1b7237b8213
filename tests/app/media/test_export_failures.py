"""An export that fails, for whatever reason, says so and leaves nothing behind."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from app.media import EXPORTS, export, export_clip, frames_of
from lavie.errors import MediaError
from tests.app.media.clips import exported, leftovers, noise, write_video


def test_what_cannot_be_is_named_with_the_way_out(tmp_path, clip):
    for source, target, kind, words in [
        (clip, tmp_path / "a.mp4", "avi", "no export 'avi': choose one of h264, webm"),
        (clip, tmp_path / "a.mp4", "webm", r"does not end in \.webm: name it .*a\.webm"),
        (clip, tmp_path / "missing" / "a.webm", "webm", "does not exist: create it"),
        (clip, clip, "h264", "would replace what it is made from"),
        (tmp_path / "no.mp4", tmp_path / "a.webm", "webm", "is no file"),
    ]:
        with pytest.raises(MediaError, match=words):
            export_clip(source, target, kind)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_damaged_source_leaves_no_file(tmp_path, kind):
    write_video(tmp_path / "a.mp4", noise(12), "")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(MediaError, match="damaged"):
        exported(tmp_path / "a.mp4", tmp_path, kind)
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_interruption_leaves_the_old_file(tmp_path, monkeypatch, clip, kind):
    target = tmp_path / f"out{EXPORTS[kind].suffix}"
    target.write_bytes(b"old")

    def interrupted(path):
        yield from list(frames_of(path))[:5]
        assert leftovers(tmp_path) or kind in ("gif", "h264")  # a palette, or the order of frames, comes first
        raise KeyboardInterrupt

    monkeypatch.setattr("app.media.export.is_like_ours", lambda source: False)
    monkeypatch.setattr("app.media.export.frames_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_clip(clip, target, kind)
    assert os.listdir(tmp_path) == [target.name] and target.read_bytes() == b"old"


# In a process of its own: see test_mp4.
FULL_DISK = """
import resource, sys
from app.media import EXPORTS, export_clip
from lavie.errors import MediaError
resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, 80_000))
for kind, chosen in EXPORTS.items():
    try:
        export_clip(sys.argv[1], sys.argv[2] + "/out" + chosen.suffix, kind)
    except MediaError as error:
        print(kind, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files to test with")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "a.mp4"
    write_video(source, noise(20), "{}")
    code = [sys.executable, "-c", FULL_DISK, source, tmp_path]
    told = subprocess.run(code, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in told] == list(EXPORTS)
    assert all(f"{tmp_path}/out{chosen.suffix}" in line for line, chosen in zip(told, EXPORTS.values(), strict=True))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("exit 3", "ffmpeg ended with 3"),
        ("echo 'out.webm: No space left on device' >&2; exit 1", "the disk is full: free some space"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="a script stands for ffmpeg")
def test_an_encoder_that_fails_is_noticed(tmp_path, monkeypatch, clip, said, words):
    script = tmp_path / "ffmpeg"
    script.write_text(f"#!/bin/sh\ncat >/dev/null\n{said}\n")
    script.chmod(0o755)
    monkeypatch.setattr("moviepy.video.io.ffmpeg_writer.FFMPEG_BINARY", str(script))
    with pytest.raises(MediaError, match=words):
        exported(clip, tmp_path, "webm")
    assert os.listdir(tmp_path) == ["ffmpeg"]


@pytest.mark.skipif(sys.platform == "win32", reason="a script stands for ffmpeg")
def test_an_encoder_that_dies_on_the_way_is_noticed(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho 'it is broken' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr("moviepy.video.io.ffmpeg_writer.FFMPEG_BINARY", str(script))
    write_video(tmp_path / "a.mp4", noise(20), "")
    with pytest.raises(MediaError, match="it is broken"):
        exported(tmp_path / "a.mp4", tmp_path, "webm")
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "ffmpeg"]


def test_an_encoder_that_loses_frames_is_noticed(tmp_path, monkeypatch, clip):
    whole, check_frames = EXPORTS["ffv1"], export.check_frames

    def lose_one(source, stored):
        width, height, frames = check_frames(source, stored)
        next(frames)
        return width, height, frames

    monkeypatch.setattr(export, "check_frames", lose_one)
    monkeypatch.setitem(EXPORTS, "ffv1", replace(whole, write=lambda *values: whole.write(*values) + 1))
    with pytest.raises(MediaError, match="17 of 18 frames came out"):
        exported(clip, tmp_path, "ffv1")
    assert os.listdir(tmp_path) == []
