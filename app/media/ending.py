"""The last frames of a video at a rate asked for, chosen by their times; of an hour only the end is decoded.

Looks for the end among the coded frames, which costs next to nothing, then decodes from the key frame before it. Where
a file cannot be sought its coded frames are passed from the beginning. Of what is decoded two frames are in memory.
"""

from __future__ import annotations

import contextlib
import os
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.media.containers import opened, read_header, to_rgb
from app.media.limits import Limits, check
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import av
    import numpy as np

T = typing.TypeVar("T")
Take = Callable[["np.ndarray", float], T]  # a picture uint8 H W 3 and how many times wider its pixels are than high
MOST_DECODED = 50_000_000_000  # pixels: a minute or two of a processor's time; 4K of 200 seconds
_MARGIN = 0.5  # seconds looked at before the first frame wanted: what a last frame may be off from its coded time
_INDEXED = 64  # coded frames at the end of an index, of which one lies last in the file
_HDR = (16, 18)  # the numbers of PQ and HLG among the transfer curves


@dataclass(frozen=True)
class Ending(typing.Generic[T]):
    """pictures: what `take` made of each moment, in their order, the video's last frame last. different: how many of
    them are not the one before again. seconds: of the whole video, 0 for one that is a single frame. width, height: as
    shown. decoded: frames. hdr: brighter than a page can show."""

    pictures: list[T]
    different: int
    seconds: float
    width: float
    height: float
    decoded: int
    hdr: bool


@dataclass
class _Tail:
    """What the coded frames tell, in seconds. keys: times of key frames, each with how many frames are before it."""

    keys: deque[tuple[float, int]]
    count: int = 0
    last: float = float("-inf")
    end: float = float("-inf")


def read_ending(path: Path, limits: Limits | None, rate: float, count: int, take: Take[T]) -> Ending[T]:
    """At most `count` frames at `rate` a second, the last of them the video's last frame.

    A moment's frame is the one shown then, so that a slow video's repeat. Of a video that is shorter there are fewer.
    Raises MediaError for what holds no video, is damaged there, is cut short, or exceeds the limits.
    """
    header = read_header(path, limits)
    span = (count - 1) / rate
    offset, tail = _find_end(path, limits, span + _MARGIN, header.fps)
    key, before = tail.keys[0]
    pixels = (tail.count - before) * header.width * header.height
    if pixels > MOST_DECODED:
        raise MediaError(
            f"{path} has no key frame in its last {tail.last - key:.0f} seconds, too many to decode them all: "
            "convert it with one every few seconds"
        )
    tolerance = 0.5 / max(header.fps, rate)  # to the nearer frame of an even video
    moments = [tail.last - (count - 1 - number) / rate for number in range(count)]
    with opened(path, limits) as container:
        stream = _stream(path, container)
        begin = _begin(stream)
        if limits is not None:  # the coded picture may be larger than the container says
            stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        stream.thread_type = "AUTO"
        _seek(container, stream, offset)
        picker = _Picker(take, moments, tolerance, float(stream.sample_aspect_ratio or 1))
        for time, frame in _timed(_frames(path, container, stream, key, header.fps), header.fps, begin):
            check(path, limits, pixels=frame.width * frame.height)
            picker.add(time, frame)
        hdr = int(stream.codec_context.color_trc or 0) in _HDR
    if picker.last < tail.last - _MARGIN:
        raise MediaError(f"{path} is damaged, its last {tail.last - picker.last:.1f} seconds: get a whole copy of it")
    pictures = picker.finish()
    width, height = picker.shown
    seconds = 0.0 if offset is None and tail.count == 1 else tail.end - begin
    return Ending(pictures, picker.different, seconds, width, height, picker.count, hdr)


class _Picker:
    """Takes of the frames that come, in the order of their times, those shown at the moments wanted."""

    def __init__(self, take: Take, moments: list[float], tolerance: float, stretch: float):
        self._take, self._moments, self._tolerance, self._stretch = take, deque(moments), tolerance, stretch
        self._held: av.VideoFrame | None = None
        self._taken: list = []
        self.count, self.different, self.last, self.shown = 0, 0, float("-inf"), (0.0, 0.0)

    def add(self, time: float, frame: av.VideoFrame) -> None:
        self._until(time)
        self._held, self.last = frame, time
        self.count += 1

    def finish(self) -> list:
        self._until(float("inf"))
        return self._taken

    def _until(self, time: float) -> None:
        """The frame held is shown at all moments before `time`. Moments before the first frame have none."""
        number = 0
        while self._moments and self._moments[0] + self._tolerance < time:
            self._moments.popleft()
            number += 1
        if number and self._held is not None:
            stretch = 1 / self._stretch if self._held.rotation // 90 % 2 else self._stretch
            pixels = to_rgb(self._held)
            self.shown = pixels.shape[1] * stretch, float(pixels.shape[0])
            self._taken += [self._take(pixels, stretch)] * number
            self.different += 1


def _find_end(path: Path, limits: Limits | None, span: float, fps: float) -> tuple[float | None, _Tail]:
    """Where to seek to, None for the beginning, and what is found from there on: a key frame `span` before the end."""
    with opened(path, limits) as container:
        stream = _stream(path, container)
        _check_index(path, stream)
        begin, guess = _begin(stream), _claimed_end(container, stream)
    back = span
    while True:
        offset = guess - back if guess is not None and guess - back > begin else None
        with opened(path, limits) as container:
            stream = _stream(path, container)
            _seek(container, stream, offset)
            tail = _scan(container, stream, span, fps)
        if tail.keys and (offset is None or tail.keys[0][0] <= max(tail.last - span, begin)):
            _check_end(path, container.format.name, guess, tail)
            return offset, tail
        if offset is None:
            raise MediaError(f"{path} holds no frame to begin with: it is damaged, get a whole copy of it")
        guess = min(guess, tail.last) if tail.count else guess
        back *= 4


def _scan(container: av.container.InputContainer, stream: av.VideoStream, span: float, fps: float) -> _Tail:
    """Pass the coded frames to the end. Of the key frames before the span only the last is kept."""
    tail = _Tail(deque())
    only_first = container.format.name == "gif"  # whose pictures are painted over each other, whatever they are called
    for time, packet in _timed(_packets(container, stream), fps, _begin(stream)):
        if packet.is_keyframe and not (only_first and tail.keys):
            tail.keys.append((time, tail.count))
        tail.count += 1
        if not packet.is_discard:  # cut off by an edit list
            tail.last = max(tail.last, time)
            tail.end = max(tail.end, time + float((packet.duration or 0) * packet.time_base) or time + 1 / fps)
        while len(tail.keys) > 1 and tail.keys[1][0] <= tail.last - span:
            tail.keys.popleft()
    return tail


def _frames(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, key: float, fps: float
) -> Iterator[av.VideoFrame]:
    """Decoded from the key frame at this time on."""
    begun = False
    for time, packet in _timed(container.demux(stream), fps, _begin(stream)):
        begun = begun or (packet.is_keyframe and time >= key)
        if not begun:
            continue
        if packet.is_corrupt:
            raise MediaError(f"{path} is damaged at second {time:.1f}: get a whole copy of it")
        yield from packet.decode()


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    return (packet for packet in container.demux(stream) if packet.size)  # without the one that marks the end


def _timed(items: Iterable[T], fps: float, begin: float) -> Iterator[tuple[float, T]]:
    """Coded or decoded frames with their times in seconds; where a file gives none, one after the other."""
    time = begin - 1 / fps
    for item in items:
        stamp = item.pts if item.pts is not None else item.dts
        time = time + 1 / fps if stamp is None else float(stamp * item.time_base)
        yield time, item


def _seek(container: av.container.InputContainer, stream: av.VideoStream, offset: float | None) -> None:
    import av

    if offset is not None:
        with contextlib.suppress(av.FFmpegError):  # then it is read from the beginning, which only takes longer
            container.seek(int(offset / stream.time_base), stream=stream)


def _stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The first one that moves."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError(f"{path} is sound with a picture on its cover: choose a video or a picture")


def _begin(stream: av.VideoStream) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _claimed_end(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """In seconds; of all streams together where the video's own is unknown; None for live recordings."""
    if stream.duration:
        return _begin(stream) + float(stream.duration * stream.time_base)
    return (container.start_time or 0) / 1e6 + container.duration / 1e6 if container.duration else None


def _check_index(path: Path, stream: av.VideoStream) -> None:
    """An mp4's index tells where each coded frame lies: notice one that lies behind the end of the file."""
    index = stream.index_entries
    last = max((index[place].pos + index[place].size for place in range(-min(_INDEXED, len(index)), 0)), default=0)
    length = os.path.getsize(path)
    if last > length:
        raise MediaError(f"{path} is cut short, {length:,} of {last:,} bytes are there: get a whole copy")


def _check_end(path: Path, kind: str, claimed: float | None, tail: _Tail) -> None:
    """An AVI's index is behind its frames: what is cut short has none, but its header still tells the length."""
    if kind == "avi" and claimed is not None and tail.end < claimed - 1:
        raise MediaError(f"{path} is cut short, {tail.end:.1f} of {claimed:.1f} seconds are there: get a whole copy")
