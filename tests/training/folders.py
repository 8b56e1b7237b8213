"""Folders of media as people have them, at toy size: moving squares in colours, and everything that can be wrong."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from app.media import write_mp4
from lavie.video import Video

CAPTIONS = ("a red square", "a blue circle", "a green star")


def clip(number: int, frames: int = 8, width: int = 32, height: int = 16) -> Video:
    """A bright square that moves to the right on a dark ground, its colour by the number."""
    pixels = np.full((frames, height, width, 3), 20, dtype=np.uint8)
    for frame in range(frames):
        left = 2 + frame * (width - 10) // max(frames - 1, 1)
        pixels[frame, 4:12, left : left + 6] = (60 + 23 * number % 190, 200 - 31 * number % 180, 90 + 47 * number % 160)
    return Video(pixels, 8)


def write_clip(path: Path, number: int, **size) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = clip(number, **size)
    write_mp4(path, video.frames, video.fps)
    return path


def write_picture(path: Path, number: int, width: int = 48, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clip(number, 1, width, height).frames[0]).save(path)
    return path


def write_table(path: Path, rows: list[tuple[str, str]], columns: tuple[str, str] = ("file_name", "text")) -> None:
    """A csv, or with that ending a jsonl, of files and captions."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
        return
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def own_folder(folder: Path, clips: int = 3, pictures: int = 3, **size) -> Path:
    """`clips` videos named by a metadata.csv, and `pictures` with a caption beside each."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(clips):
        write_clip(folder / f"clips/{number}.mp4", number, **size)
        rows.append((f"clips/{number}.mp4", CAPTIONS[number % len(CAPTIONS)]))
    write_table(folder / "metadata.csv", rows)
    for number in range(pictures):
        write_picture(folder / f"pictures/{number}.png", number).with_suffix(".txt").write_text("a white heart\n")
    return folder


def write_shard(path: Path, parts: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    """A tar with these members, and behind them others that hold nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in others:
            tar.addfile(info)
    return path
