"""The base frames of a long video: the parts they consist of, the keys of these parts, and how they are made.

`extend.SegmentFrames` makes segments one after the other, `transitions.TransitionFrames` transitions between clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from extensions.long_video.plan import CONDITIONED
from extensions.long_video.strategies.window_model import Model
from lavie.errors import StorageError
from lavie.events import BASE, Step
from lavie.latents import Latents
from lavie.manifest import EXTENSION


@dataclass(frozen=True)
class Part:
    """A segment or transition of the base stage, or a window of a later stage.

    Args:
        stage: "base", "interpolation" or "super_resolution".
        number: of the segment, transition or window, from 0.
        latents: float32 1 C n h w on the CPU: only the new frames of a segment or transition, all of a window.
        facts: how it was made, as JSON values.
        state: tensors on the CPU that the next segment needs beside all latents so far; only `codenoise` has any.
    """

    stage: str
    number: int
    latents: Tensor = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


PartStore = MutableMapping[str, Part]  # key (`cache_keys`) → part; a missing part is made


def latents_at(store: PartStore, key: str) -> Tensor:
    """The latents of a part that was there. Raises StorageError if it is gone."""
    try:
        return store[key].latents
    except KeyError:
        raise StorageError(
            f"part {key[:12]} of the video was there and is gone or damaged: start the job again, it makes that part "
            "anew"
        ) from None


class WindowParts(MutableMapping):
    """The windows of a stage by number, stored as parts: float32 on the CPU."""

    def __init__(self, store: PartStore, stage: str, keys: Sequence[str]) -> None:
        self._store, self._stage, self._keys = store, stage, keys

    def __contains__(self, number: object) -> bool:
        return self._keys[number] in self._store

    def __getitem__(self, number: int) -> Tensor:
        return latents_at(self._store, self._keys[number])

    def __setitem__(self, number: int, latents: Tensor) -> None:
        self._store[self._keys[number]] = Part(self._stage, number, latents.float().cpu())

    def __delitem__(self, number: int) -> None:
        del self._store[self._keys[number]]

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(len(self._keys)) if number in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class SegmentDone:
    """A segment or a transition is done. Once stored, it is never made again.

    Args:
        number: from 0.
        latents: float32 1 C n h w on the CPU, the new frames as the next segment sees them.
        facts: how it was made and what was measured, as JSON values.
        state: see `Part`.
    """

    number: int
    latents: Tensor = field(repr=False)
    facts: dict[str, Any]
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


# Opens a component of the bundle on its device for the length of a block.
OpenModel = Callable[[str], AbstractContextManager[Model]]


class Timeline(Protocol):
    """The frames of a whole video: `plan.Layout` or `join_plan.JoinPlan`. `frames` is their number."""

    frames: int

    def joins(self) -> list[int]:
        """The frames at which `metrics.Meter` looks for seams."""
        ...

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """The old prompt, the new prompt and the new one's weight, 0 … 1, at an absolute frame."""
        ...


class BaseFrames(Protocol):
    """The base stage as `LongVideoPipeline` runs it.

    Attributes:
        layout: where each frame comes from.
        network: the component of the bundle that makes the parts.
        opening_network: the component that makes the first clip, if it is another one.
        prompts: of the parts.
    """

    layout: Timeline
    network: str
    opening_network: str | None
    prompts: Sequence[str]

    def keys(self, stage_digest: str) -> list[str]:
        """The keys of the parts that are made, in order. stage_digest: that of the base stage."""
        ...

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """The key that a later stage's window depends on for an absolute frame."""
        ...

    def total_steps(self, steps: int) -> int:
        """The number of `Step` events of all parts. steps: of the sampling."""
        ...

    def make(self, open_model: OpenModel, store: PartStore, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """Make the missing parts and store each before its event. `SegmentDone.number` counts the parts from 0.

        open_model: called only if a part is missing.
        """
        ...

    def latents(self, store: PartStore, keys: Sequence[str]) -> Latents:
        """The latents of the whole video, read from the parts when needed."""
        ...


def network_of(strategy: str) -> str:
    """The component of a bundle that a strategy runs."""
    return EXTENSION if strategy == CONDITIONED else BASE
