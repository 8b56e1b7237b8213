"""Hashes, moves and writes the gallery's files. Errors of the system become StorageError with a way out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from app.media.files import temporary
from lavie.errors import StorageError
from lavie.files import file_hash, publish


def hash_file(path: Path) -> str:
    """SHA-256 of a file. Raises StorageError if it cannot be read."""
    with storage_errors(path):
        return file_hash(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all. Raises MediaError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
        publish(partial, path)


def move(source: Path, target: Path) -> None:
    """Rename a file within the data folder, replacing `target`. Raises StorageError."""
    with storage_errors(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system about a file into StorageError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{path} cannot be read or written ({reason}): check the disk and your permissions"
        ) from error
