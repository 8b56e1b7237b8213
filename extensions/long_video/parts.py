"""What of a long video is kept: a segment's latents, or a window's, under the key that says all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lavie.errors import StorageError


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
