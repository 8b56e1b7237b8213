"""Reads the last frames of a video at a given rate, chosen by their times, without decoding the whole video.

Finds the end among the coded frames, which is cheap, and decodes from the key frame before it. If a file has no index,
its coded frames are passed from the beginning. Two decoded frames are in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
import typing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.media.containers import Limits, check, open_video, read_header, to_rgb
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import av
    import numpy as np

T = typing.TypeVar("T")
Take = Callable[["np.ndarray", float], T]  # (frame uint8 H W 3, width of its pixels by their height)
MOST_DECODED = 50_000_000_000  # pixels: a minute or two of processor time; 200 seconds of 4K
_MARGIN = 0.5  # seconds decoded before the first wanted frame: the last frame may differ so much from its coded time
_INDEXED = 64  # coded frames at the end of an index, one of which is the last in the file
_HDR = (16, 18)  # numbers of the transfer curves PQ and HLG


@dataclass(frozen=True)
class Ending(typing.Generic[T]):
    """The end of a video.

    Attributes:
        pictures: results of `take` in order of time; the last is that of the video's last frame.
        different: number of different frames among them.
        seconds: duration of the whole video; 0 for a single frame.
        width, height: as shown.
        decoded: number of decoded frames.
        hdr: high dynamic range, which a page cannot show.
    """

    pictures: list[T]
    different: int
    seconds: float
    width: float
    height: float
    decoded: int
    hdr: bool


@dataclass
class _Tail:
    """Times of coded frames in seconds. keys: (time of a key frame, number of frames before it)."""

    keys: deque[tuple[float, int]]
    count: int = 0
    last: float = float("-inf")
    end: float = float("-inf")


def read_ending(path: Path, limits: Limits | None, rate: float, count: int, take: Take[T]) -> Ending[T]:
    """At most `count` frames at `rate` a second, up to the video's last frame. A short video gives fewer.

    Each moment gives the frame shown then, so that frames of a slower video repeat. Raises MediaError if there is no
    video, it is damaged or truncated, or exceeds the limits.
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
    tolerance = 0.5 / max(header.fps, rate)  # chooses the nearest frame of a video with a constant rate
    moments = [tail.last - (count - 1 - number) / rate for number in range(count)]
    with open_video(path, limits) as container:
        stream = _stream(path, container)
        begin = _begin(stream)
        if limits is not None:  # the coded frame may be larger than the container says
            stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        stream.thread_type = "AUTO"
        _seek(container, stream, offset)
        picker = _Picker(take, moments, tolerance, float(stream.sample_aspect_ratio or 1))
        for time, frame in _add_times(_decode_from(path, container, stream, key, header.fps), header.fps, begin):
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
    """Picks the frames shown at the wanted moments from frames that come in order of time."""

    def __init__(self, take: Take[Any], moments: list[float], tolerance: float, stretch: float):
        self._take, self._moments, self._tolerance, self._stretch = take, deque(moments), tolerance, stretch
        self._held: av.VideoFrame | None = None
        self._taken: list[Any] = []
        self.count, self.different, self.last, self.shown = 0, 0, float("-inf"), (0.0, 0.0)

    def add(self, time: float, frame: av.VideoFrame) -> None:
        self._until(time)
        self._held, self.last = frame, time
        self.count += 1

    def finish(self) -> list[Any]:
        self._until(float("inf"))
        return self._taken

    def _until(self, time: float) -> None:
        """Give the held frame to all moments before `time`. Moments before the first frame get none."""
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
    """Where to seek to (None: the beginning) for a key frame `span` before the end; and the frames from there."""
    with open_video(path, limits) as container:
        stream = _stream(path, container)
        _check_index(path, stream)
        begin, guess = _begin(stream), _read_claimed_end(container, stream)
    back = span
    while True:
        offset = guess - back if guess is not None and guess - back > begin else None
        with open_video(path, limits) as container:
            stream = _stream(path, container)
            _seek(container, stream, offset)
            tail = _scan_tail(container, stream, span, fps)
        if tail.keys and (offset is None or tail.keys[0][0] <= max(tail.last - span, begin)):
            _check_end(path, container.format.name, guess, tail)
            return offset, tail
        if offset is None:
            raise MediaError(f"{path} holds no frame to begin with: it is damaged, get a whole copy of it")
        if guess is not None and tail.count:
            guess = min(guess, tail.last)
        back *= 4


def _scan_tail(container: av.container.InputContainer, stream: av.VideoStream, span: float, fps: float) -> _Tail:
    """Pass the coded frames to the end. Keeps only the last key frame before the span."""
    tail = _Tail(deque())
    only_first = container.format.name == "gif"  # whose frames build on each other, also those marked as key frames
    for time, packet in _add_times(_packets(container, stream), fps, _begin(stream)):
        if packet.is_keyframe and not (only_first and tail.keys):
            tail.keys.append((time, tail.count))
        tail.count += 1
        if not packet.is_discard:  # cut off by an edit list
            tail.last = max(tail.last, time)
            tail.end = max(tail.end, time + float((packet.duration or 0) * packet.time_base) or time + 1 / fps)
        while len(tail.keys) > 1 and tail.keys[1][0] <= tail.last - span:
            tail.keys.popleft()
    return tail


def _decode_from(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream, key: float, fps: float
) -> Generator[av.VideoFrame, None, None]:
    """The frames from the key frame at this time on."""
    begun = False
    for time, packet in _add_times(container.demux(stream), fps, _begin(stream)):
        begun = begun or (packet.is_keyframe and time >= key)
        if not begun:
            continue
        if packet.is_corrupt:
            raise MediaError(f"{path} is damaged at second {time:.1f}: get a whole copy of it")
        yield from packet.decode()


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterable[av.Packet[Any]]:
    return (packet for packet in container.demux(stream) if packet.size)  # an empty one marks the end


def _add_times(items: Iterable[Any], fps: float, begin: float) -> Generator[tuple[float, Any], None, None]:
    """Coded or decoded frames with their times in seconds; evenly spaced if the file has no times."""
    time = begin - 1 / fps
    for item in items:
        stamp = item.pts if item.pts is not None else item.dts
        time = time + 1 / fps if stamp is None else float(stamp * item.time_base)
        yield time, item


def _seek(container: av.container.InputContainer, stream: av.VideoStream, offset: float | None) -> None:
    import av

    if offset is not None and stream.time_base:
        with contextlib.suppress(av.FFmpegError):  # then it is read from the beginning, which only takes longer
            container.seek(int(offset / stream.time_base), stream=stream)


def _stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The first stream that is not a cover picture."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError(f"{path} is sound with a picture on its cover: choose a video or a picture")


def _begin(stream: av.VideoStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def _read_claimed_end(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """End time in seconds according to the stream, else to the container; None for live recordings."""
    if stream.duration and stream.time_base:
        return _begin(stream) + float(stream.duration * stream.time_base)
    return (container.start_time or 0) / 1e6 + container.duration / 1e6 if container.duration else None


def _check_index(path: Path, stream: av.VideoStream) -> None:
    """Raises MediaError if an mp4's index has a frame behind the end of the file."""
    index = stream.index_entries
    last = max((index[place].pos + index[place].size for place in range(-min(_INDEXED, len(index)), 0)), default=0)
    length = os.path.getsize(path)
    if last > length:
        raise MediaError(f"{path} is cut short, {length:,} of {last:,} bytes are there: get a whole copy")


def _check_end(path: Path, kind: str, claimed: float | None, tail: _Tail) -> None:
    """Raises MediaError for a truncated AVI: its index at the end is lost, but its header tells the duration."""
    if kind == "avi" and claimed is not None and tail.end < claimed - 1:
        raise MediaError(f"{path} is cut short, {tail.end:.1f} of {claimed:.1f} seconds are there: get a whole copy")
