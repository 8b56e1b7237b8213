"""A model's description for the page and commands, from `cascade.json`, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lavie.request import STAGES, Request, Sampling
from lavie.values import parse_object

FILE = "cascade.json"
_SIZE = ("width", "height", "frames", "fps")
_RATE, _SCALE = 4, 4  # of interpolation and super-resolution


@dataclass(frozen=True)
class ModelCard:
    """A model's defaults and vocabulary.

    Attributes:
        width, height, frames, fps: defaults of a request.
        steps: stage → default number of steps.
        words: kind → words that the model knows, if it does not know a whole language.
        examples: prompts.
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
        """The card; None if the folder is missing or its manifest invalid. Loading the model tells why."""
        try:
            manifest = parse_object((bundle / FILE).read_text(encoding="utf-8"))
            size = {name: manifest[name] for name in _SIZE}
            if None in size.values():
                return None
            Request("any", **size)  # raises RequestError for impossible values
            steps = {stage: manifest[stage]["steps"] for stage in STAGES if stage in manifest}
            for count in steps.values():
                Sampling(steps=count)  # likewise
            return cls(
                name=str(manifest["name"]),
                **size,
                steps=steps,
                words={str(kind): _texts(words) for kind, words in manifest.get("words", {}).items()},
                examples=_texts(manifest.get("examples", ())),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def fill_size(self, request: Request) -> Request:
        """The request with this model's size where it gives none."""
        size = {name: getattr(request, name) or getattr(self, name) for name in _SIZE}
        return replace(request, **size)

    def steps_of(self, request: Request, stage: str) -> int | None:
        """Denoising steps of a stage."""
        return request.sampling(stage).steps or self.steps.get(stage)

    def outcome(self, request: Request) -> dict[str, Any]:
        """The size of the finished video: frames, width and height in pixels, seconds."""
        frames, fps = request.frames or self.frames, request.fps or self.fps
        width, height, scale = request.width or self.width, request.height or self.height, 1
        if request.interpolation is not None:
            frames, fps = _RATE * (frames - 1) + 1, fps * _RATE
        if request.super_resolution is not None:
            scale = _SCALE
        seconds = f"{frames / fps:.1f}"
        return {"frames": frames, "width": width * scale, "height": height * scale, "seconds": seconds}


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    """The values that are texts and not empty."""
    return tuple(value for value in values if isinstance(value, str) and value.strip())
