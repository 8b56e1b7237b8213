"""The process that opens published files: `python -m extensions.published.child`.

It reads one JSON object from stdin, `{"tasks": [...]}` with the arguments of `run_task`, and writes one a line to
stdout: `{"done": bytes}` for progress, `{"file": {...}}` for each task, `{"peak": bytes}` at the end, or
`{"error": text}`. Tensors are written to safetensors files one at a time, so memory holds the largest tensor, not all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from extensions.published.archive import FETCH_AGAIN, find_weights, read_archive
from extensions.published.isolation import leave_network, limit_memory, peak_memory, refuse_programs
from lavie.errors import BundleError, LavieError, short
from lavie.files import file_hash

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
SHOW_BYTES = 32 * 2**20  # bytes between two reports
_ALIGNMENT = 8  # of the start of the numbers, for memory mapping


@dataclass(frozen=True)
class Wanted:
    """A tensor to write. dtype: one of `DTYPES`."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def write_streamed(
    path: Path,
    wanted: Mapping[str, Wanted],
    tensor_of: Callable[[str], torch.Tensor],
    show: Callable[[int], None],
) -> str:
    """Write a safetensors file, sync it to disk and return its sha256.

    Args:
        tensor_of: name → tensor of the wanted shape.
        show: called now and then with the bytes of numbers written so far.

    Raises BundleError for numbers that the number type cannot hold.
    """
    # The widest numbers come first, so that each tensor is aligned to its number size.
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
    described: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}
    start = 0
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
    return converted.view(torch.uint8).numpy().data


def _write(file: BinaryIO, digest: Any, content: bytes | memoryview) -> None:
    file.write(content)
    digest.update(content)


_TEXT_PREFIX = "text_model."
_POSITIONS = "embeddings.position_ids"  # 0 … 76, kept by old versions; the model counts itself
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_COMPANIONS = ("vae", "text_encoder")  # with these a component's name ends, whichever stage it serves


def our_name(component: str, name: str, expected: Container[str]) -> str | None:
    """The name of a tensor in our bundle; None if it is not needed there.

    expected: the names that the component has now. Networks of the cascade keep their published names.
    """
    if name in expected or not component.endswith(_COMPANIONS):
        return name
    bare = name.removeprefix(_TEXT_PREFIX)
    if bare == _POSITIONS:
        return None
    owner, _, kind = bare.rpartition(".")
    above, _, layer = owner.rpartition(".")
    renamed = f"{above}.{_ATTENTION[layer]}.{kind}" if layer in _ATTENTION else bare
    return next((known for known in (renamed, _TEXT_PREFIX + name) if known in expected), name)


NUMBERS = ("F64", "F32", "F16", "BF16")
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # name → number type and shape
Reader = Callable[[str], torch.Tensor]  # the tensor of a published name
Source = tuple[Shapes, Callable[[], Reader]]


def main() -> None:
    """Run the tasks on stdin and report every outcome on stdout."""
    leave_network()
    asked = json.loads(sys.stdin.read())
    try:
        _work(asked["tasks"])
    except LavieError as error:
        _send(error=str(error))
    except MemoryError:
        _send(error="the weights take more memory than such files do, and were not opened: get them again")
    except OSError as error:
        _send(
            error=f"the weights cannot be converted ({error.strerror or error}): free some space, or convert elsewhere"
        )


def _work(tasks: list[dict[str, Any]]) -> None:
    torch.set_grad_enabled(False)
    limit_memory(max(Path(task["source"]).stat().st_size for task in tasks))
    refuse_programs()
    before = done = 0

    def show(written: int) -> None:
        nonlocal done
        done = before + written
        _send(done=done)

    for task in tasks:
        _send(file=run_task(**task, show=show))
        before = done
    _send(peak=peak_memory())


def run_task(
    component: str,
    source: str,
    target: str,
    wanted: dict[str, list[Any]],
    expected_hash: str | None,
    show: Callable[[int], None],
) -> dict[str, Any]:
    """Convert the published file `source` to the safetensors file `target`; returns sha256 and size of both.

    Args:
        wanted: name → number type and shape of every tensor, as in `Wanted`.
        expected_hash: sha256 of the source; None if unknown.
        show: called with the bytes of this file written so far.

    Raises BundleError for other files than expected.
    """
    path = Path(source)
    source_hash = file_hash(path)
    if expected_hash not in (None, source_hash):
        raise BundleError(f"{path.name} is not what was downloaded, its checksum differs: {FETCH_AGAIN}")
    expected = {name: Wanted(dtype, tuple(shape)) for name, (dtype, shape) in wanted.items()}
    shapes, open_weights = _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    names = _match_names(path, component, shapes, {name: tensor.shape for name, tensor in expected.items()})
    read = open_weights()
    written = write_streamed(Path(target), expected, lambda name: read(names[name]), show)
    return {
        "component": component,
        "sha256": written,
        "bytes": Path(target).stat().st_size,
        "source_sha256": source_hash,
        "source_bytes": path.stat().st_size,
    }


def _open_pickle(path: Path) -> Source:
    """The shapes in a `.pt` or `.bin`, and a function that opens it."""
    wrapper, described = find_weights(path, read_archive(path))

    def open_weights() -> Reader:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except MemoryError:
            raise
        except Exception as error:
            raise BundleError(f"{path.name} cannot be opened ({_first_line(error)}): {FETCH_AGAIN}") from None
        weights = content[wrapper] if wrapper else content
        for name, tensor in described.items():
            if not isinstance(weights.get(name), torch.Tensor) or tuple(weights[name].shape) != tensor.shape:
                raise BundleError(f"{path.name}: {short(name)} is not what it was said to be: {FETCH_AGAIN}")
        return weights.__getitem__

    return {name: (tensor.dtype, tensor.shape) for name, tensor in described.items()}, open_weights


def _first_line(error: Exception) -> str:
    return short((str(error).strip() or type(error).__name__).splitlines()[0])


def _open_safetensors(path: Path) -> Source:
    try:
        file = safe_open(path, "pt")
        slices = {name: file.get_slice(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name} is damaged or cut short ({_first_line(error)}): {FETCH_AGAIN}") from None
    shapes = {name: (found.get_dtype(), tuple(found.get_shape())) for name, found in slices.items()}
    return shapes, lambda: file.get_tensor


def _match_names(path: Path, component: str, found: Shapes, expected: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Our name → the published name of every tensor. Raises BundleError for the names or shapes of another network."""
    theirs = {ours: name for name in found if (ours := our_name(component, name, expected)) is not None}
    other = f"these are weights of another model, or part of them: {FETCH_AGAIN}"
    if absent := sorted(expected.keys() - theirs.keys()):
        raise BundleError(f"{path.name} lacks {absent[0]} and {len(absent) - 1} more of {component}: {other}")
    if extra := sorted(theirs.keys() - expected.keys()):
        raise BundleError(
            f"{path.name} holds {short(extra[0])} and {len(extra) - 1} more that {component} has not: {other}"
        )
    for ours, name in theirs.items():
        dtype, shape = found[name]
        if shape != expected[ours]:
            shapes = f"{short(list(shape))}, {component} has {list(expected[ours])}"
            raise BundleError(f"{path.name}: {name} has the shape {shapes}: {other}")
        if dtype not in NUMBERS:
            raise BundleError(f"{path.name}: {name} has numbers of type {dtype}: give weights in {', '.join(NUMBERS)}")
    return theirs


def _send(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
