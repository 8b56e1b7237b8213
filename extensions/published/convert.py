"""Converts published files to a bundle, which appears complete or not at all, and compares bundles with their record.

A process of its own opens the published files (`child`); this one prepares its tasks and publishes the result.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from extensions.published.facts import PUBLISHED, Published
from extensions.published.isolation import OFFLINE
from extensions.published.layout import MERGES, VOCABULARY, Found, recognise
from lavie.bundle import Bundle, stored_type
from lavie.errors import BundleError, short
from lavie.events import Notice
from lavie.files import RECORD, Kept, file_hash, read_record, sync, write_json, write_record
from lavie.manifest import EXTENSION, FORMAT, MANIFEST, NETWORK_FILE, TEXT_FILE
from lavie.request import STAGES

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "extensions.published.child"]


def run_child(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Run `tasks` in a process (see `child`) and yield its messages. The process ends with this generator.

    Raises BundleError with the process's error or exit status.
    """
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        )
        assert process.stdin and process.stdout  # both are pipes
        try:
            with process.stdin:
                process.stdin.write(json.dumps({"tasks": tasks}))
            for line in process.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise BundleError(message["error"])
                yield message
            if code := process.wait():
                raise _child_error(code, complaints)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _child_error(code: int, complaints: IO[bytes]) -> BundleError:
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
    return BundleError(
        f"the process that opens the weights ended before its work was done ({short(said[-1])}): close what else needs "
        "memory and try again"
    )


DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}  # as safetensors has them
_MAX_VOCABULARY = 16 * 2**20  # bytes of a tokenizer's file; CLIP's have 1 MB and 0.5 MB


@dataclass(frozen=True)
class Converting:
    """Progress in bytes of the bundle. component: the current or next one."""

    component: str
    done: int
    total: int


@dataclass(frozen=True)
class Converted:
    """A finished bundle.

    Args:
        files, sources: sha256 by name of the files written and read.
        peak_memory: of the process in bytes; None if the system does not tell.
    """

    folder: Path
    stages: tuple[str, ...]
    files: dict[str, str]
    sources: dict[str, str]
    peak_memory: int | None


def convert(
    source: Path, output: Path, dtype: str = "fp16", published: Published = PUBLISHED
) -> Generator[Notice | Converting | Converted, None, None]:
    """Make a bundle of the usable files in `source`; `output` is replaced once the new bundle is complete.

    Closing the generator stops and leaves `output` as it was. Raises BundleError for missing or damaged files, another
    model, or a full disk.
    """
    if dtype not in DTYPES:
        raise BundleError(f"dtype is {short(dtype)}: choose one of {', '.join(DTYPES)}")
    output = output.absolute()
    found = recognise(source)
    _check_output(output, found.folder)
    for stage, lacks in found.left_out.items():
        yield Notice(f"{stage} is left out, it needs {', '.join(lacks)} too")
    partial = output.with_name(f".{output.name}.partial")
    try:
        tasks = _prepare(found, partial, DTYPES[dtype], published)
        yield from _convert(found, tasks, partial, output, dtype, published)
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(
            f"the bundle cannot be written to {output} ({reason}): free some space or choose another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(
    found: Found, tasks: list[dict[str, Any]], partial: Path, output: Path, dtype: str, published: Published
) -> Generator[Converting | Converted, None, None]:
    total = sum(_size(task) for task in tasks)
    _check_space(output, total)
    sizes = {task["component"]: _size(task) for task in tasks}
    yield Converting(tasks[0]["component"], 0, total)
    written: list[dict[str, Any]] = []
    peak = None
    for message in run_child(tasks):
        match message:
            case {"done": done}:
                yield Converting(_component_at(sizes, done), min(done, total), total)
            case {"file": file}:
                written.append(file | {"name": _weight_file(file["component"], published)})
            case {"peak": peak}:
                pass
    bundle = Bundle(partial)
    for file in written:
        bundle.check(file["component"])
    stages = tuple(stage for stage in (*STAGES, EXTENSION) if not bundle.missing(stage))
    for stage in stages:
        bundle.text_encoder(stage).tokens(["a prompt"])
    sources = {found.weights[file["component"]].relative_to(found.folder).as_posix(): file for file in written}
    files = _record(partial, written, sources, dtype)
    _publish(partial, output)
    hashes = {name: file["source_sha256"] for name, file in sources.items()}
    yield Converted(output, stages, files, hashes, peak)


def _prepare(found: Found, partial: Path, dtype: torch.dtype, published: Published) -> list[dict[str, Any]]:
    """Write everything but the weights, and return the tasks for `child.run_task`."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    stages = [*(stage for stage in (*STAGES, EXTENSION) if stage in found.weights)]
    about = {name: value for name, value in published.manifest.items() if name not in (*STAGES, EXTENSION)}
    manifest = {"format": FORMAT, **about, **{stage: published.manifest[stage] for stage in stages}}
    write_json(partial / MANIFEST, manifest)
    for component in found.weights:
        (partial / component).mkdir()
        write_json(partial / component / "config.json", published.configs[component])
    for component, folder in found.tokenizers.items():
        _copy_tokenizer(folder, partial / component, dict(published.tokenizers[component]))
    bundle, known = Bundle(partial), read_record(found.folder)
    tasks = []
    for component, file in found.weights.items():
        kept = known.get(file.relative_to(found.folder).as_posix())
        tasks.append(
            {
                "component": component,
                "source": str(file.absolute()),
                "target": str(partial / _weight_file(component, published)),
                "wanted": {
                    name: [_NAMES[stored_type(name, dtype)], shape] for name, shape in bundle.shapes(component).items()
                },
                "expected_hash": kept.sha256 if kept else None,
            }
        )
    return tasks


def _copy_tokenizer(source: Path, target: Path, config: dict[str, Any]) -> None:
    """Copy a tokenizer's vocabulary. Its configuration is ours except for the padding token."""
    target.mkdir()
    for name in (VOCABULARY, MERGES):
        if (source / name).stat().st_size > _MAX_VOCABULARY:
            raise BundleError(f"{source / name} has more than {_MAX_VOCABULARY} bytes: no tokenizer has, get it again")
        shutil.copyfile(source / name, target / name)
    try:
        padding = json.loads((source / "special_tokens_map.json").read_text(encoding="utf-8"))["pad_token"]
        padding = padding["content"] if isinstance(padding, dict) else padding
        config |= {"pad_token": padding} if isinstance(padding, str) else {}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # keep the published default
    write_json(target / "tokenizer_config.json", config)


def _record(
    partial: Path, written: list[dict[str, Any]], sources: dict[str, dict[str, Any]], dtype: str
) -> dict[str, str]:
    """Record every file of the bundle. Returns sha256 by name."""
    weights = {file["name"]: file["sha256"] for file in written}
    kept = {}
    for file in sorted(path for path in partial.rglob("*") if path.is_file()):
        name = file.relative_to(partial).as_posix()
        kept[name] = Kept.of(file, weights.get(name) or file_hash(file))
    about = {
        "dtype": dtype,
        "sources": {
            name: {"sha256": file["source_sha256"], "bytes": file["source_bytes"]} for name, file in sources.items()
        },
    }
    write_record(partial, kept, about)
    return {name: file.sha256 for name, file in kept.items()}


def _check_output(output: Path, source: Path) -> None:
    if output.resolve() == source.resolve():
        raise BundleError(f"{output} is what is to be converted: give another folder for the bundle")
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / MANIFEST).is_file()):
        raise BundleError(f"{output} is there and is no bundle: give a new folder, or one that holds a bundle")


def _check_space(output: Path, needed: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise BundleError(
            f"the bundle takes {needed / 1e9:.1f} GB and {output.parent} has {free / 1e9:.1f} GB free: free some, or "
            "give another folder by --output"
        )


def _publish(partial: Path, output: Path) -> None:
    """Put the new bundle in the old one's place; the old one keeps another name until then."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    for folder in (*(path for path in partial.iterdir() if path.is_dir()), partial):
        sync(folder)
    if output.is_dir():
        output.replace(old)
    partial.replace(output)
    sync(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def _weight_file(component: str, published: Published) -> str:
    return f"{component}/{NETWORK_FILE if '_class_name' in published.configs[component] else TEXT_FILE}"


def _size(task: dict[str, Any]) -> int:
    bytes_of = {name: dtype.itemsize for dtype, name in _NAMES.items()}
    return sum(bytes_of[dtype] * math.prod(shape) for dtype, shape in task["wanted"].values())


def _component_at(sizes: dict[str, int], done: int) -> str:
    """The component that is being written after `done` bytes."""
    for component, size in sizes.items():
        if done <= size:
            return component
        done -= size
    return component


@dataclass(frozen=True)
class Checking:
    """Progress in bytes. file: the one being read."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`: sha256 by name, and what is wrong.

    Args:
        changed, gone, unknown: names that differ from the record, are missing, or are not in it.
        unfit: component → what is wrong with its names or shapes.
        stages: stage → missing or damaged files; empty if it can run.
    """

    folder: Path
    name: str
    recorded: bool
    files: dict[str, str]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    unknown: tuple[str, ...]
    unfit: dict[str, str]
    stages: dict[str, list[str]]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong. Parts that the bundle never had are no fault."""
        return not (self.changed or self.gone or self.unfit)


def verify(folder: Path) -> Iterator[Checking | Verdict]:
    """Read a whole bundle; the last value is the verdict. Raises BundleError if `folder` is no bundle."""
    bundle, record = Bundle(folder), read_record(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name != RECORD]
    sizes = {name: (folder / name).stat().st_size for name in names}
    hashes, done = {}, 0
    for name in names:
        yield Checking(name, done, sum(sizes.values()))
        hashes[name] = file_hash(folder / name)
        done += sizes[name]
    changed = tuple(name for name in names if name in record and record[name].sha256 != hashes[name])
    gone = tuple(name for name in record if name not in hashes)
    unfit = {}
    for component in bundle.components():
        try:
            bundle.check(component)
        except BundleError as error:
            unfit[component] = str(error)
    stages = {stage: _missing_files(bundle, stage, {*changed, *gone}, unfit) for stage in bundle.defaults}
    unknown = tuple(name for name in names if name not in record)
    yield Verdict(folder, bundle.name, bool(record), hashes, changed, gone, unknown, unfit, stages)


def _missing_files(bundle: Bundle, stage: str, damaged: set[str], unfit: dict[str, str]) -> list[str]:
    """The files or unfit components without which a stage cannot or should not run."""
    lacks = {*bundle.missing(stage)} | damaged & {MANIFEST}
    for component in bundle.needed(stage):
        lacks |= {name for name in damaged if name.startswith(f"{component}/")}
        lacks |= {component} if component in unfit else set()
    return sorted(lacks)
