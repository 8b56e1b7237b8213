"""Reads video and picture files: frames one at a time, properties, the recipe. A picture is a video of one frame.

Pillow reads png, jpeg and webp instead of ffmpeg: it tells the size before decoding, detects truncated files, and turns
photos upright, mirrored ones too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import typing
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.media.containers import (
    STILL_FPS,
    UPLOAD_LIMITS,
    Limits,
    check,
    decode,
    measure_shown,
    open_video,
    packets_of,
    read_header,
    to_rgb,
)
from lavie.errors import MediaError
from lavie.video import Video

if typing.TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

MAX_RECIPE_BYTES = 1 << 20
SOUND_RATE = 48_000  # samples a second of sound once it is read
_SOUND_CODECS = {"aac", "mp3", "vorbis", "opus", "flac", "alac", "ac3", "eac3"}  # beside all kinds of pcm
_SOUND_SLACK = 0.5  # seconds that a whole file's sound may be shorter than its header says
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow's decoders for foreign files
_KINDS = {b"\x89PNG\r\n\x1a\n": (0, "png"), b"\xff\xd8\xff": (0, "jpeg"), b"WEBP": (8, "webp")}  # mark: offset, kind


def kind_of(path: Path) -> str | None:
    """`png`, `jpeg` or `webp` according to the content; None for anything else."""
    with open(path, "rb") as file:
        head = file.read(16)
    return next((kind for mark, (start, kind) in _KINDS.items() if head[start:].startswith(mark)), None)


def read_still(path: Path, limits: Limits | None) -> tuple[np.ndarray, str]:
    """The picture as uint8 H W 3 sRGB, upright, transparency over black; and Pillow's name of its pixel format."""
    import numpy as np
    from PIL import Image, ImageOps

    with _open_still(path, limits) as picture:
        mode = picture.mode
        if mode.startswith("I"):  # 16 bits of gray, which Pillow would clip at 255 instead of scaling
            picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, upright).convert("RGB")), mode


@contextlib.contextmanager
def _open_still(path: Path, limits: Limits | None) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            check(path, limits, str(picture.format).lower(), pixels=picture.width * picture.height)
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "JPEG":  # a JPEG's other frames are previews
                raise MediaError(f"{path} is a moving {picture.format}: save it as gif or mp4")
            yield picture
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is larger than any picture taken here ({error}): scale it down") from error
    except Exception as error:  # its decoders raise any error on damaged files
        raise MediaError(f"{path} cannot be read as a picture ({error}): it is damaged") from error


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a file.

    Attributes:
        frames: counted, not taken from the header.
        width, height: as shown, in pixels.
        duration: seconds at `fps`.
        bytes: size of the file.
    """

    frames: int
    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str
    duration: float
    bytes: int


def probe(path: Path, limits: Limits | None = None) -> MediaInfo:
    """Decode a file to its end, one frame in memory at a time, and give its properties. Raises MediaError."""
    size = _check_file(path, limits)
    kind = kind_of(path)
    if kind:
        pixels, mode = read_still(path, limits)
        height, width = pixels.shape[:2]
        return MediaInfo(1, width, height, STILL_FPS, kind, mode, 1 / STILL_FPS, size)
    header = read_header(path, limits)
    sizes = list(decode(path, limits, measure_shown))
    width, height = sizes[0]
    duration = len(sizes) / header.fps
    return MediaInfo(len(sizes), width, height, header.fps, header.codec, header.pixel_format, duration, size)


def frames_of(path: Path, limits: Limits | None = None) -> Generator[np.ndarray, None, None]:
    """The frames as uint8 H W 3 sRGB, one in memory at a time. Closing the iterator closes the file.

    Checks the limits before decoding and with each frame, since headers can lie. Raises MediaError if the file cannot
    be read to its end.
    """
    _check_file(path, limits)
    if kind_of(path):
        yield read_still(path, limits)[0]
        return
    with contextlib.closing(decode(path, limits, to_rgb)) as frames:
        yield from frames


def read_video(path: Path, limits: Limits | None = None) -> Video:
    """All frames of a file in memory, in sRGB. Raises MediaError if it cannot be read to its end."""
    import numpy as np

    fps = fps_of(path, limits)
    return Video(np.stack(list(frames_of(path, limits))), fps)


def samples_of(path: Path) -> Generator[np.ndarray, None, None]:
    """The sound of a sound or video file as int16 N 2 at `SOUND_RATE`, some thousand samples at a time.

    Closing the iterator closes the file. Raises MediaError if there is no sound, or it is damaged or truncated.
    """
    import av

    _check_file(path, UPLOAD_LIMITS)
    with open_video(path, None, "sound") as container:
        stream = container.streams.audio[0]
        codec = "" if stream.codec_context is None else stream.codec_context.codec.canonical_name
        if codec not in _SOUND_CODECS and not codec.startswith("pcm_"):
            raise MediaError(f"the sound of {path} is coded as {codec or 'nothing known'}: convert it to mp3 or wav")
        resampler = av.AudioResampler("s16", "stereo", SOUND_RATE)
        claimed = float((stream.duration or 0) * (stream.time_base or 0))
        count = 0
        for frame in itertools.chain(container.decode(stream), [None]):  # None gives what the resampler holds
            for part in resampler.resample(frame):
                count += part.samples
                yield part.to_ndarray().reshape(-1, 2)
        seconds = count / SOUND_RATE
        if seconds < claimed - _SOUND_SLACK and container.format.name != "mp3":  # whose duration is often an estimate
            raise MediaError(f"{path} is cut short, {seconds:.1f} of {claimed:.1f} s are there: get a whole copy")
        if not count:
            raise MediaError(f"{path} holds no sound, 0 samples: choose another file")


def read_recipe(path: Path, limits: Limits | None = None) -> str | None:
    """The text of the container's `comment`, or None. `Recipe.from_json` tells whether it is a recipe.

    Raises MediaError if the file cannot be read or the text is larger than `MAX_RECIPE_BYTES`.
    """
    _check_file(path, limits)
    if kind_of(path):
        return None
    with open_video(path, limits) as container:
        # Matroska has names in capitals.
        texts = [text for name, text in container.metadata.items() if name.lower() == "comment" and text]
    if not texts:
        return None
    check_comment(path, texts[0])
    return texts[0]


def check_comment(path: Path, text: str) -> None:
    """Raises MediaError if the comment is too large or cannot be encoded."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise MediaError(f"the comment of {path} is no text ({error.reason}): take half characters out") from None
    if size > MAX_RECIPE_BYTES:
        raise MediaError(
            f"the comment of {path} has {size:,} bytes, a recipe has at most {MAX_RECIPE_BYTES:,}: shorten or remove it"
        )


def fps_of(path: Path, limits: Limits | None = None) -> float:
    """Frames a second according to the header."""
    _check_file(path, limits)
    return STILL_FPS if kind_of(path) else read_header(path, limits).fps


def count_frames(path: Path) -> int:
    """The number of frames without decoding them: exact enough to choose frames, not to check a file."""
    _check_file(path, None)
    return 1 if kind_of(path) else sum(1 for _ in packets_of(path))


def expect_frames(partial: Path, count: int, path: Path) -> None:
    """Raises MediaError unless the new file `partial`, later `path`, holds `count` readable frames."""
    try:
        written = sum(1 for _ in decode(partial, None, lambda frame: None))
    except MediaError as error:
        raise MediaError(f"{path} was not written: it came out damaged ({error}); check the disk") from error
    if written != count:
        raise MediaError(f"{path} was not written: {written} of {count} frames came out; check the disk")


def _check_file(path: Path, limits: Limits | None) -> int:
    """The size of a readable file. Raises MediaError."""
    if not os.path.isfile(path):  # unlike Path.is_file, False for impossible names
        raise MediaError(f"{path} is no file: check the name")
    try:
        size = os.path.getsize(path)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}): check who may read it") from error
    if not size:
        raise MediaError(f"{path} is empty, 0 bytes: get a whole copy of it")
    check(path, limits, bytes=size)
    return size
