"""Videos → frames, one at a time, by PyAV. Knows containers and codecs; knows no pictures and no recipes.

moviepy's reader would lose the last frame of many clips (it trusts a duration of two decimals) and cuts comments short.
"""

from __future__ import annotations

import contextlib
import io
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.media.limits import Limits, check
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import av
    import numpy as np


_GIF_EXTENSION, _GIF_IMAGE, _GIF_END, _GIF_FILLER = 0x21, 0x2C, 0x3B, 0x00
_READ_AHEAD = 1 << 18  # of a GIF, whose image data comes in thousands of blocks of 255 bytes


def check_whole(path: Path, file: io.FileIO) -> None:
    """Raises MediaError for a file that was cut off. Leaves `file` at its beginning."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head.startswith(b"\x1aE\xdf\xa3"):
        needed = _matroska_length(head)
        if needed > length:
            raise MediaError(f"{path} is cut short, {length:,} of {needed:,} bytes are there: get a whole copy")
    if head.startswith(b"GIF8") and not _gif_ends(file):
        raise MediaError(f"{path} is cut short, the end of the GIF is missing: get a whole copy")
    file.seek(0)


def _gif_ends(file: io.FileIO) -> bool:
    """Whether a GIF's blocks lead to its end mark. Some programs leave a few bytes behind it, some zeros in between."""
    file.seek(0)
    reader = io.BufferedReader(file, _READ_AHEAD)
    try:
        reader.read(10)  # signature, width and height
        reader.read(_colours(reader) + 2)  # a table, background and aspect
        while True:
            kind = _byte(reader)
            if kind == _GIF_END:
                return True
            if kind == _GIF_EXTENSION:
                reader.read(1)  # which one
            elif kind == _GIF_IMAGE:
                reader.read(8)  # place and size
                reader.read(_colours(reader) + 1)  # a table, the width of its codes
            elif kind == _GIF_FILLER:
                continue
            else:  # the file's end, or what is no block
                return False
            while size := _byte(reader):
                if size < 0 or len(reader.read(size)) < size:
                    return False
    finally:
        reader.detach()  # else it would close the file


def _colours(reader: io.BufferedReader) -> int:
    """Reads the byte that tells how large a table of colours follows: how many bytes."""
    packed = _byte(reader)
    return 3 << ((packed & 7) + 1) if packed >= 0 and packed & 0x80 else 0


def _byte(reader: io.BufferedReader) -> int:
    """The next one; −1 at the end."""
    byte = reader.read(1)
    return byte[0] if byte else -1


def _matroska_length(head: bytes) -> int:
    """Of the whole file, as its first bytes tell; 0 where they do not, as in live recordings."""
    size, start = _matroska_number(head, 4)
    start += size
    if head[start : start + 4] != b"\x18S\x80g":
        return 0
    size, start = _matroska_number(head, start + 4)
    return start + size


def _matroska_number(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length and where it ends; 0 for one that says "unknown" or is not there."""
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()
    end = start + length
    bits = 7 * length
    value = int.from_bytes(data[start:end], "big") & ((1 << bits) - 1)
    unknown = not first or len(data) < end or value == (1 << bits) - 1
    return (0 if unknown else value), end


T = typing.TypeVar("T")
STILL_FPS = 25.0  # of what has one frame and therefore no rate
# Only formats that are one file. A playlist under the name of a video would have ffmpeg read other files and addresses.
_OPTIONS = {"format_whitelist": "mov,mp4,matroska,webm,gif,avi", "protocol_whitelist": "file"}
_STREAMS = 16  # of a file, as far as its decoders are held to the limit of pixels from the first moment


@dataclass(frozen=True)
class Header:
    """What a video says of itself, before anything is decoded. width, height: as stored, not as turned."""

    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str


def read_header(path: Path, limits: Limits | None) -> Header:
    """Raises MediaError if there is no video, or one beyond the limits."""
    with opened(path, limits) as container:
        return _header(path, container, limits)


def decoded(path: Path, limits: Limits | None, take: Callable[[av.VideoFrame], T]) -> Iterator[T]:
    """`take` of every frame in order. Raises MediaError for damage, for what is missing or exceeds the limits."""
    with opened(path, limits) as container:
        _header(path, container, limits)
        stream = container.streams.video[0]
        if limits is not None:  # the coded picture may be larger than the container says
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


def packets_of(path: Path) -> Iterator[av.Packet]:
    """The coded frames, in coded order: about one a frame, and much faster to come by than frames."""
    with opened(path, None) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:  # else the empty one that marks the end
                yield packet


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as uint8 H W 3 in sRGB, by its own colour tags, the right way up, transparency over black.

    Untagged ones are taken as BT.601, as ffmpeg does.
    """
    import numpy as np
    from av.video.reformatter import ColorRange

    alpha = any(component.is_alpha for component in frame.format.components)
    kind = "rgba" if alpha else "rgb24"
    pixels = frame.reformat(format=kind, interpolation="BICUBIC", dst_color_range=ColorRange.JPEG).to_ndarray()
    if alpha:
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    turns = frame.rotation // 90 % 4  # phones store what the sensor saw and say how they were held
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Width and height of `to_rgb(frame)`."""
    return (frame.height, frame.width) if frame.rotation // 90 % 2 else (frame.width, frame.height)


@contextlib.contextmanager
def opened(path: Path, limits: Limits | None) -> Iterator[av.container.InputContainer]:
    """A container that has a video stream, closed afterwards. What goes wrong inside becomes a MediaError."""
    import av

    guard = [{"max_pixels": str(limits.pixels)}] * _STREAMS if limits else []
    try:
        with io.FileIO(path) as file:
            check_whole(path, file)
            # Without a name: content alone decides what it is, and no character of a name means anything to ffmpeg.
            file.name = ""
            with av.open(file, options=dict(_OPTIONS), stream_options=guard, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise MediaError(f"{path} holds no video: choose a video file")
                yield container
    except (OSError, ValueError, av.FFmpegError) as error:
        cause = getattr(error, "strerror", None) or error
        raise MediaError(f"{path} cannot be read as a video ({cause}): it is damaged or of another kind") from error


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
    if container.format.name == "gif" and stream.duration:  # uneven delays, of which only the first were looked at
        rate = stream.frames / (stream.duration * stream.time_base)
    return Header(context.width, context.height, float(rate), codec, str(context.pix_fmt))
