"""What a bundle says of itself, read without loading it: for the page, before torch is there. Knows `cascade.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lavie.request import STAGES, Request, Sampling

FILE = "cascade.json"
_SIZE = ("width", "height", "frames", "fps")
_RATE, _SCALE = 4, 4  # of interpolation and super-resolution


@dataclass(frozen=True)
class ModelCard:
    """width, height, frames, fps: what a request that is silent gets. steps: of each stage.

    words: kind → those that the model has learned, where it has not learned a whole language. examples: prompts.
    """

    name: str
    width: int
    height: int
    frames: int
    fps: float
    steps: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    examples: Sequence[str] = ()

    @classmethod
    def read(cls, bundle: Path) -> ModelCard | None:
        """None for a folder that is missing or says nothing that can be understood: loading it will tell why."""
        try:
            said = json.loads((bundle / FILE).read_text(encoding="utf-8"))
            size = {name: said[name] for name in _SIZE}
            if None in size.values():
                return None
            Request("any", **size)  # raises for what no request may ask for
            return cls(
                name=str(said["name"]),
                **size,
                steps={stage: Sampling(steps=said[stage]["steps"]).steps for stage in STAGES if stage in said},
                words={str(kind): _texts(words) for kind, words in said.get("words", {}).items()},
                examples=_texts(said.get("examples", ())),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def resolved(self, request: Request) -> Request:
        """The request with the size and steps that this model gives it."""
        size = {name: getattr(request, name) or getattr(self, name) for name in _SIZE}
        return replace(request, **size)

    def steps_of(self, request: Request, stage: str) -> int | None:
        """Denoising steps of a stage."""
        return request.sampling(stage).steps or self.steps.get(stage)

    def outcome(self, request: Request) -> dict[str, Any]:
        """The size of the finished video: frames, width and height in pixels, seconds."""
        whole = self.resolved(request)
        frames, fps, scale = whole.frames, whole.fps, 1
        if request.interpolation is not None:
            frames, fps = _RATE * (frames - 1) + 1, fps * _RATE
        if request.super_resolution is not None:
            scale = _SCALE
        seconds = f"{frames / fps:.1f}"
        return {"frames": frames, "width": whole.width * scale, "height": whole.height * scale, "seconds": seconds}


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    """Those that are texts and not empty."""
    return tuple(value for value in values if isinstance(value, str) and value.strip())
