"""The parts that a long video is made and stored in.

Its base frames come from `extend.SegmentFrames`, segment by segment, or from `transitions.TransitionFrames` between
clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from extensions.long_video.plan import CONDITIONED
from extensions.long_video.strategies.window_model import Model
from lavie.errors import StorageError
from lavie.events import BASE
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


def read_part(store: PartStore, key: str) -> Part | None:
    """A stored part; None if it is missing or damaged, which shows only when reading."""
    try:
        return store[key]
    except KeyError:
        return None


def latents_at(store: PartStore, key: str) -> Tensor:
    """The latents of a part that was there. Raises StorageError if it is gone."""
    part = read_part(store, key)
    if part is None:
        raise StorageError(
            f"part {key[:12]} of the video was there and is gone or damaged: start the job again, it makes that part "
            "anew"
        )
    return part.latents


class WindowParts(MutableMapping[int, Tensor]):
    """The windows of a stage by number, stored as parts: float32 on the CPU."""

    def __init__(self, store: PartStore, stage: str, keys: Sequence[str]) -> None:
        self._store, self._stage, self._keys = store, stage, keys

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._keys[number] in self._store

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


class SegmentDone(Part):
    """A segment or a transition is done. Once stored, it is never made again."""


# Opens a component of the bundle on its device for the length of a block.
OpenModel = Callable[[str], AbstractContextManager[Model]]


def network_of(strategy: str) -> str:
    """The component of a bundle that a strategy runs."""
    return EXTENSION if strategy == CONDITIONED else BASE
