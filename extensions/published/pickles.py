"""Which tensors a pickle of `torch.save` describes, read without running it. Needs no torch.

The few instructions that describe tensors are followed here on plain values; anything else, above all a name that
is no tensor, ordered dict or storage, is refused. Nothing that a pickle names is ever imported.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extensions.published.archive import FETCH_AGAIN, Archive
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
WRAPPERS = ("ema", "state_dict")  # under which weights lie, where they do not lie at the top


@dataclass(frozen=True)
class Global:
    """A name in a pickle, as text: what it stands for is never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers. key: its entry in the archive. size: how many numbers it is said to hold."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class Described:
    """A tensor. start: number of the storage at which it begins."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """As safetensors names it."""
        return STORAGES[self.storage.kind][0]


def weights_in(path: Path, archive: Archive) -> tuple[str | None, dict[str, Described]]:
    """Where the weights lie (None: at the top) and what they are, each inside its storage. Raises BundleError."""
    try:
        content = _follow(path, archive.pickle)
    except BundleError:
        raise
    except Exception as error:  # whatever a stack machine can be made to stumble over
        said = short(str(error) or type(error).__name__)
        raise BundleError(f"{path.name} holds no readable table of tensors ({said}): {FETCH_AGAIN}") from None
    wrapper = next(
        (name for name in WRAPPERS if isinstance(content, dict) and isinstance(content.get(name), dict)), None
    )
    weights = content[wrapper] if wrapper else content
    if not isinstance(weights, dict) or not weights or not all(isinstance(v, Described) for v in weights.values()):
        raise BundleError(f"{path.name} holds something else than weights: give a file of weights, as published")
    for name, tensor in weights.items():
        _check_inside(path, name, tensor, archive)
    return wrapper, weights


def _check_inside(path: Path, name: str, tensor: Described, archive: Archive) -> None:
    """A tensor must have all its numbers in the file: strides may repeat few numbers as endlessly many."""
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
    memo: dict[int, Any] = {}
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
    """One instruction that needs neither marks nor the memo."""
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
        stack.append(_called(called, arguments))
    elif name in ("SETITEM", "APPEND"):
        count = 2 if name == "SETITEM" else 1
        items = stack[-count:]
        del stack[-count:]
        _add(f"{name}S", stack, items)
    elif name == "BUILD":
        stack.pop()  # notes that modules leave on their dicts; nothing reads them here
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


def _called(called: Any, arguments: Any) -> Any:
    if called == Global(_DICT) and arguments == ():
        return {}
    if called == Global(_PARAMETER):
        return arguments[0]
    if called != Global(_TENSOR):
        raise ValueError("a call of what is no tensor")
    storage, start, shape, stride = arguments[:4]
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in (start, *shape, *stride)):
        raise ValueError("a tensor without a storage or a shape")
    return Described(storage, start, tuple(shape), tuple(stride))
