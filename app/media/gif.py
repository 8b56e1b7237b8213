"""Frames → an animated GIF with a palette of its own, by PyAV's filters. Knows GIF's clock, palette and comments.

Not by moviepy: its pipe hands the frames over once, and a palette needs them twice, so that ffmpeg would have to keep
them all.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from app.media.reading import fps_of, frames_of
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import av

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
