"""Frames ↔ mp4 files: exactly the frames that were made, in their colours, with the recipe inside; whole or not at all.

Knows containers and codecs. Does not know what a recipe says, nor where clips are kept.

Encoding goes through PyAV and not through moviepy: moviepy's `ImageSequenceClip` drops or repeats frames at most rates
and its reader loses the last one; its writer rounds rates to two decimals, sets its own pixel format behind the
arguments and does not look at ffmpeg's exit code, so that a full disk can pass in silence. PyAV raises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import typing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lavie.errors import MediaError
from lavie.video import Video

if typing.TYPE_CHECKING:
    import av

QUALITY = "16"  # x264's constant rate factor: no loss a person sees, flat colours within a level or two
_PROBE_BYTES = 1 << 16  # written to try an output: enough to need space on the disk, too little to take time
_BT709 = 1  # the number of BT.709 in every one of H.264's colour tables
_LIMITED_RANGE = 1
_CAUSES = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "your quota of the disk is used up: free some space or write elsewhere",
    errno.EFBIG: "the file would be larger than this system allows: write elsewhere or raise the limit",
    errno.EACCES: "no permission: choose a folder that you may write to",
    errno.EPERM: "no permission: choose a folder that you may write to",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.ENAMETOOLONG: "the name is too long: shorten it",
}


@dataclass(frozen=True)
class MediaInfo:
    """What a video file says of itself. frames: counted, not claimed. width, height: pixels. fps: frames a second."""

    frames: int
    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str


def check_output(path: Path) -> None:
    """Find out before any work is done whether `path` can be written, by writing beside it and removing that again.

    Raises MediaError naming the path and what is in the way. Leaves an existing file as it is.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, False for names that no system takes
        raise MediaError(f"the output {path} is a folder: name a file in it, such as {path / 'clip.mp4'}")
    if path.suffix.lower() != ".mp4":
        raise MediaError(f"the output {path} does not end in .mp4: name it {path.with_suffix('.mp4')}")
    if not os.path.isdir(path.parent):
        raise MediaError(f"the folder {path.parent} of the output {path.name} does not exist: create it first")
    with _temporary(path) as partial, open(partial, "xb", buffering=0) as file:
        file.write(bytes(_PROBE_BYTES))
        os.fsync(file.fileno())


def write_mp4(path: Path, video: Video, recipe_json: str) -> None:
    """Write H.264, yuv420p, BT.709, faststart; `recipe_json` goes into the container's `comment`.

    `path` appears, or is replaced, only when the new file is whole: encoded, counted and on the disk. Width and height
    must be even. Raises MediaError naming the path and the cause; then nothing is left behind.
    """
    path = Path(path)
    if video.width % 2 or video.height % 2:
        raise MediaError(f"{path} cannot be {video.width}×{video.height}: H.264 needs an even width and height")
    check_output(path)
    with _temporary(path) as partial:
        _encode(partial, video, recipe_json)
        written = probe(partial).frames
        if written != len(video):
            raise MediaError(f"{path} was not written: {written} of {len(video)} frames came out; check the disk")
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)


def read_recipe(path: Path) -> str | None:
    """The text in the container's `comment`, or None. Whether it is a recipe, `Recipe.from_json` knows.

    Raises MediaError if the file cannot be read.
    """
    with _opened(path) as container:
        return container.metadata.get("comment") or None


def read_video(path: Path) -> Video:
    """Every frame of a file, in sRGB. Raises MediaError if it cannot be read to its end."""
    import numpy as np

    with _opened(path) as container:
        frames = [_to_rgb(frame) for frame in container.decode(video=0)]
        if not frames:
            raise MediaError(f"{path} holds no frame: choose another video")
        return Video(np.stack(frames), _fps(container))


def probe(path: Path) -> MediaInfo:
    """Decode a file to its end and say what it holds, one frame in memory at a time. Raises MediaError."""
    with _opened(path) as container:
        context = container.streams.video[0].codec_context
        count = sum(1 for _ in container.decode(video=0))
        return MediaInfo(count, context.width, context.height, _fps(container), context.name, context.pix_fmt)


@contextlib.contextmanager
def _temporary(path: Path):
    """A hidden name beside `path`, on the same disk so that the rename is one step. Gone afterwards, whatever happens.

    Errors of the system become MediaError here, since they all mean that `path` could not be written.
    """
    import av

    # Cut to 100 bytes: the name must fit the file system together with what is put around it.
    stem = path.stem.encode()[:100].decode(errors="ignore")
    partial = path.with_name(f".{stem}.{secrets.token_hex(4)}.partial.mp4")
    try:
        if len(os.fsencode(path.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, "name too long")
        yield partial
    except (OSError, av.FFmpegError) as error:
        cause = _CAUSES.get(error.errno) or f"{error.strerror or error}: choose another place"
        raise MediaError(f"{path} cannot be written, {cause}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _encode(path: Path, video: Video, comment: str) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=Fraction(video.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.options = {"crf": QUALITY, "preset": "medium"}
        # Untagged video is guessed to be BT.601 or BT.709 by its height, and shows in wrong colours when guessed wrong.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for index, pixels in enumerate(video.frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p",
                interpolation="BICUBIC",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _to_rgb(frame: av.VideoFrame):
    """One decoded frame as uint8 H W 3, by its own colour tags. Untagged ones are taken as BT.601, as ffmpeg does."""
    from av.video.reformatter import ColorRange

    return frame.reformat(format="rgb24", interpolation="BICUBIC", dst_color_range=ColorRange.JPEG).to_ndarray()


def _fps(container: av.container.InputContainer) -> float:
    stream = container.streams.video[0]
    return float(stream.average_rate or stream.guessed_rate or 0)


@contextlib.contextmanager
def _opened(path: Path):
    """A container that has a video stream, closed afterwards. What goes wrong inside becomes a MediaError."""
    import av

    if not Path(path).is_file():
        raise MediaError(f"{path} is no file: check the name")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path} holds no video: choose a video file")
            yield container
    except (OSError, ValueError, av.FFmpegError) as error:
        cause = getattr(error, "strerror", None) or error
        raise MediaError(f"{path} cannot be read as a video ({cause}): it is damaged or of another kind") from error


def _sync(path: Path) -> None:
    """Have the system put a file or folder on the disk, so that a rename never shows a name without its content."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
