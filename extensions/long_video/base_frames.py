"""The base stage of a film as `LongVideoPipeline` sees it: which parts it has, under which keys they are kept, how they are made.

`segments.Segments` are made one after the other; `bridges.Bridges` lie between clips that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from extensions.long_video.plan import CONDITIONED
from extensions.long_video.strategies.extend import SegmentDone
from extensions.long_video.strategies.window_model import Model
from lavie.bundle import EXTENSION
from lavie.errors import StorageError
from lavie.events import BASE, Step
from lavie.latents import Latents


@dataclass(frozen=True)
class Part:
    """A segment or bridge of the base stage, or a window of a later one.

    stage: "base", "interpolation" or "super_resolution". number: of the segment, bridge or window, from 0. latents:
    float32 1 C n h w on the CPU; of a segment or bridge its new frames alone, a window whole. facts: how it was made,
    JSON values. state: what goes on behind a segment needs beside all latents so far, tensors on the CPU; empty but for
    `codenoise`.
    """

    stage: str
    number: int
    latents: Tensor = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


Kept = MutableMapping[str, Part]  # key (see `keys`) → part. A key that is missing, or a KeyError, means: make it.


def latents_at(kept: Kept, key: str) -> Tensor:
    """A part that has been seen there. Raises StorageError where it is gone since."""
    try:
        return kept[key].latents
    except KeyError:
        raise StorageError(
            f"part {key[:12]} of the video was there and is gone or damaged: start the job again, it makes that part "
            "anew"
        ) from None


class WindowParts(MutableMapping):
    """The windows of a stage by their numbers, kept as parts: latents as a stage gives them, float32 on the CPU as they
    are read."""

    def __init__(self, kept: Kept, stage: str, keys: Sequence[str]):
        self._kept, self._stage, self._keys = kept, stage, keys

    def __contains__(self, number: object) -> bool:
        return self._keys[number] in self._kept

    def __getitem__(self, number: int) -> Tensor:
        return latents_at(self._kept, self._keys[number])

    def __setitem__(self, number: int, latents: Tensor) -> None:
        self._kept[self._keys[number]] = Part(self._stage, number, latents.float().cpu())

    def __delitem__(self, number: int) -> None:
        del self._kept[self._keys[number]]

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(len(self._keys)) if number in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


# A component of the bundle → the model on its device, for as long as it is needed.
Opened = Callable[[str], AbstractContextManager[Model]]


class Timeline(Protocol):
    """Where what lies: `plan.Layout` or `join_plan.JoinPlan`. frames: of the whole video."""

    frames: int

    def joins(self) -> list[int]:
        """The frames at which the meters look for seams."""
        ...

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """The prompt that goes, the one that comes, and its weight, 0 … 1, at an absolute frame."""
        ...


class BaseFrames(Protocol):
    """layout: where what lies. network: component of the bundle that makes the parts. opened_by: the one that makes the
    first clip, where that is another. prompts: that the parts read."""

    layout: Timeline
    network: str
    opened_by: str | None
    prompts: Sequence[str]

    def keys(self, made_with: str) -> list[str]:
        """Of the parts that are made, in their order. made_with: see `keys.made_with`, for the base stage."""
        ...

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """What a later stage's window that is shown an absolute frame depends on for it."""
        ...

    def total_steps(self, steps: int) -> int:
        """How many `Step` events all parts have. steps: of the sampling."""
        ...

    def make(self, opened: Opened, kept: Kept, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """Make the parts that are not kept, each kept before it is told of. opened: asked for only if one is missing.

        `SegmentDone.number` counts the parts from 0.
        """
        ...

    def latents(self, kept: Kept, keys: Sequence[str]) -> Latents:
        """The whole video's, read from the parts where they are needed."""
        ...


def network_of(strategy: str) -> str:
    """The component of a bundle that a strategy works with."""
    return EXTENSION if strategy == CONDITIONED else BASE
