"""Frames → our mp4: exactly the frames that were made, in their colours, with the recipe inside; whole or not at all.

Encoding goes through PyAV and not through moviepy: moviepy's `ImageSequenceClip` drops or repeats frames at most rates;
its writer rounds rates to two decimals, sets its own pixel format behind the arguments, takes no comment longer than an
argument of a command, and does not look at ffmpeg's exit code, so that a full disk can pass in silence. PyAV raises.
"""

from __future__ import annotations

import contextlib
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from app.media.containers import opened, packets_of
from app.media.files import check_output, temporary
from app.media.reading import check_comment, expect_frames
from app.media.stills import kind_of
from lavie.errors import MediaError
from lavie.files import publish
from lavie.video import Video

if typing.TYPE_CHECKING:
    import av
    import numpy as np

QUALITY = "16"  # x264's constant rate factor: no loss a person sees, flat colours within a level or two
MAX_FPS = 1000  # finer than the clocks of most containers
_BT709 = 1  # the number of BT.709 in every one of H.264's colour tables
_LIMITED_RANGE = 1
_CONTAINER = {"format": "mp4", "options": {"movflags": "+faststart"}}


def write_mp4(path: Path, video: Video, recipe_json: str) -> None:
    """Write H.264, yuv420p, BT.709, faststart; `recipe_json` goes into the container's `comment`.

    `path` appears, or is replaced, only when the new file is whole: encoded, counted and on the disk. Width and height
    must be even. Raises MediaError naming the path and the cause; then nothing is left behind.
    """
    encode_frames(path, video.frames, video.fps, recipe_json)


def encode_frames(path: Path, frames: Iterable[np.ndarray], fps: float, comment: str | Callable[[], str] = "") -> int:
    """As `write_mp4`, from frames (uint8 H W 3) that come one at a time and need not fit in memory. Says how many.

    comment: or what gives it once all frames have passed, as where it tells their hash. Whatever `frames` or `comment`
    raises goes through, and leaves no file.
    """
    path = Path(path)
    check_output(path)
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(temporary(path))
        if callable(comment):
            # The comment stands before the frames: it is put there by copying what is coded.
            bare = stack.enter_context(temporary(path))
            encode(bare, path, frames, fps, "")
            text = comment()
            check_comment(path, text)
            count = copy(bare, partial, text)
        else:
            check_comment(path, comment)
            count = encode(partial, path, frames, fps, comment)
        expect_frames(partial, count, path)
        publish(partial, path)
    return count


def as_rate(path: Path, fps: float) -> Fraction:
    """A rate as containers keep it: 23.976 is 24000/1001."""
    if not 1 / MAX_FPS <= fps <= MAX_FPS:
        raise MediaError(f"{path} cannot have {fps} frames a second: choose between {1 / MAX_FPS} and {MAX_FPS}")
    return Fraction(fps).limit_denominator(1001)


def same_size(path: Path, frames: Iterable[np.ndarray]) -> tuple[int, int, Iterator[np.ndarray]]:
    """Width and height of the first frame, and all of them, each checked to be a picture of that size."""
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise MediaError(f"{path} cannot be written without a frame: give at least one")
    if first.dtype != "uint8" or first.ndim != 3 or first.shape[2] != 3:
        raise MediaError(f"{path} needs frames uint8 H W 3, not {first.dtype} {first.shape}: convert them first")

    def checked() -> Iterator[np.ndarray]:
        for number, frame in enumerate(itertools.chain([first], iterator)):
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise MediaError(f"{path}: frame {number} is {frame.shape}, the first {first.shape}: make them alike")
            yield frame

    return first.shape[1], first.shape[0], checked()


def encode(partial: Path, path: Path, frames: Iterable[np.ndarray], fps: float, comment: str) -> int:
    """Encode to `partial`, a file that will be named `path`. How many frames there were."""
    import av

    rate = as_rate(path, fps)
    width, height, frames = same_size(path, frames)
    if width % 2 or height % 2:
        raise MediaError(
            f"{path} cannot be {width}×{height}: H.264 needs an even width and height; crop it by a pixel, or export "
            "another kind"
        )
    with av.open(str(partial), "w", **_CONTAINER) as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": QUALITY, "preset": "medium"}
        # Untagged video is guessed to be BT.601 or BT.709 by its height, and shows in wrong colours when guessed wrong.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        count = 0
        for pixels in frames:
            frame = _to_yuv(pixels)
            frame.pts = count
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    return count


def is_like_ours(source: Path) -> bool:
    """Whether a file holds what `write_mp4` would write, so that its coded frames can be taken over as they are."""
    if kind_of(source):
        return False
    with opened(source, None) as container:
        context = container.streams.video[0].codec_context
        coded = (context.name, context.pix_fmt, int(context.colorspace), int(context.color_range))
        return container.format.name.startswith("mov") and coded == ("h264", "yuv420p", _BT709, _LIMITED_RANGE)


def copy(source: Path, partial: Path, comment: str) -> int:
    """The coded frames of an mp4 like ours, bit for bit, with another comment. How many there were."""
    import av

    with contextlib.closing(packets_of(source)) as packets, av.open(str(partial), "w", **_CONTAINER) as container:
        container.metadata["comment"] = comment
        stream, count = None, 0
        for packet in packets:
            stream = stream or container.add_stream_from_template(packet.stream)
            packet.stream = stream
            container.mux(packet)
            count += 1
        return count


def _to_yuv(pixels: np.ndarray) -> av.VideoFrame:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuv420p",
        interpolation="BICUBIC",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )
