"""What is in a file: its frames one at a time, its measures, its recipe. Videos and single pictures look alike here.

Does not know what a recipe says, nor where files are kept.
"""

from __future__ import annotations

import contextlib
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.media.containers import STILL_FPS, decoded, opened, packets_of, read_header, shown_size, to_rgb
from app.media.limits import Limits, check
from app.media.stills import kind_of, read_still
from lavie.errors import MediaError
from lavie.video import Video

if typing.TYPE_CHECKING:
    import numpy as np

MAX_RECIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class MediaInfo:
    """What is in a file. frames: counted, not claimed. width, height: pixels as shown. fps: frames a second.

    duration: in seconds at that rate. bytes: of the file.
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
    """Decode a file to its end and say what it holds, one frame in memory at a time. Raises MediaError."""
    size = _check_file(path, limits)
    kind = kind_of(path)
    if kind:
        pixels, mode = read_still(path, limits)
        height, width = pixels.shape[:2]
        return MediaInfo(1, width, height, STILL_FPS, kind, mode, 1 / STILL_FPS, size)
    header = read_header(path, limits)
    sizes = list(decoded(path, limits, shown_size))
    width, height = sizes[0]
    duration = len(sizes) / header.fps
    return MediaInfo(len(sizes), width, height, header.fps, header.codec, header.pixel_format, duration, size)


def frames_of(path: Path, limits: Limits | None = None) -> Iterator[np.ndarray]:
    """The frames as uint8 H W 3 sRGB, one in memory at a time; a single picture is a video of one frame.

    The limits are checked when the first frame is asked for, before anything is decoded, and again with every frame,
    since headers can lie. Closing the iterator closes the file. Raises MediaError if the end cannot be reached.
    """
    _check_file(path, limits)
    if kind_of(path):
        yield read_still(path, limits)[0]
        return
    with contextlib.closing(decoded(path, limits, to_rgb)) as frames:
        yield from frames


def read_video(path: Path, limits: Limits | None = None) -> Video:
    """Every frame of a file, in sRGB, all in memory. Raises MediaError if it cannot be read to its end."""
    import numpy as np

    fps = fps_of(path, limits)
    return Video(np.stack(list(frames_of(path, limits))), fps)


def read_recipe(path: Path, limits: Limits | None = None) -> str | None:
    """The text in the container's `comment`, or None. Whether it is a recipe, `Recipe.from_json` knows.

    Raises MediaError if the file cannot be read, or if the text is larger than `MAX_RECIPE_BYTES`.
    """
    _check_file(path, limits)
    if kind_of(path):
        return None
    with opened(path, limits) as container:
        # Matroska's names come in capitals.
        texts = [text for name, text in container.metadata.items() if name.lower() == "comment" and text]
    if not texts:
        return None
    check_comment(path, texts[0])
    return texts[0]


def check_comment(path: Path, text: str) -> None:
    """Raises MediaError for a comment that is too large, or that is no text a file can hold."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise MediaError(f"the comment of {path} is no text ({error.reason}): take half characters out") from None
    if size > MAX_RECIPE_BYTES:
        raise MediaError(
            f"the comment of {path} has {size:,} bytes, a recipe has at most {MAX_RECIPE_BYTES:,}: shorten or remove it"
        )


def fps_of(path: Path, limits: Limits | None = None) -> float:
    """The rate, by the header alone."""
    _check_file(path, limits)
    return STILL_FPS if kind_of(path) else read_header(path, limits).fps


def count_frames(path: Path) -> int:
    """How many frames a file has, without decoding them: to choose among them, not to check them."""
    _check_file(path, None)
    return 1 if kind_of(path) else sum(1 for _ in packets_of(path))


def expect_frames(partial: Path, count: int, path: Path) -> None:
    """Make sure that a file just written holds `count` frames, all of them readable; `path` is its name to be."""
    try:
        written = sum(1 for _ in decoded(partial, None, lambda frame: None))
    except MediaError as error:
        raise MediaError(f"{path} was not written: it came out damaged ({error}); check the disk") from error
    if written != count:
        raise MediaError(f"{path} was not written: {written} of {count} frames came out; check the disk")


def _check_file(path: Path, limits: Limits | None) -> int:
    """The size of a file that may be read."""
    if not os.path.isfile(path):  # unlike Path.is_file, False for names that no system takes
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
