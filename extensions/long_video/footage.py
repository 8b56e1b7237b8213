"""The base stage of a film as `Film` sees it: which parts it has, under which keys they are kept, how they are made.

`segments.Segments` are made one after the other; `bridges.Bridges` lie between clips that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from extensions.long_video.extend import SegmentDone
from extensions.long_video.model import Model
from extensions.long_video.parts import Kept
from extensions.long_video.plan import CONDITIONED
from lavie.bundle import EXTENSION
from lavie.events import BASE, Step
from lavie.latents import Latents

# A component of the bundle → the model on its device, for as long as it is needed.
Opened = Callable[[str], AbstractContextManager[Model]]


class Timeline(Protocol):
    """Where what lies: `plan.Layout` or `reel.Reel`. frames: of the whole video."""

    frames: int

    def joins(self) -> list[int]:
        """The frames at which the meters look for seams."""
        ...

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """The prompt that goes, the one that comes, and its weight, 0 … 1, at an absolute frame."""
        ...


class Footage(Protocol):
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
