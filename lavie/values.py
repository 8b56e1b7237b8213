"""Checks of values with messages for a person, and dataclasses to JSON and back. Needs neither torch nor weights."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Collection
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

from lavie.errors import RequestError, short

MAX_SEED = 2**53 - 1  # the largest range that JSON and JavaScript keep exactly
MAX_PROMPT = 4000  # characters
MAX_JSON = 2**22  # characters
MAX_DEPTH = 32  # of nested objects and lists

T = TypeVar("T")
S = TypeVar("S", bound="Stored")


def check(condition: bool, message: str) -> None:
    """Raises RequestError with the message unless the condition holds."""
    if not condition:
        raise RequestError(message)


def check_whole(name: str, value: int | None, low: int, high: int, *, required: bool = False) -> None:
    if value is None and not required:
        return
    fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    check(fits, f"{name} is {short(value)}: give a whole number from {low} to {high}")


def check_number(name: str, value: float | None, low: float, high: float, *, required: bool = False) -> None:
    if value is None and not required:
        return
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    check(fits, f"{name} is {short(value)}: give a number from {low:g} to {high:g}")


def check_kind(name: str, value: Any, kind: type) -> None:
    check(isinstance(value, kind), f"{name} is {short(value)}: give a {kind.__name__}")


def check_prompt(name: str, text: str) -> None:
    check(isinstance(text, str), f"{name} is {short(text)}: give a text")
    check(len(text) <= MAX_PROMPT, f"{name} has {len(text)} characters: shorten it to {MAX_PROMPT}")
    broken = [character for character in text if "\ud800" <= character <= "\udfff"]
    check(not broken, f"{name} holds {broken[:1]!r}, half a character that no file can store: remove it")


def require(value: T | None) -> T:
    """A value of a resolved request, in which none is None."""
    if value is None:
        raise RequestError("the request is not resolved: pass it through `Cascade.resolve` first")
    return value


def parse_object(text: str | bytes, limit: int = MAX_JSON, storable: bool = False) -> dict[str, Any]:
    """The JSON object in a text that anyone may have written.

    Args:
        limit: largest length in characters.
        storable: refuse numbers and characters that no database stores: NaN, 1e999, halves of characters.

    Raises ValueError, with the reason alone, for a longer or more deeply nested text and for one that holds no object.
    """
    try:
        if len(text) > limit:
            raise ValueError(f"{len(text)} characters, more than {limit}")
        data = json.loads(text)
        _check_depth(data)
        if storable:
            json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:  # no text, or nested without end
        raise ValueError(str(error)) from None
    if not isinstance(data, dict):
        raise ValueError(f"{short(data)} is not a JSON object")
    return data


def check_names(what: str, data: Collection[str], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raises RequestError for names that are unknown or missing in an object."""
    unknown = sorted(set(data) - {*required, *optional})
    check(not unknown, f"{what} has no field {', '.join(map(repr, unknown)):.200}: remove it")
    missing = [name for name in required if name not in data]
    check(not missing, f"{what} lacks {', '.join(missing)}: add it")


def to_json(value: Any, version: int) -> str:
    """One line of JSON: a dataclass with the schema's version."""
    return json.dumps({"schema": version, **to_dict(value)}, ensure_ascii=False)


def from_json(kind: type[T], text: str, version: int, what: str) -> T:
    """The inverse of `to_json`. Raises RequestError, also for a newer version.

    what: the value in a message, such as “a request”.
    """
    try:
        data = parse_object(text)
    except ValueError as error:
        raise RequestError(f"this is not the JSON of {what} ({error}): pass what `to_json` gave") from None
    found = data.pop("schema", None)
    known = found == version and isinstance(found, int) and not isinstance(found, bool)
    check(known, f"{what} has schema {short(found)}, this one reads {version}: use the version that wrote it")
    return from_dict(kind, data)


class Stored:
    """A dataclass that is stored as one line of JSON with the schema's version. stored_as: its name in messages."""

    schema_version: ClassVar[int] = 1
    stored_as: ClassVar[str]

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return to_json(self, self.schema_version)

    @classmethod
    def from_json(cls: type[S], text: str) -> S:
        """The inverse of `to_json`. Raises RequestError for anything else or a newer version."""
        return from_json(cls, text, cls.schema_version, cls.stored_as)


def to_dict(value: Any) -> Any:
    """A dataclass as plain JSON values. A field with metadata `stored` is stored by that name."""
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if isinstance(value, dict):
        return {name: to_dict(item) for name, item in value.items()}
    if is_dataclass(value):
        return {_stored_name(each): to_dict(getattr(value, each.name)) for each in fields(value)}
    return value


def from_dict(kind: type[T], data: Any) -> T:
    """The inverse of `to_dict`, nested dataclasses and tuples included. Raises RequestError for anything else."""
    check(isinstance(data, dict), f"{kind.__name__} is a JSON object, not {short(data)}")
    assert is_dataclass(kind)
    known = {_stored_name(each): each for each in fields(kind)}
    check_names(kind.__name__, data, [name for name, each in known.items() if each.default is MISSING], known)
    hints = typing.get_type_hints(kind)
    return kind(**{known[name].name: _read(hints[known[name].name], value) for name, value in data.items()})


def _stored_name(each: Field[Any]) -> str:
    return str(each.metadata.get("stored", each.name))


def _read(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_read(typing.get_args(hint)[0], item) for item in value)
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    nested: list[type[Any]] = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
    return from_dict(nested[0], value) if nested and value is not None else value


def _check_depth(data: Any) -> None:
    layer = [data]
    for _ in range(MAX_DEPTH):
        lists = [list(item.values()) if isinstance(item, dict) else item for item in layer]
        layer = [value for items in lists if isinstance(items, list) for value in items]
    if layer:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
