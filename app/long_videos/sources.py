"""Videos and pictures of people → frames in the model's size and rate: the last ones to continue, or all to join."""

from __future__ import annotations

import contextlib
import io
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.media import UPLOAD_LIMITS, Limits
from app.media.ending import Ending, Take, read_ending
from app.media.reading import fps_of, kind_of, read_still
from app.recipes.initial_frames import CROP, FITS, check_fit
from lavie.errors import MediaError
from lavie.video import Video

if typing.TYPE_CHECKING:
    import numpy as np

T = typing.TypeVar("T")

# Only the end of a video is read: an hour of 4K is allowed. Pixels: a phone's picture, or 8K.
SOURCE_LIMITS = Limits(
    bytes=128 << 30, seconds=6 * 3600, pixels=64_000_000, frames=6 * 3600 * 240, codecs=UPLOAD_LIMITS.codecs
)

# Other kinds of files by their first bytes: (offset, bytes) → name.
_NEITHER = {
    (0, b"ID3"): "sound",
    (0, b"\xff\xfb"): "sound",
    (0, b"fLaC"): "sound",
    (0, b"OggS"): "an Ogg file",
    (8, b"WAVE"): "sound",
    (4, b"ftypM4A"): "sound",
    (4, b"ftyphei"): "a HEIC picture",
    (4, b"ftypmif1"): "a HEIC picture",
    (0, b"#EXTM3U"): "a playlist",
    (0, b"ffconcat"): "a playlist",
    (0, b"%PDF"): "a document",
    (0, b"PK\x03\x04"): "an archive",
}
_WAY_OUT = "choose a video (mp4, mov, mkv, webm, avi, gif) or a picture (png, jpeg, webp)"


@dataclass(frozen=True)
class StartFrames:
    """A video of exactly the size and rate that was asked for, and notices for the person on what was done to it."""

    video: Video
    notices: tuple[str, ...]


def read_start(
    path: Path, size: tuple[int, int], fps: float, most_frames: int, fit: str = CROP, limits: Limits = SOURCE_LIMITS
) -> StartFrames:
    """The last frames of a file, for the model to continue.

    Args:
        path: a video, or a picture, which is one frame.
        size: width and height of the model's frames.
        fps: the model's rate. The last frame is the file's last; those before it are the ones shown 1/fps, 2/fps …
            earlier, whatever the file's own rate.
        most_frames: at least 1. A shorter file gives all it has.
        fit: `crop` cuts to the model's shape; `letterbox` keeps all and adds black bars.

    Raises MediaError for a file that cannot be read, RequestError for an unknown fit.
    """
    import numpy as np

    check_fit(fit)
    ending = _read_end(
        Path(path), fps, most_frames, lambda pixels, stretch: fit_picture(pixels, stretch, size, fit), limits
    )
    return StartFrames(Video(np.stack(ending.pictures), fps), _notices(ending, size, fps, fit))


def read_whole(
    path: Path,
    size: tuple[int, int],
    fps: float,
    most_frames: int,
    fit: str,
    take: Callable[[np.ndarray], T],
    limits: Limits = SOURCE_LIMITS,
) -> tuple[list[T], tuple[str, ...]]:
    """All frames of a file, each passed through `take`, which gets uint8 H W 3; and notices. See `read_start`.

    At most two pictures are in memory at once. Also raises MediaError, before decoding, for more than `most_frames`.
    """
    check_fit(fit)
    path = Path(path)
    count = math.ceil(_read_end(path, fps, 1, lambda *_: None, limits).seconds * fps)
    if count > most_frames:
        raise MediaError(
            f"{path} has {count} frames at {fps:g} a second, more than the {most_frames} that can be taken whole: "
            "cut it into shorter ones"
        )

    def fit_and_take(pixels: np.ndarray, stretch: float) -> T:
        return take(fit_picture(pixels, stretch, size, fit))

    ending = _read_end(path, fps, min(count + 1, most_frames), fit_and_take, limits)
    return ending.pictures, _notices(ending, size, fps, fit)


def preview(path: Path, size: tuple[int, int], limits: Limits = SOURCE_LIMITS) -> dict[str, bytes]:
    """The last frame as the model will see it: fit → PNG. Raises MediaError."""

    def both(pixels: np.ndarray, stretch: float) -> dict[str, bytes]:
        return {fit: _png(fit_picture(pixels, stretch, size, fit)) for fit in FITS}

    ending = _read_end(Path(path), 1.0, 1, both, limits)
    return ending.pictures[-1]


def fit_picture(pixels: np.ndarray, stretch: float, size: tuple[int, int], fit: str) -> np.ndarray:
    """Resize a picture uint8 H W 3, whose pixels are `stretch` times wider than high, with Lanczos' filter."""
    import numpy as np
    from PIL import Image

    picture, (width, height) = Image.fromarray(pixels), size
    if fit == CROP:
        kept_width, kept_height = _largest_crop(picture.width * stretch, picture.height, size)
        kept_width /= stretch
        left, top = (picture.width - kept_width) / 2, (picture.height - kept_height) / 2
        box = (left, top, left + kept_width, top + kept_height)
        return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=box))
    inside = _inside(picture.width * stretch, picture.height, size)
    framed = Image.new("RGB", size)
    place = ((width - inside[0]) // 2, (height - inside[1]) // 2)
    framed.paste(picture.resize(inside, Image.Resampling.LANCZOS), place)
    return np.asarray(framed)


def _read_end(path: Path, fps: float, count: int, take: Take[T], limits: Limits) -> Ending[T]:
    _check_kind(path)
    fps_of(path, limits)  # raises if something is wrong with the file
    if not kind_of(path):
        return read_ending(path, limits, fps, count, take)
    pixels, _ = read_still(path, limits)
    height, width = pixels.shape[:2]
    return Ending([take(pixels, 1.0)], 1, 0.0, width, height, 1, False)


def _check_kind(path: Path) -> None:
    head = b""
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:  # the reader reports what is wrong
        head = file.read(512)
    for (start, mark), words in _NEITHER.items():
        if head[start:].startswith(mark):
            raise MediaError(f"{path} is {words}, not a video: {_WAY_OUT}")
    if head and all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        raise MediaError(f"{path} is a text, not a video: {_WAY_OUT}")


def _largest_crop(width: float, height: float, size: tuple[int, int]) -> tuple[float, float]:
    """The size of the largest part of a picture that has the shape of `size`."""
    shape = size[0] / size[1]
    return min(width, height * shape), min(height, width / shape)


def _inside(width: float, height: float, size: tuple[int, int]) -> tuple[int, int]:
    """The largest size of a picture within `size`."""
    scale = min(size[0] / width, size[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _notices(ending: Ending, size: tuple[int, int], fps: float, fit: str) -> tuple[str, ...]:
    quality = _describe_quality(ending, size, fps)
    return _describe_length(ending, fps), *_describe_fit(ending, size, fit), *quality


def _describe_length(ending: Ending, fps: float) -> str:
    if not ending.seconds:
        return "The picture was taken as one frame."
    taken = len(ending.pictures) / fps
    if taken < ending.seconds - 1 / fps:
        return f"The last {_length(taken)} of {_length(ending.seconds)} were taken."
    return f"All {_length(ending.seconds)} were taken."


def _describe_fit(ending: Ending, size: tuple[int, int], fit: str) -> list[str]:
    wanted = f"{size[0]}×{size[1]}"
    if fit == CROP:
        kept = _largest_crop(ending.width, ending.height, size)
        lost = [1 - part / whole for part, whole in zip(kept, (ending.width, ending.height), strict=True)]
        if max(part * whole for part, whole in zip(lost, size, strict=True)) < 0.5:
            return []
        sides = "left and right" if lost[0] > lost[1] else "above and below"
        return [f"It was cropped {sides} to {wanted}: {max(lost):.0%} of the picture is not seen."]
    inside = _inside(ending.width, ending.height, size)
    if inside == tuple(size):
        return []
    sides = "left and right" if inside[0] < size[0] else "above and below"
    return [f"Black bars were added {sides} to make it {wanted}; the model will go on with them."]


def _describe_quality(ending: Ending, size: tuple[int, int], fps: float) -> list[str]:
    notices = []
    if ending.width < 0.75 * size[0] and ending.height < 0.75 * size[1]:
        notices.append(
            f"It has only {ending.width:.0f}×{ending.height:.0f} pixels and was enlarged: it will look soft."
        )
    count = len(ending.pictures)
    if ending.different < count:
        again = f"{count - ending.different} of the {count} frames are repeated"
        notices.append(f"{again}: it has fewer there than the model's {fps:g} a second.")
    if ending.hdr:
        notices.append("It is an HDR video, whose colours look paler here: convert it to SDR for true ones.")
    return notices


def _length(seconds: float) -> str:
    """A length in words."""
    if seconds < 9.95:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60 if whole < 3600 else 0, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
