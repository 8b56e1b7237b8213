"""Makes new files from clips: exports to other formats with exactly the frames of the source, trims and joins.

moviepy encodes VP9, ProRes and FFV1, and gives cuts their speed, loops and sound; PyAV does the rest. Trimmed or
joined clips are encoded again: copied frames could only be cut at key frames.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import re
import tempfile
import typing
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from app.media.containers import UPLOAD_LIMITS, check
from app.media.encode import check_frames, copy_packets, encode_h264, is_like_ours, to_rate, write_mp4
from app.media.files import check_output, temporary
from app.media.reading import SOUND_RATE, count_frames, expect_frames, fps_of, frames_of, read_recipe, samples_of
from lavie.errors import MediaError
from lavie.files import publish

if typing.TYPE_CHECKING:
    import av
    import numpy as np
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

Frames = Generator["np.ndarray", None, None]
MAX_GIF_FPS = 50  # browsers play faster GIFs at ten frames a second
_TICK = Fraction(1, 100)  # GIF counts in hundredths of a second
_BLOCK = 255  # bytes in a block of a GIF's comment


def write_gif(source: Path, partial: Path, comment: str) -> int:
    """Write every frame of `source` as a looping GIF; the number of frames."""
    import av

    fps = fps_of(source)
    if fps > MAX_GIF_FPS:
        raise MediaError(f"{source} has {fps:g} frames a second, a GIF at most {MAX_GIF_FPS}: export another kind")
    palette = _find_palette(source)
    # No frame follows the last one to end it.
    options = {"loop": "0", "final_delay": str(round(100 / fps))}
    with av.open(str(partial), "w", format="gif", options=options) as container:
        stream: Any = None
        count = 0
        for frame in _apply_palette(source, palette, fps):
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


def _find_palette(source: Path) -> av.VideoFrame:
    """The best 256 colours for a clip, as a picture of 16×16."""
    import av
    from av.filter import Graph

    graph = Graph()
    finder, sink = graph.add("palettegen", "reserve_transparent=0"), graph.add("buffersink")
    finder.link_to(sink)
    first: Any = None
    with contextlib.closing(_read_frames(source, fps=1)) as frames:
        for frame in frames:
            if first is None:
                first = _add_source(graph, frame, "bgra")
                first.link_to(finder)
                graph.configure()
            first.push(frame)
            with contextlib.suppress(av.BlockingIOError):  # nothing comes yet; without a pull, frames gather
                sink.pull()
    first.push(None)
    return typing.cast("av.VideoFrame", sink.pull())


def _apply_palette(source: Path, palette: av.VideoFrame, fps: float) -> Generator[av.VideoFrame, None, None]:
    """The frames in the colours of the palette, with their times."""
    import av
    from av.filter import Graph

    graph = Graph()
    painter, sink = graph.add("paletteuse"), graph.add("buffersink")
    painter.link_to(sink)
    first: Any = None

    def pull() -> Generator[av.VideoFrame, None, None]:
        with contextlib.suppress(av.BlockingIOError, av.EOFError):  # it needs another frame, or is at its end
            while True:
                yield typing.cast("av.VideoFrame", sink.pull())

    with contextlib.closing(_read_frames(source, fps)) as frames:
        for frame in frames:
            if first is None:
                first = _add_source(graph, frame, "bgra")
                colours = _add_source(graph, palette, palette.format.name)
                first.link_to(painter, 0, 0)
                colours.link_to(painter, 0, 1)
                graph.configure()
                palette.pts, palette.time_base = 0, _TICK
                colours.push(palette)
                colours.push(None)
            first.push(frame)
            yield from pull()
    first.push(None)
    yield from pull()


def _add_source(graph: av.filter.Graph, frame: av.VideoFrame, format: Any) -> Any:
    """An input of the graph for frames like this one."""
    return graph.add_buffer(width=frame.width, height=frame.height, format=format, time_base=_TICK)


def _read_frames(source: Path, fps: float) -> Generator[av.VideoFrame, None, None]:
    """Frames in the pixel format of the filters, with their times."""
    import av

    with contextlib.closing(frames_of(source)) as frames:
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgra")
            frame.pts, frame.time_base = round(number * 100 / fps), _TICK
            yield frame


def _append_comment(path: Path, comment: str) -> None:
    """Insert a comment before the end mark, since ffmpeg does not write GIF comments."""
    data = comment.encode()
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x21\xfe")
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK]
            file.write(bytes([len(block)]) + block)
        file.write(b"\x00;")


_DOTENV_SWITCH = "PYTHON_DOTENV_DISABLED"
_CLOCK = 1000  # frames a second for moviepy: above any real rate, else ffmpeg repeats the last frame
BT709 = (
    "scale=out_color_matrix=bt709:out_range=tv,format={},"
    "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
)  # converts and tags; ffmpeg's flags for the tags do not suffice with a filter


def _by_moviepy(codec: str, filters: str, options: list[str], columns: int = 1) -> Callable[[Path, Path, str], int]:
    """A writer that encodes with moviepy into the container of the file's suffix.

    filters, options: of ffmpeg. columns: the width must be a multiple of this.
    """

    def write(source: Path, partial: Path, comment: str) -> int:
        rate = to_rate(source, fps_of(source))
        # moviepy rounds rates to two decimals: frame n gets its time n/rate here.
        timed = ["-map", "0:v", "-map_metadata", "1", "-vf", f"settb={1 / rate},setpts=N,{filters}", "-r", str(rate)]
        with contextlib.closing(frames_of(source)) as stored, _comment_file(partial, comment) as tags:
            width, height, frames = check_frames(source, stored)
            if width % columns:
                raise MediaError(f"{source} is {width} pixels wide, {codec} needs an even width: export another kind")
            # The file of tags takes the place of sound: before the options, where ffmpeg expects inputs.
            values: dict[str, Any] = {"codec": codec, "audiofile": str(tags), "ffmpeg_params": [*timed, *options]}
            writer_class = _import_moviepy().video.io.ffmpeg_writer.FFMPEG_VideoWriter
            with _close(writer_class(str(partial), (width, height), _CLOCK, **values)) as writer:
                count = 0
                for pixels in frames:
                    writer.write_frame(pixels)
                    count += 1
                _, said = writer.proc.communicate()  # moviepy ignores the exit code
                if writer.proc.returncode:
                    raise OSError(said.decode(errors="replace") or f"ffmpeg ended with {writer.proc.returncode}")
        return count

    return write


@contextlib.contextmanager
def _close(writer: FFMPEG_VideoWriter) -> Iterator[FFMPEG_VideoWriter]:
    """End ffmpeg on every exit path, without a broken pipe hiding the first error."""
    try:
        yield writer
    finally:
        writer.proc.kill()  # no effect on a process that has ended
        with contextlib.suppress(OSError):
            writer.proc.stdin.close()
        writer.close()


@contextlib.contextmanager
def _comment_file(partial: Path, comment: str) -> Iterator[Path]:
    """The comment as a file of tags: an argument of a command cannot hold a long recipe."""
    path = partial.with_suffix(".txt")
    # A carriage return ends a line too and cannot be escaped; JSON has none.
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment.replace("\r\n", "\n").replace("\r", "\n"))
    tags = f"comment={escaped}\n" if comment else ""
    try:
        path.write_text(f";FFMETADATA1\n{tags}", encoding="utf-8", newline="\n")
        yield path
    finally:
        path.unlink(missing_ok=True)


def _import_moviepy() -> ModuleType:
    """moviepy, imported without loading any `.env` file above its folder."""
    before = os.environ.get(_DOTENV_SWITCH)
    os.environ[_DOTENV_SWITCH] = "1"
    try:
        import moviepy
    finally:
        del os.environ[_DOTENV_SWITCH]
        if before is not None:
            os.environ[_DOTENV_SWITCH] = before
    return moviepy


_RECIPE_NAME = "recipe.json"  # in the zip of pictures


@dataclass(frozen=True)
class Export:
    """A format. write: (source, partial, comment) → number of frames. check: (partial, frames, target)."""

    suffix: str
    description: str
    write: Callable[[Path, Path, str], int]
    check: Callable[[Path, int, Path], None] = expect_frames


def export_clip(source: Path, target: Path, kind: str, *, recipe: bool = True) -> None:
    """Write `source` to `target` as one of `EXPORTS`, one frame in memory at a time.

    recipe: include it; without it the copy tells nothing about its making. Raises MediaError; then `target` is as it
    was.
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
        return copy_packets(source, partial, comment)
    with contextlib.closing(frames_of(source)) as frames:
        return encode_h264(partial, source, frames, fps_of(source), comment)


def _write_pngs(source: Path, partial: Path, comment: str) -> int:
    from PIL import Image

    with contextlib.closing(frames_of(source)) as frames, zipfile.ZipFile(partial, "x") as archive:
        count = 0
        for pixels in frames:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            archive.writestr(_zip_entry(f"frame-{count:06d}.png"), data.getvalue())
            count += 1
        if comment:
            archive.writestr(_zip_entry(_RECIPE_NAME), comment)
    return count


def _zip_entry(name: str) -> zipfile.ZipInfo:
    """Uncompressed, since PNG is, and without the date, so that the same clip gives the same file."""
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
            # QuickTime's own comment ends after 65,535 bytes; the newer tags do not.
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


_FADE = SOUND_RATE // 2  # samples over which sound fades out at the end, a quarter of a short one
_SOUND_PART = 1 << 14  # samples
_TINY = 1e-6  # of a frame: what a speed such as 1.1 rounds


@dataclass(frozen=True)
class Effects:
    """What is done to a trimmed or joined clip.

    Attributes:
        speed: 2 takes every second frame, 0.5 each one twice; the rate stays.
        loop: how many times the whole plays.
        sound: a file whose sound is repeated or cut to the length of the video.
    """

    speed: float = 1.0
    loop: int = 1
    sound: Path | None = None

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4:
            raise MediaError(f"a speed of {self.speed:g} cannot be: choose between 0.25 and 4")
        if not 1 <= self.loop <= 20:
            raise MediaError(f"a clip cannot play {self.loop} times: choose between 1 and 20")


NO_EFFECT = Effects()


def trim(
    source: Path, target: Path, start: int, stop: int, recipe_json: str = "", effects: Effects = NO_EFFECT
) -> None:
    """Write the frames `start` … `stop` − 1 of `source`, counted from 0, as a new mp4. Raises MediaError."""
    source, target = Path(source), Path(target)
    check_output(target, sources=(source, *filter(None, [effects.sound])))
    count = count_frames(source)
    if not 0 <= start < stop <= count:
        raise MediaError(f"{source} has frames 0 … {count - 1}, not {start} … {stop - 1}: choose a part within them")

    def cut() -> Frames:
        with contextlib.closing(frames_of(source)) as frames:
            yield from itertools.islice(frames, start, stop)

    _write_cut(target, cut, stop - start, fps_of(source), recipe_json, effects)


def join(
    sources: Sequence[Path], target: Path, crossfade: int = 0, recipe_json: str = "", effects: Effects = NO_EFFECT
) -> None:
    """Write clips of one size and rate one after another as a new mp4. Raises MediaError with the file that differs.

    crossfade: number of frames at the end of each clip that fade into the next.
    """
    sources, target = [Path(source) for source in sources], Path(target)
    check_output(target, sources=(*sources, *filter(None, [effects.sound])))
    _check_alike(sources, crossfade)
    count = sum(map(count_frames, sources)) - crossfade * (len(sources) - 1)
    _write_cut(target, lambda: _join_frames(sources, crossfade), count, fps_of(sources[0]), recipe_json, effects)


def _write_cut(
    target: Path, open_frames: Callable[[], Frames], count: int, fps: float, recipe_json: str, effects: Effects
) -> None:
    if effects == NO_EFFECT:
        with contextlib.closing(open_frames()) as frames:
            write_mp4(target, frames, fps, recipe_json)
        return
    moviepy = _import_moviepy()
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(_Reader(open_frames)))
        # A second of moviepy's time is one frame here, so that its sums are exact: in real ones, loops slip by a frame.
        clip = moviepy.VideoClip(duration=count).with_updated_frame_function(reader.read)
        clip = clip.with_effects([moviepy.vfx.MultiplySpeed(effects.speed)])
        clip = clip.with_duration(math.ceil(clip.duration - _TINY)).with_effects([moviepy.vfx.Loop(effects.loop)])
        check(target, UPLOAD_LIMITS, frames=clip.duration, seconds=clip.duration / fps)
        sound = None
        if effects.sound is not None:
            length = round(clip.duration * SOUND_RATE / to_rate(target, fps))
            sound = stack.enter_context(contextlib.closing(_fit_sound(effects.sound, length)))
        write_mp4(target, map(clip.get_frame, range(clip.duration)), fps, recipe_json, sound)


class _Reader:
    """A stream's frames by number. An earlier one than the last opens the stream again."""

    def __init__(self, open_frames: Callable[[], Frames]):
        self._open, self._frames, self._next = open_frames, open_frames(), 0

    def read(self, time: float) -> np.ndarray:
        number = int(time + _TINY)
        if number < self._next - 1:
            self.close()
            self._frames, self._next = self._open(), 0
        while self._next <= number:
            frame = next(self._frames, None)
            if frame is None:
                raise MediaError(f"the clip ends at frame {self._next}, before its index says: save it anew first")
            self._frame, self._next = frame, self._next + 1
        return self._frame

    def close(self) -> None:
        self._frames.close()


def _fit_sound(source: Path, length: int) -> Frames:
    """`length` samples of a file's sound, int16 N 2, repeated if it is shorter, and faded out at the end.

    moviepy's own reader rounds durations, fills damaged parts with silence and follows playlists to other files; its
    AudioLoop reckons every repetition for every sample.
    """
    import numpy as np

    moviepy = _import_moviepy()
    with tempfile.TemporaryFile() as file, contextlib.closing(samples_of(source)) as parts:
        count = 0
        for part in parts:
            file.write(part[: length - count].tobytes())
            count += len(part)
            if count >= length:
                break
        file.flush()
        stored = np.memmap(file, np.int16, "r", shape=(min(count, length), 2))
        fade = moviepy.afx.AudioFadeOut(min(_FADE, length // 4))  # a second of moviepy's time is one sample
        clip = moviepy.AudioArrayClip(stored, fps=1).with_effects([moviepy.vfx.Loop(duration=length), fade])
        for start in range(0, length, _SOUND_PART):
            numbers = np.arange(start, min(start + _SOUND_PART, length), dtype=float)
            yield np.rint(clip.get_frame(numbers)).astype(np.int16)


def _check_alike(sources: list[Path], crossfade: int) -> None:
    if not sources:
        raise MediaError("there is nothing to join: name at least one clip")
    if crossfade < 0:
        raise MediaError(f"a cross-fade of {crossfade} frames cannot be: give 0 for a cut, or more")
    first = _describe(sources[0])
    for source in sources:
        measures = _describe(source)
        if measures != first:
            raise MediaError(f"{source} is {measures}, {sources[0]} is {first}: join clips of one size and rate")
        count = count_frames(source)
        if count < crossfade and len(sources) > 1:
            raise MediaError(f"{source} has {count} frames, fewer than the {crossfade} to blend: choose a shorter fade")


def _describe(source: Path) -> str:
    """Size and rate in words."""
    with contextlib.closing(frames_of(source)) as frames:
        height, width = next(frames).shape[:2]
    return f"{width}×{height} at {fps_of(source):.5g} fps"


def _join_frames(sources: list[Path], crossfade: int) -> Frames:
    """The frames of all clips. Holds back the last `crossfade` of each until the next begins.

    moviepy's concatenation must know the number of frames, and in seconds takes the wrong clip at some seams; its
    cross-fade begins a frame late and mixes by a mask of 8 bits.
    """
    fading: deque[np.ndarray] = deque()  # the end of the clip before
    for source in sources:
        held: deque[np.ndarray] = deque()
        with contextlib.closing(frames_of(source)) as frames:
            for number, frame in enumerate(frames):
                if fading:
                    frame = _blend(fading.popleft(), frame, (number + 1) / (crossfade + 1))
                held.append(frame)
                if len(held) > crossfade:
                    yield held.popleft()
        fading = held
    yield from fading


def _blend(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """A mixture of two frames with this share of `after`."""
    import numpy as np

    return np.rint(before * (1 - share) + after * share).astype(np.uint8)
