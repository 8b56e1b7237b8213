"""Hashes of files, their record `weights.json` beside the weights, and safe writing. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lavie.values import parse_object

RECORD = "weights.json"


@dataclass(frozen=True)
class Kept:
    """A file when its hash was taken. bytes: its size. modified: the file system's time in nanoseconds."""

    sha256: str
    bytes: int
    modified: int

    @classmethod
    def of(cls, file: Path, sha256: str) -> Kept:
        """A file as it is now, with its hash."""
        status = file.stat()
        return cls(sha256, status.st_size, status.st_mtime_ns)


def file_hash(file: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_record(folder: Path) -> dict[str, Kept]:
    """The recorded files by their paths in the folder; empty where no record can be read."""
    try:
        files = parse_object((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return {name: Kept(str(kept["sha256"]), kept["bytes"], kept["modified"]) for name, kept in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_record(folder: Path, files: Mapping[str, Kept], about: Mapping[str, Any]) -> None:
    """Write what `read_record` reads, and the values of `about` beside it."""
    write_json(folder / RECORD, {**about, "files": {name: asdict(kept) for name, kept in sorted(files.items())}})


def unchanged_hash(folder: Path, name: str, record: Mapping[str, Kept]) -> str:
    """sha256 of a file: the recorded one if size and time are unchanged, else computed."""
    kept, file = record.get(name), folder / name
    return kept.sha256 if kept is not None and kept == Kept.of(file, kept.sha256) else file_hash(file)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON. After a crash the file is either the old or the new one."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def publish(partial: Path, file: Path) -> None:
    """Rename a finished file in one step that survives a power cut."""
    sync(partial)
    os.replace(partial, file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never shows a name without its content."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows syncs only what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
