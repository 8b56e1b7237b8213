"""Reads the header of a safetensors file within limits, before any of it is trusted. Needs no torch.

Pickles (`.pt`, `.ckpt`, `.bin`) are refused, embeddings included: a pickle is a program, and torch's `weights_only`
reader was broken twice (CVE-2025-32434, CVE-2026-24747) and unpacks small files to any size.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavie.errors import AdapterError, short

MAX_FILE = 2 * 2**30  # bytes; a rank-128 file with all convolutions in float32 has a quarter of it
MAX_HEADER = 4 * 2**20  # bytes; usually below 100 KiB
MAX_TENSORS = 5000  # SD 1 with all convolutions as LoKr has 2 600
MAX_ELEMENTS = 2**31
DTYPES = ("F32", "F16", "BF16")
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"7z\xbc\xaf")
FETCH_AGAIN = "fetch the file again from where it came"


@dataclass(frozen=True)
class Header:
    """A file's header: the shape of every tensor by key, and untrusted texts."""

    path: Path
    size: int
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path | str) -> Header:
    """Read only the header. Raises AdapterError for anything but a safetensors file and beyond the limits."""
    path = Path(path)
    try:
        size = path.stat().st_size
        text = _header_bytes(path, size)
    except OSError as error:
        reason = error.strerror or error
        raise AdapterError(f"{path} cannot be read ({reason}): give the path of a .safetensors file") from None
    described = _describe(path, text)
    metadata = described.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise AdapterError(f"{path.name} has metadata {short(metadata)}, not texts: {FETCH_AGAIN}")
    if not 1 <= len(described) <= MAX_TENSORS:
        raise AdapterError(f"{path.name} holds {len(described)} tensors: give an adapter with 1 to {MAX_TENSORS}")
    return Header(path, size, {key: _shape(path, key, value) for key, value in described.items()}, metadata)


def _header_bytes(path: Path, size: int) -> bytes:
    if size > MAX_FILE:
        raise AdapterError(f"{path.name} has {size} bytes: an adapter has at most {MAX_FILE}, give a smaller one")
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        whole = len(start) == 8 and 2 <= length <= size - 8
        if path.suffix.lower() in PICKLES or (not whole and start.startswith(_PICKLE_STARTS)):
            raise AdapterError(
                f"{path.name} is a pickle or an archive, which can run code or unpack to any size: convert it to "
                "safetensors where you trust it, and bring that file"
            )
        if not whole:
            raise AdapterError(f"{path.name} is no safetensors file, or was cut short at {size} bytes: {FETCH_AGAIN}")
        if length > MAX_HEADER:
            raise AdapterError(
                f"{path.name} has a header of {length} bytes, more than {MAX_HEADER}: save the file again with less "
                "metadata"
            )
        return stream.read(length)


def _describe(path: Path, text: bytes) -> dict[str, Any]:
    try:
        described = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except KeyError as error:
        raise AdapterError(f"{path.name} names {short(error.args[0])} twice: {FETCH_AGAIN}") from None
    except (ValueError, RecursionError):
        raise AdapterError(f"{path.name} has a header that is no JSON: {FETCH_AGAIN}") from None
    if not isinstance(described, dict):
        raise AdapterError(f"{path.name} has the header {short(described)}, not a table of tensors: {FETCH_AGAIN}")
    return described


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise KeyError(key)
        found[key] = value
    return found


def _shape(path: Path, key: str, tensor: Any) -> tuple[int, ...]:
    dtype, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
    if dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise AdapterError(f"{path.name}: {short(key)} has number type {short(dtype)}: save it in one of {known}")
    sizes = tuple(shape) if isinstance(shape, list) else (0,)
    whole = len(sizes) <= 5 and all(type(n) is int and n > 0 for n in sizes)
    if whole and math.prod(sizes) <= MAX_ELEMENTS:
        return sizes
    raise AdapterError(f"{path.name}: {short(key)} has shape {short(shape)}, which no layer has: {FETCH_AGAIN}")
