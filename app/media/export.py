"""A clip in other formats: which there are, and what each is for. Every one has exactly the frames of the source.

moviepy encodes where its pipe can be made exact (VP9, ProRes, FFV1). Knows nothing of where exports go.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import typing
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from app.media.encode import as_rate, copy, encode, is_like_ours, same_size
from app.media.files import check_output, temporary
from app.media.reading import expect_frames, fps_of, frames_of, read_recipe
from lavie.errors import MediaError
from lavie.files import publish

if typing.TYPE_CHECKING:
    import av
    import numpy as np
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter


MAX_FPS = 50  # browsers play anything faster at ten frames a second
_TICK = Fraction(1, 100)  # GIF counts in hundredths of a second
_BLOCK = 255  # the most bytes in one block of a GIF's comment


def write_gif(source: Path, partial: Path, comment: str) -> int:
    """Write every frame of `source`, looping for ever. How many there were."""
    import av

    fps = fps_of(source)
    if fps > MAX_FPS:
        raise MediaError(f"{source} has {fps:g} frames a second, a GIF at most {MAX_FPS}: export another kind")
    palette = _palette(source)
    # Of the last frame nothing follows that could tell when it ends.
    options = {"loop": "0", "final_delay": str(round(100 / fps))}
    with av.open(str(partial), "w", format="gif", options=options) as container:
        stream = None
        count = 0
        for frame in _with_palette(source, palette, fps):
            if stream is None:
                stream = container.add_stream("gif", rate=1 / _TICK)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "pal8"
                stream.codec_context.time_base = _TICK
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    if comment:
        _append_comment(partial, comment)
    return count


def _palette(source: Path) -> av.VideoFrame:
    """The 256 colours that show this clip best, as a picture of 16×16."""
    import av
    from av.filter import Graph

    graph = Graph()
    finder, sink = graph.add("palettegen", "reserve_transparent=0"), graph.add("buffersink")
    finder.link_to(sink)
    first = None
    with contextlib.closing(_timed(source, fps=1)) as frames:
        for frame in frames:
            if first is None:
                first = graph.add_buffer(width=frame.width, height=frame.height, format="bgra", time_base=_TICK)
                first.link_to(finder)
                graph.configure()
            first.push(frame)
            with contextlib.suppress(av.BlockingIOError):  # nothing comes yet, but unasked it would only gather frames
                sink.pull()
    first.push(None)
    return sink.pull()


def _with_palette(source: Path, palette: av.VideoFrame, fps: float) -> Iterator[av.VideoFrame]:
    """The frames in the palette's colours, with their times."""
    import av
    from av.filter import Graph

    graph = Graph()
    painter, sink = graph.add("paletteuse"), graph.add("buffersink")
    painter.link_to(sink)
    first = None

    def ready() -> Iterator[av.VideoFrame]:
        with contextlib.suppress(av.BlockingIOError, av.EOFError):  # it wants another frame, or there is none left
            while True:
                yield sink.pull()

    with contextlib.closing(_timed(source, fps)) as frames:
        for frame in frames:
            if first is None:
                first = graph.add_buffer(width=frame.width, height=frame.height, format="bgra", time_base=_TICK)
                colours = graph.add_buffer(width=16, height=16, format=palette.format.name, time_base=_TICK)
                first.link_to(painter, 0, 0)
                colours.link_to(painter, 0, 1)
                graph.configure()
                palette.pts, palette.time_base = 0, _TICK
                colours.push(palette)
                colours.push(None)
            first.push(frame)
            yield from ready()
    first.push(None)
    yield from ready()


def _timed(source: Path, fps: float) -> Iterator[av.VideoFrame]:
    """Frames as the filters take them."""
    import av

    with contextlib.closing(frames_of(source)) as frames:
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgra")
            frame.pts, frame.time_base = round(number * 100 / fps), _TICK
            yield frame


def _append_comment(path: Path, comment: str) -> None:
    """Put a comment in front of the end mark: GIF has a place for it, but ffmpeg writes none."""
    data = comment.encode()
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x21\xfe")
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK]
            file.write(bytes([len(block)]) + block)
        file.write(b"\x00;")


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


_RECIPE_NAME = "recipe.json"  # in the zip of pictures, which have no place for it


@dataclass(frozen=True)
class Export:
    """A format. suffix: of its files. description: one line for a person.

    write: (source, partial, comment) → how many frames went in; check: (partial, frames, target) raises MediaError.
    """

    suffix: str
    description: str
    write: Callable[[Path, Path, str], int]
    check: Callable[[Path, int, Path], None] = expect_frames


def export(source: Path, target: Path, kind: str, *, recipe: bool = True) -> None:
    """Write `source` to `target` as one of `EXPORTS`, one frame in memory at a time.

    recipe: whether the comment goes along; without it the copy is clean of all that we put into the file. Raises
    MediaError; then `target` is as it was.
    """
    if kind not in EXPORTS:
        raise MediaError(f"there is no export {kind!r}: choose one of {', '.join(EXPORTS)}")
    source, target, chosen = Path(source), Path(target), EXPORTS[kind]
    check_output(target, chosen.suffix, sources=(source,))
    comment = (read_recipe(source) if recipe else None) or ""
    with temporary(target) as partial:
        chosen.check(partial, chosen.write(source, partial, comment), target)
        publish(partial, target)


def _write_h264(source: Path, partial: Path, comment: str) -> int:
    if is_like_ours(source):
        return copy(source, partial, comment)
    with contextlib.closing(frames_of(source)) as frames:
        return encode(partial, source, frames, fps_of(source), comment)


def _by_moviepy(codec: str, filters: str, options: list[str], columns: int = 1) -> Callable[[Path, Path, str], int]:
    """A writer for one codec. columns: the width must be a multiple of it."""

    def write(source: Path, partial: Path, comment: str) -> int:
        rate = as_rate(source, fps_of(source))
        with contextlib.closing(frames_of(source)) as stored:
            width, height, frames = same_size(source, stored)
            if width % columns:
                raise MediaError(f"{source} is {width} pixels wide, {codec} needs an even width: export another kind")
            return write_frames(partial, frames, (width, height), rate, codec, filters, options, comment)

    return write


def _write_pngs(source: Path, partial: Path, comment: str) -> int:
    from PIL import Image

    with contextlib.closing(frames_of(source)) as frames, zipfile.ZipFile(partial, "x") as archive:
        count = 0
        for pixels in frames:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            archive.writestr(_entry(f"frame-{count:06d}.png"), data.getvalue())
            count += 1
        if comment:
            archive.writestr(_entry(_RECIPE_NAME), comment)
    return count


def _entry(name: str) -> zipfile.ZipInfo:
    """Without today's date: the same clip gives the same file. Stored as it is: PNG leaves nothing to compress."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def _expect_pngs(partial: Path, count: int, target: Path) -> None:
    with zipfile.ZipFile(partial) as archive:
        written = sum(name.endswith(".png") for name in archive.namelist())
        damaged = archive.testzip()
    if written != count or damaged:
        raise MediaError(f"{target} was not written: {written} of {count} pictures came out whole; check the disk")


EXPORTS: dict[str, Export] = {
    "h264": Export(".mp4", "H.264 in mp4: plays everywhere", _write_h264),
    "webm": Export(
        ".webm",
        "VP9 in WebM: smaller, for web pages",
        _by_moviepy(
            "libvpx-vp9",
            BT709.format("yuv420p"),
            ["-crf", "18", "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1"],
        ),
    ),
    "gif": Export(".gif", "GIF with its own palette: 256 colours, loops, plays in chats", write_gif),
    "png": Export(".zip", "a zip of numbered PNG pictures: the frames as they are stored", _write_pngs, _expect_pngs),
    "prores": Export(
        ".mov",
        "ProRes 422 HQ in QuickTime: for video editors",
        _by_moviepy(
            "prores_ks",
            BT709.format("yuv422p10le"),
            # QuickTime's own comment ends after 65,535 bytes; the newer kind of tags does not.
            ["-profile:v", "3", "-vendor", "apl0", "-movflags", "use_metadata_tags"],
            columns=2,  # the encoder leaves the last pixels of odd rows black
        ),
    ),
    "ffv1": Export(
        ".mkv",
        "FFV1 in Matroska: the frames without any loss, for archives",
        _by_moviepy("ffv1", "format=bgr0", ["-level", "3", "-slicecrc", "1", "-g", "1"]),
    ),
}
