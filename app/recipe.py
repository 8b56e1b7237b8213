"""What to make with which weights, before (`Job`) and after (`Recipe`) everything is decided. JSON both ways.

A recipe is what a clip's file carries. Knows neither files nor torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from app import __version__
from lavie.errors import RequestError, short
from lavie.request import Request

SCHEMA_VERSION = 1
MAX_RECIPE = 1 << 19  # characters of JSON; ours have some thousands, but a file can carry anything
MAX_DEPTH = 32  # of nesting
_SCHEMA_KEY = "lavie_recipe"  # names the kind of JSON too: any program may write a comment into a video


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} is {short(value)}: give a text that is not empty")


@dataclass(frozen=True)
class Job:
    """A request and the model that is to make it. model: `nano`, `official` or a folder."""

    request: Request
    model: str = "nano"

    def __post_init__(self):
        _text("model", self.model)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"request": json.loads(self.request.to_json()), "model": self.model}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`. Raises RequestError for anything else."""
        data = _object(text, "job", {"request", "model"})
        return cls(Request.from_json(json.dumps(data["request"])), data["model"])


@dataclass(frozen=True)
class Recipe:
    """A job with everything decided: run it again on the same weights and device and the same frames come out.

    request: resolved, no value left open. provenance: what `Cascade.provenance` said of weights, device and versions.
    frame_hash: of the frames as they were before encoding. created: UTC, ISO 8601. app_version: of this program.
    """

    request: Request
    model: str
    provenance: dict[str, Any] = field(default_factory=dict)
    frame_hash: str | None = None
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    app_version: str = __version__

    def __post_init__(self):
        for name in ("model", "created", "app_version"):
            _text(name, getattr(self, name))
        if not isinstance(self.provenance, dict):
            raise RequestError(f"provenance is {short(self.provenance)}: give what `Cascade.provenance` gave")
        if self.frame_hash is not None:
            _text("frame_hash", self.frame_hash)

    @property
    def job(self) -> Job:
        """The job that makes this clip again."""
        return Job(self.request, self.model)

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        data = {
            _SCHEMA_KEY: SCHEMA_VERSION,
            "request": json.loads(self.request.to_json()),
            "model": self.model,
            "provenance": self.provenance,
            "frame_hash": self.frame_hash,
            "created": self.created,
            "app_version": self.app_version,
        }
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`. Raises RequestError for what is no recipe or comes from a newer version."""
        names = {"request", "model", "provenance", "frame_hash", "created", "app_version"}
        data = _object(text, "recipe", names | {_SCHEMA_KEY})
        version = data.pop(_SCHEMA_KEY)
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise RequestError(
                f"the recipe has schema {short(version)}, this version reads {SCHEMA_VERSION}: use the version that "
                "wrote it"
            )
        return cls(**{**data, "request": Request.from_json(json.dumps(data["request"]))})


def _object(text: str, kind: str, names: set[str]) -> dict[str, Any]:
    """A JSON object with exactly these names, whoever wrote it: of bounded size and depth, and possible to store."""
    data = _parsed(text, kind)
    if not isinstance(data, dict):
        raise RequestError(f"a {kind} is a JSON object, not {short(data)}: pass what `to_json` gave")
    wrong = sorted(names ^ set(data))
    if wrong:
        named = short(", ".join(wrong))
        raise RequestError(f"this is not the JSON of a {kind} (look at {named}): pass what `to_json` gave")
    return data


def _parsed(text: str, kind: str) -> Any:
    if isinstance(text, str) and len(text) > MAX_RECIPE:
        raise RequestError(f"this {kind} has {len(text)} characters of JSON, more than {MAX_RECIPE}: it is not ours")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        _check_depth(data)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # 1e999 and halves of characters fit no database
    except (ValueError, TypeError, RecursionError) as error:
        reason = short(str(error))
        raise RequestError(f"this is not the JSON of a {kind} ({reason}): pass what `to_json` gave") from None
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_depth(data: Any) -> None:
    layer = [data]
    for _ in range(MAX_DEPTH):
        layer = [
            value
            for item in layer
            if isinstance(item, (dict, list))
            for value in (item.values() if isinstance(item, dict) else item)
        ]
    if layer:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
