"""New clips from stored ones: a part of one, or several in a row. Knows frames and files; knows no gallery.

Everything is coded again, since a cut between two coded key frames would otherwise not be where it was asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import typing
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.media.encode import encode_frames
from app.media.files import check_output
from app.media.reading import count_frames, fps_of, frames_of
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import numpy as np


def trim(source: Path, target: Path, start: int, stop: int, recipe_json: str = "") -> None:
    """Write the frames `start` … `stop` − 1 of `source`, counted from 0, as a new mp4. Raises MediaError."""
    source, target = Path(source), Path(target)
    check_output(target, sources=(source,))
    count = count_frames(source)
    if not 0 <= start < stop <= count:
        raise MediaError(f"{source} has frames 0 … {count - 1}, not {start} … {stop - 1}: choose a part within them")
    with contextlib.closing(frames_of(source)) as frames:
        encode_frames(target, itertools.islice(frames, start, stop), fps_of(source), recipe_json)


def join(sources: Sequence[Path], target: Path, crossfade: int = 0, recipe_json: str = "") -> None:
    """Write clips of one size and rate after one another as a new mp4.

    crossfade: how many frames of each are blended into as many of the next. Raises MediaError naming the file that
    does not fit.
    """
    sources, target = [Path(source) for source in sources], Path(target)
    check_output(target, sources=tuple(sources))
    _check_alike(sources, crossfade)
    with contextlib.closing(_joined(sources, crossfade)) as frames:
        encode_frames(target, frames, fps_of(sources[0]), recipe_json)


def _check_alike(sources: list[Path], crossfade: int) -> None:
    if not sources:
        raise MediaError("there is nothing to join: name at least one clip")
    if crossfade < 0:
        raise MediaError(f"a cross-fade of {crossfade} frames cannot be: give 0 for a cut, or more")
    first = _measures(sources[0])
    for source in sources:
        measures = _measures(source)
        if measures != first:
            raise MediaError(f"{source} is {measures}, {sources[0]} is {first}: join clips of one size and rate")
        count = count_frames(source)
        if count < crossfade and len(sources) > 1:
            raise MediaError(f"{source} has {count} frames, fewer than the {crossfade} to blend: choose a shorter fade")


def _measures(source: Path) -> str:
    """Size and rate, as shown."""
    with contextlib.closing(frames_of(source)) as frames:
        height, width = next(frames).shape[:2]
    return f"{width}×{height} at {fps_of(source):.5g} fps"


def _joined(sources: list[Path], crossfade: int) -> Iterator[np.ndarray]:
    """The frames of all, of which the last `crossfade` are held back until it is known what comes after them."""
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
    """`share` of `after`, the rest of `before`."""
    import numpy as np

    return np.rint(before * (1 - share) + after * share).astype(np.uint8)
