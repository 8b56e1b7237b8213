"""Writes frames as mp4 with the recipe inside, and as webp pictures. Files appear whole or not at all.

PyAV encodes instead of moviepy: moviepy's `ImageSequenceClip` drops or repeats frames at most rates; its writer rounds
rates to two decimals, overrides the pixel format, limits a comment to the length of a command's argument, and ignores
ffmpeg's exit code, so that a full disk goes unnoticed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from app.media.containers import open_video, packets_of
from app.media.files import check_output, temporary
from app.media.reading import SOUND_RATE, check_comment, count_frames, expect_frames, fps_of, frames_of, kind_of
from lavie.errors import MediaError
from lavie.files import publish

if typing.TYPE_CHECKING:
    import av
    import numpy as np
    from PIL.Image import Image

QUALITY = "16"  # x264's constant rate factor: no visible loss, flat colours within a level or two
MAX_FPS = 1000  # finer than the clocks of most containers
POSTER_SIDE, PREVIEW_SIDE, PREVIEW_FRAMES = 512, 256, 24
_BT709 = 1  # the number of BT.709 in each of H.264's colour tables
_LIMITED_RANGE = 1
_SOUND_BITS = 192_000  # a second
_CONTAINER: dict[str, Any] = {"format": "mp4", "options": {"movflags": "+faststart"}}
_WEBP: dict[str, Any] = {"quality": 80, "method": 4}


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    comment: str | Callable[[], str] = "",
    sound: Iterable[np.ndarray] | None = None,
) -> int:
    """Write H.264, yuv420p, BT.709, faststart; the number of frames.

    Replaces `path` only when the new file is complete: encoded, counted and synced. Raises MediaError with path and
    cause, and whatever `frames` or `comment` raises; then no file is left behind.

    Args:
        frames: uint8 H W 3, of even width and height; need not fit in memory.
        comment: the recipe, for the container's `comment`; or a function that gives it after the last frame.
        sound: int16 N 2 at `SOUND_RATE`, in parts of any length; not together with a function for the comment.
    """
    path = Path(path)
    check_output(path)
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(temporary(path))
        if callable(comment):
            # The comment stands before the frames: the coded frames are copied behind it.
            bare = stack.enter_context(temporary(path))
            encode_h264(bare, path, frames, fps, "")
            text = comment()
            check_comment(path, text)
            count = copy_packets(bare, partial, text)
        else:
            check_comment(path, comment)
            count = encode_h264(partial, path, frames, fps, comment, sound)
        expect_frames(partial, count, path)
        publish(partial, path)
    return count


def encode_h264(
    partial: Path,
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    comment: str,
    sound: Iterable[np.ndarray] | None = None,
) -> int:
    """Encode to `partial`, whose later name is `path`; the number of frames."""
    import av

    rate = to_rate(path, fps)
    width, height, frames = check_frames(path, frames)
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
        # Players guess the colours of untagged video by its height, and often wrong.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        heard = iter(()) if sound is None else _encode_sound(container, sound)
        seconds = next(heard, math.inf)
        count = 0
        for pixels in frames:
            frame = _to_yuv(pixels)
            frame.pts = count
            container.mux(stream.encode(frame))
            count += 1
            while seconds < count / rate:
                seconds = next(heard, math.inf)
        container.mux(stream.encode())
        for _ in heard:
            pass
    return count


def _encode_sound(container: av.container.OutputContainer, sound: Iterable[np.ndarray]) -> Generator[float, None, None]:
    """Add a stream of AAC and encode the sound part by part; the seconds encoded so far, 0 first."""
    import av

    stream = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
    stream.bit_rate = _SOUND_BITS
    yield 0.0
    count = 0
    for samples in sound:
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = SOUND_RATE, Fraction(1, SOUND_RATE), count
        container.mux(stream.encode(frame))
        count += len(samples)
        yield count / SOUND_RATE
    container.mux(stream.encode())


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


def copy_packets(source: Path, partial: Path, comment: str) -> int:
    """Copy the coded frames of an mp4 like ours bit for bit, with another comment; the number of frames."""
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


def is_like_ours(source: Path) -> bool:
    """Whether a file is coded as `write_mp4` does it, so that its coded frames can be copied."""
    if kind_of(source):
        return False
    with open_video(source, None) as container:
        context = container.streams.video[0].codec_context
        coded = (context.name, context.pix_fmt, int(context.colorspace), int(context.color_range))
        return container.format.name.startswith("mov") and coded == ("h264", "yuv420p", _BT709, _LIMITED_RANGE)


def to_rate(path: Path, fps: float) -> Fraction:
    """A rate as containers store it: 23.976 is 24000/1001."""
    if not 1 / MAX_FPS <= fps <= MAX_FPS:
        raise MediaError(f"{path} cannot have {fps} frames a second: choose between {1 / MAX_FPS} and {MAX_FPS}")
    return Fraction(fps).limit_denominator(1001)


def check_frames(path: Path, frames: Iterable[np.ndarray]) -> tuple[int, int, Iterator[np.ndarray]]:
    """Width and height of the first frame, and all frames, each checked against the first as it comes."""
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise MediaError(f"{path} cannot be written without a frame: give at least one")
    if first.dtype != "uint8" or first.ndim != 3 or first.shape[2] != 3:
        raise MediaError(f"{path} needs frames uint8 H W 3, not {first.dtype} {first.shape}: convert them first")

    def check() -> Generator[np.ndarray, None, None]:
        for number, frame in enumerate(itertools.chain([first], iterator)):
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise MediaError(f"{path}: frame {number} is {frame.shape}, the first {first.shape}: make them alike")
            yield frame

    return first.shape[1], first.shape[0], check()


def write_poster(source: Path, target: Path) -> None:
    """Write the middle frame of `source` as webp, its longest side at most `POSTER_SIDE`. Raises MediaError."""
    source, target = Path(source), Path(target)
    check_output(target, ".webp", sources=(source,))
    (poster,) = _pick_frames(source, [count_frames(source) // 2], POSTER_SIDE)
    with temporary(target) as partial:
        poster.save(partial, "WEBP", **_WEBP)
        publish(partial, target)


def write_preview(source: Path, target: Path) -> None:
    """Write at most `PREVIEW_FRAMES` frames, spread over `source`, as a looping webp of the same duration. Raises
    MediaError."""
    source, target = Path(source), Path(target)
    check_output(target, ".webp", sources=(source,))
    count = count_frames(source)
    shown = min(count, PREVIEW_FRAMES)
    pictures = _pick_frames(source, [(2 * n + 1) * count // (2 * shown) for n in range(shown)], PREVIEW_SIDE)
    _save_animation(target, pictures, count / fps_of(source))


def write_animation(target: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames uint8 H W 3, scaled down, as a looping webp. Raises MediaError."""
    target = Path(target)
    check_output(target, ".webp")
    _save_animation(target, [_shrink(frame, PREVIEW_SIDE) for frame in frames], len(frames) / fps)


def _save_animation(target: Path, pictures: Sequence[Image], seconds: float) -> None:
    """seconds: duration of the whole."""
    # Differences of rounded start times, so that rounding errors do not add up.
    starts = [round(n * 1000 * seconds / len(pictures)) for n in range(len(pictures) + 1)]
    durations = [max(1, end - start) for start, end in itertools.pairwise(starts)]
    with temporary(target) as partial:
        first, *others = pictures
        first.save(partial, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **_WEBP)
        publish(partial, target)


def _pick_frames(source: Path, numbers: Sequence[int], side: int) -> list[Image]:
    """The frames of these ascending numbers, scaled down; the last frame if the clip is shorter."""
    pictures: list[Image] = []
    wanted = iter(numbers)
    number, last = next(wanted, None), None
    with contextlib.closing(frames_of(source)) as frames:
        for index, last in enumerate(frames):
            if index == number:
                pictures.append(_shrink(last, side))
                number = next(wanted, None)
                if number is None:
                    break
    if not pictures and last is not None:
        pictures.append(_shrink(last, side))
    return pictures


def _shrink(pixels: np.ndarray, side: int) -> Image:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture
