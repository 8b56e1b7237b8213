"""Frames → any codec of ffmpeg, through moviepy's pipe, made exact: rates, errors and long comments.

Knows moviepy's `FFMPEG_VideoWriter` and what it leaves out. Does not know which codec suits what.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

if typing.TYPE_CHECKING:
    import numpy as np
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

_DOTENV_SWITCH = "PYTHON_DOTENV_DISABLED"
_CLOCK = 1000  # frames a second that moviepy is told: no slower than any of ours, or ffmpeg repeats the last one
BT709 = (
    "scale=out_color_matrix=bt709:out_range=tv,format={},"
    "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
)  # converts and tags; with a filter, ffmpeg's own flags for the tags are not enough


def write_frames(
    partial: Path,
    frames: Iterable[np.ndarray],
    size: tuple[int, int],
    rate: Fraction,
    codec: str,
    filters: str,
    options: list[str],
    comment: str,
) -> int:
    """Encode into the container that the suffix of `partial` names. How many frames there were. Raises OSError."""
    # moviepy rounds a rate to two decimals, so the frames get their times here: number n is shown at n/rate.
    timed = f"settb={1 / rate},setpts=N,{filters}"
    options = ["-map", "0:v", "-map_metadata", "1", "-vf", timed, "-r", str(rate), *options]
    with _comment_file(partial, comment) as tags, _quiet_import() as writer_class:
        # The file of tags comes in at the place for sound: in front of the options, where ffmpeg wants its inputs.
        writer = writer_class(str(partial), size, _CLOCK, codec=codec, audiofile=str(tags), ffmpeg_params=options)
        with _ending(writer):
            count = 0
            for pixels in frames:
                writer.write_frame(pixels)
                count += 1
            _, said = writer.proc.communicate()  # moviepy would not ask how it ended
            if writer.proc.returncode:
                raise OSError(said.decode(errors="replace") or f"ffmpeg ended with {writer.proc.returncode}")
    return count


@contextlib.contextmanager
def _ending(writer: FFMPEG_VideoWriter) -> Iterator[None]:
    """Leave no process behind, and do not let a broken pipe cover the reason for which we go."""
    try:
        yield
    finally:
        writer.proc.kill()  # without effect where it has ended well
        with contextlib.suppress(OSError):
            writer.proc.stdin.close()
        writer.close()


@contextlib.contextmanager
def _comment_file(partial: Path, comment: str) -> Iterator[Path]:
    """The comment as a file of tags: one argument of a command cannot hold a long recipe."""
    path = partial.with_suffix(".txt")
    # Its lines end at a carriage return too, which nothing can escape; no JSON holds one.
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment.replace("\r\n", "\n").replace("\r", "\n"))
    tags = f"comment={escaped}\n" if comment else ""
    try:
        path.write_text(f";FFMETADATA1\n{tags}", encoding="utf-8", newline="\n")
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet_import() -> Iterator[type[FFMPEG_VideoWriter]]:
    """moviepy's writer, imported without its side effect: it loads any `.env` above its own folder."""
    before = os.environ.get(_DOTENV_SWITCH)
    os.environ[_DOTENV_SWITCH] = "1"
    try:
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter
    finally:
        del os.environ[_DOTENV_SWITCH]
        if before is not None:
            os.environ[_DOTENV_SWITCH] = before
    yield FFMPEG_VideoWriter
