"""Small clips to write and read back, and what the tests look at beside them."""

from __future__ import annotations

import os
import subprocess
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from app.media import EXPORTS, Limits, export_clip, frames_of, write_mp4
from lavie.video import Video

# All that a file of tags could stumble over.
RECIPE = '{"prompt": "ein \\"roter\\" Stern = # ; \\\\ \\n★ 日本"}\n\n[section]\nkey=value'


def numbered(count: int, fps: float = 8.0, width: int = 32, height: int = 16) -> Video:
    """Frames whose brightness tells which one they are."""
    levels = np.linspace(10, 245, count).round().astype(np.uint8)
    return Video(np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy(), fps)


def noise(count: int, fps: float = 8.0, width: int = 96, height: int = 64) -> Video:
    """Frames that make large files."""
    return Video(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8), fps)


def blocks(count: int, fps: float = 8.0, width: int = 96, height: int = 64) -> Video:
    """A red block that moves to the right on navy."""
    frames = np.full((count, height, width, 3), (20, 25, 80), np.uint8)
    for index, frame in enumerate(frames):
        left = 8 * (index % (width // 8 - 3))
        frame[16:48, left : left + 24] = (220, 40, 40)
    return Video(frames, fps)


def write_video(path: Path, video: Video, comment: str = "") -> None:
    write_mp4(path, video.frames, video.fps, comment)


def pixels(path: Path) -> np.ndarray:
    """All frames of a file, as integers to reckon with."""
    return np.stack(all_frames(path)).astype(int)


def all_frames(path: Path, limits: Limits | None = None) -> list[np.ndarray]:
    return list(frames_of(path, limits))


def ffmpeg(*arguments: object) -> None:
    """Run the real one, for files that our own writers do not make."""
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)], check=True)


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if "partial" in name]


def watched(frames: Iterable[np.ndarray], alive: list[int]) -> Iterator[np.ndarray]:
    """The frames as they come; `alive` gets, at each, how many of them are still in memory."""
    seen: list[weakref.ref] = []
    for frame in frames:
        seen = [reference for reference in seen if reference() is not None] + [weakref.ref(frame)]
        alive.append(len(seen))
        yield frame


def exported(source: Path, folder: Path, kind: str, **options: bool) -> Path:
    target = folder / f"out{EXPORTS[kind].suffix}"
    export_clip(source, target, kind, **options)
    return target
