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
from lavie.values import MAX_SEED, from_dict

SCHEMA_VERSION = 1
MAX_RECIPE = 1 << 19  # characters of JSON; ours have some thousands, but a file can carry anything
MAX_DEPTH = 32  # of nesting
_LONG = {"plan", "start", "reel", "shots"}  # fields of long videos only
_ADAPTERS = "adapters"  # a field of jobs with adapters only
_MEMORY = "memory"  # a field of recipes with memory modes only
_SCHEMA_KEY = "lavie_recipe"  # also tells our JSON from the comments of other programs


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} is {short(value)}: give a text that is not empty")


@dataclass(frozen=True)
class Job:
    """A request and the model for it.

    Attributes:
        request: for a long video the settings only; its prompt is not read.
        model: `nano`, `official` or a folder.
        plan: the segments of a long video.
        start: the frames that a long video continues.
        candidates: seeds; the last segment is made once with each, without a clip.
        reel: in place of a plan, for a video of joined clips.
        shots: the joined clips, which the reel names by hash.
        adapters: active on the networks; prompts of a long video may set other weights (`extensions.lora.tags`).
    """

    request: Request
    model: str = "nano"
    plan: SegmentPlan | None = None
    start: InitialFrames | None = None
    candidates: tuple[int, ...] = ()
    reel: JoinPlan | None = None
    shots: tuple[JoinedFrames, ...] = ()
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        _text("model", self.model)
        _check_long(self)
        _check_adapters(self.adapters)
        wrong: list[Any] = [seed for seed in self.candidates if isinstance(seed, bool) or not isinstance(seed, int)]
        wrong += [seed for seed in self.candidates if seed not in wrong and not 0 <= seed <= MAX_SEED]
        if wrong or (self.candidates and self.plan is None):
            raise RequestError(f"candidates are {short(self.candidates)}: give seeds, and the plan of a long video")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts that are used: those of a long video's segments or transitions, else the request's."""
        if self.plan is not None:
            return tuple(segment.prompt for segment in self.plan.segments)
        if self.reel is not None:
            return tuple(transition.prompt for transition in self.reel.transitions)
        return (self.request.prompt,)

    @property
    def long(self) -> SegmentPlan | JoinPlan | None:
        """The plan or reel of a long video; None for a short clip."""
        return self.plan or self.reel

    def to_json(self) -> str:
        """One line of JSON, with the fields of long videos only for a long video."""
        data = {"request": json.loads(self.request.to_json()), "model": self.model, **_long_values(self)}
        data |= _adapter_values(self)
        data |= {"candidates": list(self.candidates)} if self.candidates else {}
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`. Raises RequestError for other text."""
        data = _read_object(text, "job", {"request", "model"}, {*_LONG, _ADAPTERS, "candidates"})
        candidates = data.get("candidates", [])
        if not isinstance(candidates, list):
            raise RequestError(f"candidates are {short(candidates)}: give a list of seeds")
        request = Request.from_json(json.dumps(data["request"]))
        values = {**_read_long(data), **_read_adapters(data)}
        return cls(request, data["model"], **values, candidates=tuple(candidates))


@dataclass(frozen=True)
class Recipe:
    """A job with every value decided: on the same weights and device it gives the same frames again.

    Attributes:
        request: resolved, without open values.
        provenance: weights, device and versions, from `Cascade.provenance`.
        frame_hash: of the frames before encoding.
        created: UTC, ISO 8601.
        plan, start, reel, shots, adapters: see `Job`.
        memory: stage → the memory mode that it ran in.
    """

    request: Request
    model: str
    provenance: dict[str, Any] = field(default_factory=dict)
    frame_hash: str | None = None
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    app_version: str = __version__
    plan: SegmentPlan | None = None
    start: InitialFrames | None = None
    reel: JoinPlan | None = None
    shots: tuple[JoinedFrames, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    memory: Mapping[str, MemoryMode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "created", "app_version"):
            _text(name, getattr(self, name))
        if not isinstance(self.provenance, dict):
            raise RequestError(f"provenance is {short(self.provenance)}: give what `Cascade.provenance` gave")
        if self.frame_hash is not None:
            _text("frame_hash", self.frame_hash)
        _check_long(self)
        _check_adapters(self.adapters)

    @property
    def job(self) -> Job:
        """The job that makes this clip again."""
        return Job(
            self.request,
            self.model,
            self.plan,
            self.start,
            reel=self.reel,
            shots=self.shots,
            adapters=self.adapters,
        )

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
            **_long_values(self),
            **_adapter_values(self),
            **({_MEMORY: modes_to_dict(self.memory)} if self.memory else {}),
        }
        return json.dumps(data, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`. Raises RequestError for other text and recipes of a newer version."""
        names = {"request", "model", "provenance", "frame_hash", "created", "app_version"}
        data = _read_object(text, "recipe", names | {_SCHEMA_KEY}, {*_LONG, _ADAPTERS, _MEMORY})
        version = data.pop(_SCHEMA_KEY)
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise RequestError(
                f"the recipe has schema {short(version)}, this version reads {SCHEMA_VERSION}: use the version that "
                "wrote it"
            )
        request = Request.from_json(json.dumps(data["request"]))
        memory = modes_from_dict(data.get(_MEMORY, {}))
        return cls(**{**data, "request": request, **_read_long(data), **_read_adapters(data), _MEMORY: memory})


def _check_adapters(adapters: Any) -> None:
    if not isinstance(adapters, tuple) or not all(isinstance(one, Adapter) for one in adapters):
        raise RequestError(f"adapters are {short(adapters)}: give an `Adapter` for each")
    check_different(adapters)


def _adapter_values(made: Job | Recipe) -> dict[str, Any]:
    return {_ADAPTERS: [asdict(adapter) for adapter in made.adapters]} if made.adapters else {}


def _read_adapters(data: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_adapter_values`."""
    adapters = data.get(_ADAPTERS, [])
    if not isinstance(adapters, list):
        raise RequestError(f"adapters are {short(adapters)}: give a list of them")
    return {_ADAPTERS: tuple(from_dict(Adapter, one) for one in adapters)}


def _check_long(made: Job | Recipe) -> None:
    for name, kind in (("plan", SegmentPlan), ("start", InitialFrames), ("reel", JoinPlan)):
        value = getattr(made, name)
        if value is not None and not isinstance(value, kind):
            raise RequestError(f"{name} is {short(value)}: give a {kind.__name__}")
    if made.start is not None and made.plan is None:
        raise RequestError(f"{short(made.start.name)} is to be continued without a plan: give one of segments")
    if made.plan is not None and made.reel is not None:
        raise RequestError("there is a plan of segments and a reel of clips, for one video: give either")
    if not isinstance(made.shots, tuple) or not all(isinstance(shot, JoinedFrames) for shot in made.shots):
        raise RequestError(f"shots are {short(made.shots)}: give a `JoinedFrames` for each clip")
    wanted = [(shot.name, shot.frames) for shot in made.reel.shots] if made.reel else []
    if wanted != [(shot.hash, shot.frames) for shot in made.shots]:
        raise RequestError("the shots are not those that the reel names: give a `JoinedFrames` for each, in its order")


def _long_values(made: Job | Recipe) -> dict[str, Any]:
    """The fields of a long video as JSON values."""
    values = {} if made.plan is None else {"plan": json.loads(made.plan.to_json())}
    values |= {} if made.start is None else {"start": made.start.to_dict()}
    if made.reel is not None:
        values |= {"reel": json.loads(made.reel.to_json()), "shots": [shot.to_dict() for shot in made.shots]}
    return values


def _read_long(data: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_long_values`."""
    values: dict[str, Any] = {"plan": SegmentPlan.from_json(json.dumps(data["plan"]))} if "plan" in data else {}
    values |= {"start": InitialFrames.from_dict(data["start"])} if "start" in data else {}
    values |= {"reel": JoinPlan.from_json(json.dumps(data["reel"]))} if "reel" in data else {}
    shots = data.get("shots", [])
    if not isinstance(shots, list):
        raise RequestError(f"shots are {short(shots)}: give a list of joined clips")
    return {**values, "shots": tuple(map(JoinedFrames.from_dict, shots))}


def _read_object(text: str, kind: str, names: set[str], optional: set[str]) -> dict[str, Any]:
    """Read a JSON object with exactly these names, of limited size and depth, that a database can store."""
    data = _parse(text, kind)
    if not isinstance(data, dict):
        raise RequestError(f"a {kind} is a JSON object, not {short(data)}: pass what `to_json` gave")
    wrong = sorted(names ^ (set(data) - optional))
    if wrong:
        named = short(", ".join(wrong))
        raise RequestError(f"this is not the JSON of a {kind} (look at {named}): pass what `to_json` gave")
    return data


def _parse(text: str, kind: str) -> Any:
    if isinstance(text, str) and len(text) > MAX_RECIPE:
        raise RequestError(f"this {kind} has {len(text)} characters of JSON, more than {MAX_RECIPE}: it is not ours")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        _check_depth(data)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # refuses 1e999 and lone surrogates
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
