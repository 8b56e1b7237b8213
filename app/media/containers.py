"""Decodes videos frame by frame with PyAV, within limits.

moviepy's reader loses the last frame of many clips, since it trusts a duration of two decimals, and truncates comments.
"""

from __future__ import annotations

import contextlib
import io
import typing
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import av
    import numpy as np

T = typing.TypeVar("T")
STILL_FPS = 25.0  # of a single frame, which has no rate
# Only formats of one file: from a playlist disguised as a video, ffmpeg would read other files and addresses.
_FORMATS = {"video": "mov,mp4,matroska,webm,gif,avi", "sound": "mov,mp4,matroska,webm,avi,mp3,wav,ogg,flac"}
_STREAMS = 16  # streams of a file whose decoders get the limit of pixels when it is open_video
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END, _GIF_FILLER = 0x21, 0x2C, 0x3B, 0x00
_UNKNOWN_SIZE = 0x7FFF0000
_READ_AHEAD = 1 << 18  # bytes; the image data of a GIF comes in thousands of blocks of 255 bytes


@dataclass(frozen=True)
class Limits:
    """The most that a file may hold. pixels: of a frame. codecs: ffmpeg's names; None for any."""

    bytes: int
    seconds: float
    pixels: int
    frames: int
    codecs: frozenset[str] | None


UPLOAD_LIMITS = Limits(
    bytes=2 << 30,
    seconds=600,
    pixels=4096 * 4096,
    frames=36_000,  # ten minutes at 60 frames a second
    codecs=frozenset(
        {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores", "ffv1", "mjpeg", "gif", "png", "jpeg", "webp"}
    ),
)

_WORDS = {  # name of a limit → a value in words, and the way out
    "bytes": ("{:,} bytes", "cut it shorter or compress it more"),
    "seconds": ("{:,.2f} seconds", "cut it shorter"),
    "pixels": ("{:,} pixels a frame", "scale it down"),
    "frames": ("{:,} frames", "cut it shorter"),
}


def check(path: Path, limits: Limits | None, codec: str | None = None, **found: float | None) -> None:
    """Raises MediaError for the first too large value of `found`, named as the limits; None is unknown."""
    if limits is None:
        return
    for name, value in found.items():
        limit = getattr(limits, name)
        if value is not None and value > limit:
            words, way_out = _WORDS[name]
            has, may = words.format(value), words.format(limit)
            raise MediaError(f"{path} has {has}, more than the {may} allowed: {way_out}")
    if codec is not None and limits.codecs is not None and codec not in limits.codecs:
        allowed = ", ".join(sorted(limits.codecs))
        raise MediaError(f"{path} is coded as {codec}, which is not taken: convert it to one of {allowed}")


def check_whole(path: Path, file: io.FileIO) -> None:
    """Raises MediaError for a truncated file. Leaves `file` at its beginning."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    needed = _matroska_length(head) if head.startswith(b"\x1aE\xdf\xa3") else _sound_length(file, head)
    if needed > length:
        raise MediaError(f"{path} is cut short, {length:,} of {needed:,} bytes are there: get a whole copy")
    if head.startswith(b"GIF8") and not _gif_ends(file):
        raise MediaError(f"{path} is cut short, the end of the GIF is missing: get a whole copy")
    file.seek(0)


def _gif_ends(file: io.FileIO) -> bool:
    """Whether a GIF's blocks lead to its end mark. There may be bytes behind it, and zeros between blocks."""
    file.seek(0)
    reader = io.BufferedReader(file, _READ_AHEAD)
    try:
        reader.read(10)  # signature, width and height
        reader.read(_read_table_size(reader) + 2)  # a table, background and aspect
        while True:
            kind = _read_byte(reader)
            if kind == _GIF_END:
                return True
            if kind == _GIF_EXTENSION:
                reader.read(1)  # its kind
            elif kind == _GIF_IMAGE:
                reader.read(8)  # position and size
                reader.read(_read_table_size(reader) + 1)  # a table, the width of its codes
            elif kind == _GIF_FILLER:
                continue
            else:  # the end of the file, or no block
                return False
            while size := _read_byte(reader):
                if size < 0 or len(reader.read(size)) < size:
                    return False
    finally:
        reader.detach()  # keeps the file open


def _read_table_size(reader: io.BufferedReader[io.FileIO]) -> int:
    """Read the byte that describes the colour table that follows; the table's size in bytes."""
    packed = _read_byte(reader)
    return 3 << ((packed & 7) + 1) if packed >= 0 and packed & 0x80 else 0


def _read_byte(reader: io.BufferedReader[io.FileIO]) -> int:
    """The next byte; −1 at the end."""
    byte = reader.read(1)
    return byte[0] if byte else -1


def _matroska_length(head: bytes) -> int:
    """Length of the file according to its first bytes; 0 if they do not tell it, as in live recordings."""
    size, start = _matroska_number(head, 4)
    start += size
    if head[start : start + 4] != b"\x18S\x80g":
        return 0
    size, start = _matroska_number(head, start + 4)
    return start + size


def _sound_length(file: io.FileIO, head: bytes) -> int:
    """Length of a wav or mp3 file according to its header; 0 if it does not tell it or is of another kind."""
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        size = int.from_bytes(head[4:8], "little")
        return size if size < _UNKNOWN_SIZE else 0  # a wav that was streamed has the largest size
    tags = head.startswith(b"ID3")  # their size is in 7 bits of each of four bytes
    start = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:10]))) if tags else 0
    file.seek(start)
    frame = file.read(256)
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[mark + 4 : mark + 8], "big")
    if not frame.startswith(b"\xff") or mark < 0 or not flags & 2:
        return 0
    place = mark + 8 + 4 * (flags & 1)  # behind the number of frames
    return start + int.from_bytes(frame[place : place + 4], "big")


def _matroska_number(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length and where it ends; 0 if it is unknown or missing."""
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()
    end = start + length
    bits = 7 * length
    value = int.from_bytes(data[start:end], "big") & ((1 << bits) - 1)
    unknown = not first or len(data) < end or value == (1 << bits) - 1
    return (0 if unknown else value), end


@dataclass(frozen=True)
class Header:
    """What a video's header says. width, height: as stored, before rotation."""

    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str


def read_header(path: Path, limits: Limits | None) -> Header:
    """Raises MediaError if there is no video or it exceeds the limits."""
    with open_video(path, limits) as container:
        return _header(path, container, limits)


def decode(path: Path, limits: Limits | None, take: Callable[[av.VideoFrame], T]) -> Generator[T, None, None]:
    """Apply `take` to each frame in order. Raises MediaError for a damaged or truncated file, and beyond the limits."""
    with open_video(path, limits) as container:
        _header(path, container, limits)
        stream = container.streams.video[0]
        if limits is not None:  # the coded frame may be larger than the container says
            stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        packets = count = 0
        size = None
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.is_corrupt:
                raise MediaError(f"{path} is damaged at frame {count}: get a whole copy of it")
            for frame in packet.decode():
                count += 1
                check(path, limits, frames=count, seconds=frame.time, pixels=frame.width * frame.height)
                size = size or (frame.width, frame.height)
                if size != (frame.width, frame.height):
                    raise MediaError(f"{path} changes its size at frame {count - 1}: convert it to one size")
                yield take(frame)
        if packets < stream.frames:
            raise MediaError(f"{path} is cut short, {packets} of {stream.frames} frames are there: get a whole copy")
        if not count:
            raise MediaError(f"{path} holds no frame: choose another video")


def packets_of(path: Path) -> Generator[av.Packet[Any], None, None]:
    """The coded frames in coded order, which is much faster than decoding them."""
    with open_video(path, None) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:  # an empty one marks the end
                yield packet


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as uint8 H W 3 sRGB, upright, with transparency over black.

    Frames without colour tags are taken as BT.601, as ffmpeg does.
    """
    import numpy as np
    from av.video.reformatter import ColorRange

    alpha = any(component.is_alpha for component in frame.format.components)
    kind = "rgba" if alpha else "rgb24"
    pixels = frame.reformat(format=kind, interpolation="BICUBIC", dst_color_range=ColorRange.JPEG).to_ndarray()
    if alpha:
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    turns = frame.rotation // 90 % 4  # phones store the sensor's picture and how they were held
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def measure_shown(frame: av.VideoFrame) -> tuple[int, int]:
    """Width and height of `to_rgb(frame)`."""
    return (frame.height, frame.width) if frame.rotation // 90 % 2 else (frame.width, frame.height)


@contextlib.contextmanager
def open_video(
    path: Path, limits: Limits | None, kind: typing.Literal["video", "sound"] = "video"
) -> Iterator[av.container.InputContainer]:
    """Open a file that has a stream of this kind. Errors inside the block become MediaError."""
    import av

    guard: Any = [{"max_pixels": str(limits.pixels)}] * _STREAMS if limits else []  # PyAV's stubs say list[str]
    try:
        with io.FileIO(path) as file:
            check_whole(path, file)
            # Without a name, content alone decides the format, and ffmpeg cannot misread the name.
            file.name = ""
            options = {"format_whitelist": _FORMATS[kind], "protocol_whitelist": "file"}
            with av.open(file, options=options, stream_options=guard, metadata_errors="replace") as container:
                if not (container.streams.video if kind == "video" else container.streams.audio):
                    raise MediaError(f"{path} holds no {kind}: choose a {kind} file")
                yield container
    except (OSError, ValueError, av.FFmpegError) as error:
        cause, word = getattr(error, "strerror", None) or error, "a video" if kind == "video" else kind
        raise MediaError(f"{path} cannot be read as {word} ({cause}): it is damaged or of another kind") from error


def _header(path: Path, container: av.container.InputContainer, limits: Limits | None) -> Header:
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{path} is coded in a way that is not known here: convert it to H.264")
    codec = context.codec.canonical_name
    check(
        path,
        limits,
        codec,
        pixels=context.width * context.height,
        frames=stream.frames,
        seconds=None if container.duration is None else container.duration / 1_000_000,
    )
    rate = stream.average_rate or stream.guessed_rate or STILL_FPS
    if container.format.name == "gif" and stream.duration and stream.time_base:
        rate = stream.frames / (stream.duration * stream.time_base)
    return Header(context.width, context.height, float(rate), codec, str(context.pix_fmt))
