"""The process that opens published files: `python -m extensions.published.child`.

It reads one JSON object on stdin, `{"tasks": [...]}` with what `run_task` takes, and writes one a line on stdout:
`{"done": bytes}` on the way, `{"file": {...}}` for each task, `{"peak": bytes}` at the end, or `{"error": text}`.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Container, Mapping
from pathlib import Path

from extensions.published.archive import FETCH_AGAIN, read_archive, weights_in
from extensions.published.isolation import leave_network, limit_memory, peak_memory, refuse_programs
from lavie.errors import BundleError, LavieError, short
from lavie.files import file_hash

if typing.TYPE_CHECKING:
    import torch


_TEXT_PREFIX = "text_model."
_POSITIONS = "embeddings.position_ids"  # 0 … 76, kept by old versions; the model counts itself
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_COMPANIONS = ("vae", "text_encoder")  # with these a component's name ends, whichever stage it serves


def our_name(component: str, name: str, expected: Container[str]) -> str | None:
    """The name that a tensor has in our bundle; None for one that is not needed there.

    expected: the names that the component has now. The networks of the cascade are called as they were published.
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
Source = tuple[Shapes, typing.Callable[[], Mapping[str, "torch.Tensor"]]]


def main() -> None:
    """Work off what stdin asks for. Every end is told on stdout."""
    leave_network()
    asked = json.loads(sys.stdin.read())
    try:
        _work(asked["tasks"])
    except LavieError as error:
        _tell(error=str(error))
    except MemoryError:
        _tell(error="the weights take more memory than such files do, and were not opened: get them again")
    except OSError as error:
        _tell(
            error=f"the weights cannot be converted ({error.strerror or error}): free some space, or convert elsewhere"
        )


def _work(tasks: list[dict]) -> None:
    import torch

    from extensions.published import streaming  # noqa: F401  # imported before memory is limited

    torch.set_grad_enabled(False)
    limit_memory(max(Path(task["source"]).stat().st_size for task in tasks))
    refuse_programs()
    before = done = 0

    def show(written: int) -> None:
        nonlocal done
        done = before + written
        _tell(done=done)

    for task in tasks:
        _tell(file=run_task(**task, show=show))
        before = done
    _tell(peak=peak_memory())


def run_task(
    component: str,
    source: str,
    target: str,
    wanted: dict[str, list],
    expected_hash: str | None,
    show: Callable[[int], None],
) -> dict:
    """Convert one file.

    Args:
        source, target: paths of the published file and of the safetensors file to write.
        wanted: name → number type and shape, as `streaming.Wanted`, of every tensor.
        expected_hash: sha256 that the source has to have; None where that is not known.
        show: takes the bytes of numbers written of this file.

    Returns:
        sha256 and size of both files. Raises BundleError.
    """
    from extensions.published.streaming import Wanted, write_streamed

    path = Path(source)
    source_hash = file_hash(path)
    if expected_hash not in (None, source_hash):
        raise BundleError(f"{path.name} is not what was downloaded, its checksum differs: {FETCH_AGAIN}")
    expected = {name: Wanted(dtype, tuple(shape)) for name, (dtype, shape) in wanted.items()}
    shapes, opened = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    names = _matched(path, component, shapes, {name: tensor.shape for name, tensor in expected.items()})
    tensors = opened()
    written = write_streamed(Path(target), expected, lambda name: tensors[names[name]], show)
    return {
        "component": component,
        "sha256": written,
        "bytes": Path(target).stat().st_size,
        "source_sha256": source_hash,
        "source_bytes": path.stat().st_size,
    }


def _pickled(path: Path) -> Source:
    """What a `.pt` or `.bin` says it holds, and how to open it."""
    wrapper, described = weights_in(path, read_archive(path))

    def opened() -> Mapping[str, torch.Tensor]:
        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except MemoryError:
            raise
        except Exception as error:
            said = short(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            raise BundleError(f"{path.name} cannot be opened ({said}): {FETCH_AGAIN}") from None
        weights = content[wrapper] if wrapper else content
        for name, tensor in described.items():
            if not isinstance(weights.get(name), torch.Tensor) or tuple(weights[name].shape) != tensor.shape:
                raise BundleError(f"{path.name}: {short(name)} is not what it was said to be: {FETCH_AGAIN}")
        return weights

    return {name: (tensor.dtype, tensor.shape) for name, tensor in described.items()}, opened


class _Mapped(Mapping):
    """The tensors of an open safetensors file, each read when it is asked for."""

    def __init__(self, file):
        self._file = file

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def __iter__(self):
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


def _safetensors(path: Path) -> Source:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, "pt")
        slices = {name: file.get_slice(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        said = short(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise BundleError(f"{path.name} is damaged or cut short ({said}): {FETCH_AGAIN}") from None
    shapes = {name: (found.get_dtype(), tuple(found.get_shape())) for name, found in slices.items()}
    return shapes, lambda: _Mapped(file)


def _matched(path: Path, component: str, found: Shapes, expected: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Our name → theirs, of every tensor. Raises BundleError where names or shapes are not those of the network."""
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


def _tell(**message) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
