"""What is beyond the limits of an upload is refused by its header, and where that lies or is silent, on the way."""

import struct
import zlib
from dataclasses import replace

import av
import pytest

from app.media import UPLOAD_LIMITS, probe, read_video
from lavie.errors import MediaError
from tests.app.media.clips import all_frames, ffmpeg, numbered, write_video

LIMITED = [
    ("bytes", 100, r"has [\d,]+ bytes, more than the 100 bytes allowed: cut it shorter or compress"),
    ("seconds", 1, r"has 1.50 seconds, more than the 1.00 seconds allowed: cut it shorter"),
    ("pixels", 511, r"has 512 pixels a frame, more than the 511 pixels a frame allowed: scale it down"),
    ("frames", 11, r"has 12 frames, more than the 11 frames allowed: cut it shorter"),
    ("codecs", frozenset({"vp9", "av1"}), "is coded as h264, which is not taken: convert it to one of av1, vp9"),
]


@pytest.mark.parametrize(("name", "limit", "words"), LIMITED)
@pytest.mark.parametrize("read", [probe, all_frames, read_video])
def test_a_limit_is_told_before_anything_is_decoded(tmp_path, monkeypatch, name, limit, words, read):
    write_video(tmp_path / "a.mp4", numbered(12), "{}")
    read(tmp_path / "a.mp4", UPLOAD_LIMITS)
    monkeypatch.setattr("app.media.containers.to_rgb", lambda frame: pytest.fail("decoded"))
    monkeypatch.setattr("app.media.containers.measure_shown", lambda frame: pytest.fail("decoded"))
    with pytest.raises(MediaError, match=words):
        read(tmp_path / "a.mp4", replace(UPLOAD_LIMITS, **{name: limit}))


@pytest.mark.parametrize(("name", "limit", "words"), [LIMITED[1], LIMITED[3]])
def test_a_limit_holds_where_the_header_is_silent(tmp_path, name, limit, words):
    write_video(tmp_path / "a.mp4", numbered(14), "{}")
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", "-f", "matroska", "-live", "1", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.duration is None and not container.streams.video[0].frames
    with pytest.raises(MediaError, match=words.replace("1.50", "1.12")):
        all_frames(tmp_path / "b.mkv", replace(UPLOAD_LIMITS, **{name: limit}))
    assert len(all_frames(tmp_path / "b.mkv", UPLOAD_LIMITS)) == 14


def test_a_small_file_with_a_huge_picture_is_refused_undecoded(tmp_path):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for side, words in [(9000, "has 81,000,000 pixels a frame, more than the 16,777,216"), (20_000, "400000000 pix")]:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
        (tmp_path / "a.png").write_bytes(content + chunk(b"IEND", b""))
        with pytest.raises(MediaError, match=f"{words}.*scale it down"):
            probe(tmp_path / "a.png", UPLOAD_LIMITS)
