"""What checked values with JSON both ways have in common: limits told in one line, dataclasses from plain JSON.

`request` and the extensions' own values are made of these. Needs neither torch nor weights.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, asdict, fields, is_dataclass

from lavie.errors import RequestError, short

MAX_SEED = 2**53 - 1  # the largest range that JSON and JavaScript keep exactly
MAX_PROMPT = 4000  # characters


def check(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)


def check_whole(name: str, value: int | None, low: int, high: int) -> None:
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    check(whole and low <= value <= high, f"{name} is {short(value)}: give a whole number from {low} to {high}")


def check_number(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    check(number and low <= value <= high, f"{name} is {short(value)}: give a number from {low:g} to {high:g}")


def check_kind(name: str, value, kind: type) -> None:
    check(isinstance(value, kind), f"{name} is {short(value)}: give a {kind.__name__}")


def check_prompt(name: str, text: str) -> None:
    check(isinstance(text, str), f"{name} is {short(text)}: give a text")
    check(len(text) <= MAX_PROMPT, f"{name} has {len(text)} characters: shorten it to {MAX_PROMPT}")
    broken = [character for character in text if "\ud800" <= character <= "\udfff"]
    check(not broken, f"{name} holds {broken[:1]!r}, half a character that no file can store: remove it")


def to_json(value, version: int) -> str:
    """One line of JSON: the dataclass `value` with the schema's version."""
    return json.dumps({"schema": version, **asdict(value)}, ensure_ascii=False)


def from_json(kind: type, text: str, version: int, what: str):
    """The inverse of `to_json`. what: the value's name for a message, such as “a request”.

    Raises RequestError for what is none or comes from a newer version.
    """
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise RequestError(f"this is not the JSON of {what} ({error}): pass what `to_json` gave") from None
    check(isinstance(data, dict), f"{what} is a JSON object, not {short(data)}: pass what `to_json` gave")
    found = data.pop("schema", None)
    check(
        found == version and isinstance(found, int) and not isinstance(found, bool),
        f"{what} has schema {short(found)}, this one reads {version}: use the version that wrote it",
    )
    return from_dict(kind, data)


def from_dict(kind: type, data: dict):
    """A dataclass from plain JSON values, nested ones and tuples included."""
    check(isinstance(data, dict), f"{kind.__name__} is a JSON object, not {short(data)}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    check(not unknown, f"{kind.__name__} has no field {', '.join(map(repr, unknown))}: remove it")
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in data]
    check(not missing, f"{kind.__name__} lacks {', '.join(missing)}: add it")
    return kind(**{name: _read(hints[name], value) for name, value in data.items()})


def _read(hint, value):
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_read(typing.get_args(hint)[0], item) for item in value)
    nested = [kind for kind in _alternatives(hint) if is_dataclass(kind)]
    return from_dict(nested[0], value) if nested and value is not None else value


def _alternatives(hint) -> tuple:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
