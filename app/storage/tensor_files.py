"""Files of tensors that are either whole or absent, and are checked by their hash when they are read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing
from collections.abc import Mapping
from pathlib import Path

from lavie.errors import StorageError

if typing.TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], what: str) -> tuple[str, int]:
    """Store tensors as safetensors; the SHA-256 and size of the file. what: their name in messages.

    Raises StorageError, with nothing half stored.
    """
    return write_bytes(path, content_of(tensors), what)


def content_of(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of the file. The same tensors give the same bytes."""
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def write_bytes(path: Path, content: bytes, what: str) -> tuple[str, int]:
    """Store bytes; see `write_tensors`."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # safetensors itself would leave a file of another name when it is killed.
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(f"{what} cannot be kept in {path.parent} ({reason}): free some space") from error
    return hashlib.sha256(content).hexdigest(), len(content)


def read_tensors(path: Path, file_hash: str, what: str) -> dict[str, Tensor]:
    """The stored tensors, on the CPU. Raises StorageError if the file is gone or damaged."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{what} in {path} cannot be read ({reason})") from error
    if hashlib.sha256(content).hexdigest() != file_hash:
        raise StorageError(f"{what} in {path} are damaged: they are not what was stored")
    return load(content)
