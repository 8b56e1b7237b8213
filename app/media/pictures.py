"""A clip as a still (poster) and as a small moving picture (preview), both webp. Knows Pillow; knows no gallery."""

from __future__ import annotations

import contextlib
import itertools
import typing
from collections.abc import Sequence
from pathlib import Path

from app.media.files import check_output, temporary
from app.media.reading import count_frames, fps_of, frames_of
from lavie.files import publish

if typing.TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

POSTER_SIDE, PREVIEW_SIDE, PREVIEW_FRAMES = 512, 256, 24
_LOOK = {"quality": 80, "method": 4}


def write_poster(source: Path, target: Path) -> None:
    """Write the middle frame of `source` as webp, its longest side at most `POSTER_SIDE`. Raises MediaError."""
    source, target = Path(source), Path(target)
    check_output(target, ".webp", sources=(source,))
    (poster,) = _picked(source, [count_frames(source) // 2], POSTER_SIDE)
    with temporary(target) as partial:
        poster.save(partial, "WEBP", **_LOOK)
        publish(partial, target)


def write_preview(source: Path, target: Path) -> None:
    """Write at most `PREVIEW_FRAMES` frames, spread over all of `source`, as webp that loops and lasts as long.

    Only those frames, made small, are in memory at once. Raises MediaError.
    """
    source, target = Path(source), Path(target)
    check_output(target, ".webp", sources=(source,))
    count = count_frames(source)
    shown = min(count, PREVIEW_FRAMES)
    pictures = _picked(source, [(2 * n + 1) * count // (2 * shown) for n in range(shown)], PREVIEW_SIDE)
    _save_moving(target, pictures, count / fps_of(source))


def write_animation(target: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames uint8 H W 3, made small, as webp that loops. Raises MediaError."""
    target = Path(target)
    check_output(target, ".webp")
    _save_moving(target, [_small(frame, PREVIEW_SIDE) for frame in frames], len(frames) / fps)


def _save_moving(target: Path, pictures: Sequence[Image], seconds: float) -> None:
    """seconds: it lasts."""
    # Between whole milliseconds, so that nothing adds up: each lasts from where it begins to where the next does.
    starts = [round(n * 1000 * seconds / len(pictures)) for n in range(len(pictures) + 1)]
    durations = [max(1, end - start) for start, end in itertools.pairwise(starts)]
    with temporary(target) as partial:
        first, *others = pictures
        first.save(partial, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **_LOOK)
        publish(partial, target)


def _picked(source: Path, numbers: list[int], side: int) -> list[Image]:
    """The frames of these numbers (ascending), made small. Of a clip shorter than its packets said, the last one."""
    pictures, wanted, last = [], iter(numbers), None
    number = next(wanted)
    with contextlib.closing(frames_of(source)) as frames:
        for index, last in enumerate(frames):
            if index == number:
                pictures.append(_small(last, side))
                number = next(wanted, None)
                if number is None:
                    break
    if not pictures:
        pictures.append(_small(last, side))
    return pictures


def _small(pixels: np.ndarray, side: int) -> Image:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture
