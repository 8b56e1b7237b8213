"""Weights → a safetensors file, one tensor at a time: memory for the largest of them, never for all.

The format: 8 bytes with the header's length, the header as JSON, the numbers one tensor behind the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from lavie.errors import BundleError

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
SHOW_BYTES = 32 * 2**20  # how often it is said how far it is
_ALIGNMENT = 8  # of where the numbers begin, so that they can be mapped


@dataclass(frozen=True)
class Wanted:
    """A tensor as it shall be written. dtype: one of `DTYPES`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def write_streamed(
    path: Path,
    wanted: Mapping[str, Wanted],
    tensor_of: Callable[[str], torch.Tensor],
    show: Callable[[int], None],
) -> str:
    """Write a file and have it on the disk; its sha256.

    tensor_of: gives the tensor of a name, of the shape that is wanted. show: takes the bytes of numbers written so
    far, now and then. Raises BundleError for numbers that the number type cannot hold.
    """
    # The widest numbers first, so that each tensor begins at a multiple of the size of its numbers.
    names = sorted(wanted, key=lambda name: (-DTYPES[wanted[name].dtype].itemsize, name))
    digest, done, shown = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        _write(file, digest, _header(names, wanted))
        for name in names:
            _write(file, digest, _bytes(name, tensor_of(name), wanted[name]))
            done += wanted[name].bytes
            if done - shown >= SHOW_BYTES or name == names[-1]:
                show(done)
                shown = done
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(names: list[str], wanted: Mapping[str, Wanted]) -> bytes:
    described, start = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = start + wanted[name].bytes
        described[name] = {"dtype": wanted[name].dtype, "shape": wanted[name].shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes(name: str, tensor: torch.Tensor, wanted: Wanted) -> memoryview:
    converted = tensor.detach().to(DTYPES[wanted.dtype]).contiguous().reshape(-1)
    if not torch.isfinite(converted).all():
        raise BundleError(
            f"{name} holds numbers that are none, or too large for {wanted.dtype}: convert with --dtype bf16, or get "
            "the file again if that says the same"
        )
    return memoryview(converted.view(torch.uint8).numpy())


def _write(file: BinaryIO, digest, content: bytes | memoryview) -> None:
    file.write(content)
    digest.update(content)
