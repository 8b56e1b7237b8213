"""A video to make, before (`Job`) and after (`Recipe`) every value is decided, as JSON both ways.

A clip's file carries its recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from app import __version__
from app.recipes.initial_frames import InitialFrames, JoinedFrames
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import SegmentPlan
from extensions.lora.adapter import Adapter, check_different
from lavie.errors import RequestError, short
from lavie.memory_mode import MemoryMode, modes_from_dict, modes_to_dict
from lavie.request import Request
from lavie.values import MAX_SEED, from_dict, parse_object

SCHEMA_VERSION = 1
MAX_RECIPE = 1 << 19  # characters of JSON; ours have some thousands, but a file can carry anything
_SCHEMA_KEY = "lavie_recipe"  # also tells our JSON from the comments of other programs
_OPTIONAL = {"plan", "start", "reel", "shots", "adapters"}  # names in the JSON of some jobs and recipes only
_LISTS = {"shots": "joined clips", "adapters": "them", "candidates": "seeds"}


class _Video:
    """What jobs and recipes have in common."""

    request: Request
    long: SegmentPlan | JoinPlan | None
    start: InitialFrames | None
    shots: tuple[JoinedFrames, ...]
    adapters: tuple[Adapter, ...]

    @property
    def plan(self) -> SegmentPlan | None:
        """The plan of a video of segments."""
        return self.long if isinstance(self.long, SegmentPlan) else None

    @property
    def reel(self) -> JoinPlan | None:
        """The plan of a video of joined clips."""
        return self.long if isinstance(self.long, JoinPlan) else None

    def _check(self) -> None:
        for name, kinds in (("long", (SegmentPlan, JoinPlan)), ("start", (InitialFrames,))):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise RequestError(f"{name} is {short(value)}: give a {' or '.join(kind.__name__ for kind in kinds)}")
        for name, item in (("shots", JoinedFrames), ("adapters", Adapter)):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(isinstance(value, item) for value in values):
                raise RequestError(f"{name} are {short(values)}: give one `{item.__name__}` for each")
        if self.start is not None and self.plan is None:
            raise RequestError(f"{short(self.start.name)} is to be continued without a plan: give one of segments")
        wanted = [(shot.name, shot.frames) for shot in self.reel.shots] if self.reel else []
        if wanted != [(shot.hash, shot.frames) for shot in self.shots]:
            raise RequestError(
                "the shots are not those that the reel names: give a `JoinedFrames` for each, in its order"
            )
        check_different(self.adapters)

    def _optional_values(self) -> dict[str, Any]:
        """The JSON values that only long videos and videos with adapters have."""
        values: dict[str, Any] = {"plan": json.loads(self.plan.to_json())} if self.plan else {}
        values |= {"start": self.start.to_dict()} if self.start else {}
        if self.reel is not None:
            values |= {"reel": json.loads(self.reel.to_json()), "shots": [shot.to_dict() for shot in self.shots]}
        return values | ({"adapters": [asdict(adapter) for adapter in self.adapters]} if self.adapters else {})


@dataclass(frozen=True)
class Job(_Video):
    """A request and the model for it.

    Attributes:
        request: for a long video the settings only; its prompt is not read.
        model: `nano`, `official` or a folder.
        long: the plan of a long video.
        start: the frames that a long video continues.
        candidates: seeds; the last segment is made once with each, without a clip.
        shots: the joined clips, which the plan names by hash.
        adapters: active on the networks; prompts of a long video may set other weights (`extensions.lora.tags`).
    """

    request: Request
    model: str = "nano"
    long: SegmentPlan | JoinPlan | None = None
    start: InitialFrames | None = None
    candidates: tuple[int, ...] = ()
    shots: tuple[JoinedFrames, ...] = ()
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        _check_text("model", self.model)
        self._check()
        wrong: list[Any] = [seed for seed in self.candidates if isinstance(seed, bool) or not isinstance(seed, int)]
        wrong += [seed for seed in self.candidates if seed not in wrong and not 0 <= seed <= MAX_SEED]
        if wrong or (self.candidates and self.plan is None):
            raise RequestError(f"candidates are {short(self.candidates)}: give seeds, and the plan of a long video")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts that are used: those of a long video's segments or transitions, else the request's."""
        if self.long is None:
            return (self.request.prompt,)
        parts = self.long.segments if isinstance(self.long, SegmentPlan) else self.long.transitions
        return tuple(part.prompt for part in parts)

    def to_json(self) -> str:
        """One line of JSON, with the fields of long videos only for a long video."""
        data = {"request": json.loads(self.request.to_json()), "model": self.model, **self._optional_values()}
        data |= {"candidates": list(self.candidates)} if self.candidates else {}
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`. Raises RequestError for other text."""
        return cls(**_read(text, "job", {"request", "model"}, _OPTIONAL | {"candidates"}))


@dataclass(frozen=True)
class Recipe(_Video):
    """A job with every value decided: on the same weights and device it gives the same frames again.

    Attributes:
        request: resolved, without open values.
        provenance: weights, device and versions, from `Cascade.provenance`.
        frame_hash: of the frames before encoding.
        created: UTC, ISO 8601.
        long, start, shots, adapters: see `Job`.
        memory: stage → the memory mode that it ran in.
    """

    request: Request
    model: str
    provenance: dict[str, Any] = field(default_factory=dict)
    frame_hash: str | None = None
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    app_version: str = __version__
    long: SegmentPlan | JoinPlan | None = None
    start: InitialFrames | None = None
    shots: tuple[JoinedFrames, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    memory: Mapping[str, MemoryMode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "created", "app_version"):
            _check_text(name, getattr(self, name))
        if not isinstance(self.provenance, dict):
            raise RequestError(f"provenance is {short(self.provenance)}: give what `Cascade.provenance` gave")
        if self.frame_hash is not None:
            _check_text("frame_hash", self.frame_hash)
        self._check()

    @property
    def job(self) -> Job:
        """The job that makes this clip again."""
        return Job(self.request, self.model, self.long, self.start, shots=self.shots, adapters=self.adapters)

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
            **self._optional_values(),
            **({"memory": modes_to_dict(self.memory)} if self.memory else {}),
        }
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`. Raises RequestError for other text and recipes of a newer version."""
        names = {_SCHEMA_KEY, "request", "model", "provenance", "frame_hash", "created", "app_version"}
        return cls(**_read(text, "recipe", names, _OPTIONAL | {"memory"}))


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} is {short(value)}: give a text that is not empty")


def _read(text: str, kind: str, names: set[str], optional: set[str]) -> dict[str, Any]:
    """The fields of a job or recipe from a JSON object with exactly these names, which a database can store."""
    try:
        data = parse_object(text, MAX_RECIPE, storable=True)
    except ValueError as error:
        raise RequestError(f"this is not the JSON of a {kind} ({error}): pass what `to_json` gave") from None
    if wrong := sorted(names ^ (set(data) - optional)):
        named = short(", ".join(wrong))
        raise RequestError(f"this is not the JSON of a {kind} (look at {named}): pass what `to_json` gave")
    version = data.pop(_SCHEMA_KEY, SCHEMA_VERSION)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        known = f"this version reads {SCHEMA_VERSION}: use the version that wrote it"
        raise RequestError(f"the recipe has schema {short(version)}, {known}")
    for name, what in _LISTS.items():
        if not isinstance(data.get(name, []), list):
            raise RequestError(f"{name} are {short(data[name])}: give a list of {what}")
    if "plan" in data and "reel" in data:
        raise RequestError("there is a plan of segments and a reel of clips, for one video: give either")
    for name, plan in (("plan", SegmentPlan), ("reel", JoinPlan)):
        if name in data:
            data["long"] = plan.from_json(json.dumps(data.pop(name)))
    readers = {
        "request": lambda value: Request.from_json(json.dumps(value)),
        "start": InitialFrames.from_dict,
        "shots": lambda values: tuple(map(JoinedFrames.from_dict, values)),
        "adapters": lambda values: tuple(from_dict(Adapter, value) for value in values),
        "candidates": tuple,
        "memory": modes_from_dict,
    }
    return {name: readers[name](value) if name in readers else value for name, value in data.items()}
