"""Inspects the zip that `torch.save` writes before torch opens it. Needs no torch.

torch stores each entry unpacked, one after the other. Packed or overlapping entries, unknown names and sizes beyond the
file's own are a bomb, a script or damage.
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavie.errors import BundleError, short

# Storage type → (number type as safetensors names it, bytes of a number).
STORAGES = {
    "torch DoubleStorage": ("F64", 8),
    "torch FloatStorage": ("F32", 4),
    "torch HalfStorage": ("F16", 2),
    "torch BFloat16Storage": ("BF16", 2),
    "torch LongStorage": ("I64", 8),
    "torch IntStorage": ("I32", 4),
    "torch BoolStorage": ("BOOL", 1),
}
_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_GLOBALS = {*STORAGES, _DICT, _TENSOR, _PARAMETER}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CODE = ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID")
WRAPPERS = ("ema", "state_dict")  # keys under which weights may lie


@dataclass(frozen=True)
class Global:
    """A name in a pickle, as text; it is never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A block of as many numbers as it claims to hold. key: its entry in the archive."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor. start: its first number in the storage."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The number type as safetensors names it."""
        return STORAGES[self.storage.kind][0]


def find_weights(path: Path, archive: Archive) -> tuple[str | None, dict[str, TensorInfo]]:
    """The key under which the weights lie (None: at the top), and the weights, each within its storage.

    Raises BundleError for anything else.
    """
    try:
        content = _follow(path, archive.pickle)
    except BundleError:
        raise
    except Exception as error:  # a malformed pickle may raise anything
        said = short(str(error) or type(error).__name__)
        raise BundleError(f"{path.name} holds no readable table of tensors ({said}): {FETCH_AGAIN}") from None
    wrapper = next(
        (name for name in WRAPPERS if isinstance(content, dict) and isinstance(content.get(name), dict)), None
    )
    weights = content[wrapper] if wrapper else content
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, TensorInfo) for v in weights.values()):
        raise BundleError(f"{path.name} holds something else than weights: give a file of weights, as published")
    for name, tensor in weights.items():
        _check_inside(path, name, tensor, archive)
    return wrapper, weights


def _check_inside(path: Path, name: str, tensor: TensorInfo, archive: Archive) -> None:
    """All numbers of a tensor must be in the file: strides may repeat few numbers endlessly."""
    storage = tensor.storage
    stored = archive.storages.get(storage.key)
    if stored != storage.size * STORAGES[storage.kind][1]:
        raise BundleError(
            f"{path.name}: {short(name)} needs {storage.size} numbers, of which {stored or 0} bytes are there: "
            f"{FETCH_AGAIN}"
        )
    elements = math.prod(tensor.shape)
    last = tensor.start + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=False))
    if len(tensor.shape) != len(tensor.stride) or not 0 < elements <= storage.size or last >= storage.size:
        raise BundleError(
            f"{path.name}: {short(name)} of shape {short(list(tensor.shape))} is made of {storage.size} numbers, "
            f"too few: {FETCH_AGAIN}"
        )


def _follow(path: Path, pickle: bytes) -> Any:
    """The value that a pickle describes, in dicts, lists, tuples, texts, numbers and the classes above."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(pickle):
        name = instruction.name
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("TUPLE", "SETITEMS", "APPENDS"):
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            _add(name, stack, items)
        elif name != "PROTO":
            _step(path, name, argument, stack)
    raise ValueError("it has no end")


def _step(path: Path, name: str, argument: Any, stack: list[Any]) -> None:
    """Run one instruction that needs neither marks nor the memo."""
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _VALUES:
        stack.append(argument)
    elif name in _TUPLES:
        count = _TUPLES[name]
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
    elif name in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if name == "EMPTY_DICT" else [])
    elif name == "GLOBAL" and argument in _GLOBALS:
        stack.append(Global(argument))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        stack.append(_call(called, arguments))
    elif name in ("SETITEM", "APPEND"):
        count = 2 if name == "SETITEM" else 1
        items = stack[-count:]
        del stack[-count:]
        _add(f"{name}S", stack, items)
    elif name == "BUILD":
        stack.pop()  # attributes that modules leave on their dicts
    else:
        named = f"names {short(argument.replace(' ', '.'))}" if name in ("GLOBAL", "INST") else f"uses {name}"
        why = "which can run code" if name in _CODE else "which no table of tensors needs"
        raise BundleError(
            f"{path.name} {named}, {why}: it was not opened; get the weights from where they were published"
        )


def _add(name: str, stack: list[Any], items: list[Any]) -> None:
    if name == "TUPLE":
        stack.append(tuple(items))
    elif name == "APPENDS":
        stack[-1].extend(items)
    else:
        keys = items[::2]
        if not isinstance(stack[-1], dict) or not all(isinstance(key, (str, int)) for key in keys):
            raise ValueError("a table whose names are no names")
        stack[-1].update(zip(keys, items[1::2], strict=True))


def _storage(described: Any) -> Storage:
    kind, named, key, _, size = described
    known = kind == "storage" and isinstance(named, Global) and named.name in STORAGES
    if not known or not isinstance(key, str) or type(size) is not int:
        raise ValueError("a storage of no known kind")
    return Storage(named.name, key, size)


def _call(called: Any, arguments: Any) -> Any:
    if called == Global(_DICT) and arguments == ():
        return {}
    if called == Global(_PARAMETER):
        return arguments[0]
    if called != Global(_TENSOR):
        raise ValueError("a call of what is no tensor")
    storage, start, shape, stride = arguments[:4]
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in (start, *shape, *stride)):
        raise ValueError("a tensor without a storage or a shape")
    return TensorInfo(storage, start, tuple(shape), tuple(stride))


MAX_ENTRIES = 20_000  # LaVie's largest has 1 163
MAX_PICKLE = 16 * 2**20  # bytes; of 1 158 tensors it takes 0.3 MB
_KNOWN = re.compile(
    r"data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+"
)
_START = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before an entry's name
_ENCRYPTED = 1
FETCH_AGAIN = "get the file again from where it came"


@dataclass(frozen=True)
class Archive:
    """The pickle that names the tensors, and the bytes of each block of numbers by its key."""

    pickle: bytes
    storages: dict[str, int]


def read_archive(path: Path) -> Archive:
    """The pickle and the sizes; nothing is run or unpacked. Raises BundleError for archives not written by torch."""
    with path.open("rb") as stream:
        if stream.read(len(_START)) != _START:
            raise BundleError(
                f"{path.name} is no archive of torch (1.6 or newer): an older pickle can run code as it is opened; "
                f"{FETCH_AGAIN}"
            )
    try:
        with zipfile.ZipFile(path) as file:
            entries = _check_entries(path, file)
            pickle = file.read(entries["data.pkl"])
            order = file.read(entries["byteorder"]) if "byteorder" in entries else b"little"
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path.name} is damaged or cut short ({short(str(error))}): {FETCH_AGAIN}") from None
    if order != b"little":
        raise BundleError(f"{path.name} has the byte order {short(order)}: save it again on a usual machine")
    storages = {name[5:]: entry.file_size for name, entry in entries.items() if name.startswith("data/")}
    return Archive(pickle, storages)


def _check_entries(path: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Entries by their name below the archive's one folder."""
    found = file.infolist()
    if len(found) > MAX_ENTRIES:
        raise BundleError(f"{path.name} holds {len(found)} entries, more than {MAX_ENTRIES}: {FETCH_AGAIN}")
    entries = {entry.filename.partition("/")[2]: entry for entry in found}
    if len(entries) != len(found) or len({entry.filename.partition("/")[0] for entry in found}) != 1:
        raise BundleError(f"{path.name} holds two entries of one name, or two folders: {FETCH_AGAIN}")
    for name, entry in entries.items():
        if not _KNOWN.fullmatch(name):
            raise BundleError(f"{path.name} holds {short(entry.filename)}, which is no tensor: {FETCH_AGAIN}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleError(
                f"{path.name}: {short(entry.filename)} unpacks from {entry.compress_size} to {entry.file_size} bytes, "
                f"torch packs nothing: {FETCH_AGAIN}"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise BundleError(f"{path.name} asks for a password: {FETCH_AGAIN}")
    if "data.pkl" not in entries:
        raise BundleError(f"{path.name} holds no data.pkl: it is a zip, but not one of weights; {FETCH_AGAIN}")
    if entries["data.pkl"].file_size > MAX_PICKLE:
        size = entries["data.pkl"].file_size
        raise BundleError(f"{path.name} names its tensors in {size} bytes, more than {MAX_PICKLE}: {FETCH_AGAIN}")
    _check_places(path, found, file.start_dir)
    return entries


def _check_places(path: Path, found: list[zipfile.ZipInfo], end: int) -> None:
    """No bytes before the first entry and no overlaps, so that Python and torch read the same."""
    expected = 0
    for entry in sorted(found, key=lambda entry: entry.header_offset):
        if entry.header_offset < expected or (expected == 0 and entry.header_offset != 0):
            raise BundleError(f"{path.name}: {short(entry.filename)} lies over another entry: {FETCH_AGAIN}")
        expected = entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.file_size
    if expected > end:
        raise BundleError(f"{path.name} announces more bytes than it has: {FETCH_AGAIN}")
