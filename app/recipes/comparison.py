"""Compares a clip with its regeneration: bit-identical, or by how much it differs, and possible reasons."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.recipes.recipe import Recipe
from lavie.errors import MediaError
from lavie.memory_mode import NONE

if typing.TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Difference:
    """A value of the recipe that has changed; None stands for absent."""

    name: str
    was: typing.Any
    now: typing.Any

    def __str__(self) -> str:
        return f"{self.name} was {_short(self.was)}, is {_short(self.now)}"


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison.

    Attributes:
        identical: whether the frames are the same, bit for bit.
        psnr: in dB against the stored file, including the loss of its encoding; None if identical or not comparable.
        differences: changes of device, number type, libraries, weights and memory modes.
    """

    identical: bool
    psnr: float | None = None
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        if self.identical:
            return "bit-identical"
        distance = "not comparable with the stored file" if self.psnr is None else f"PSNR {self.psnr:.1f} dB"
        reasons = "; ".join(map(str, self.differences)) or "nothing recorded differs"
        return f"differs: {distance}; {reasons}"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """The inverse of `to_json`."""
        data = json.loads(text)
        return cls(**{**data, "differences": tuple(Difference(**each) for each in data["differences"])})


def compare_clips(recipe: Recipe, again: Recipe, frames: Callable[[], Iterable[np.ndarray]], file: Path) -> Comparison:
    """Compare a stored clip, its recipe and file, with a new recipe and its frames, uint8 H W 3."""
    if recipe.frame_hash == again.frame_hash:
        return Comparison(True)
    changed = [*differences(recipe.provenance, again.provenance), *_compare_memory(recipe, again)]
    return Comparison(False, _psnr(frames(), file), tuple(changed))


def _compare_memory(recipe: Recipe, again: Recipe) -> Iterator[Difference]:
    """What in the memory plans may be why: of offloading no bit depends."""
    was, now = (
        {place: str(replace(mode, offload=NONE)) for place, mode in made.memory.items()} for made in (recipe, again)
    )
    return differences(was, now, "memory")


def differences(was: typing.Any, now: typing.Any, name: str = "") -> Iterator[Difference]:
    """The differences between two JSON values, leaf by leaf."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            yield from differences(was.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif was != now:
        yield Difference(name, was, now)


def _psnr(frames: Iterable[np.ndarray], file: Path) -> float | None:
    """The PSNR over the whole clip, peak 255; None if the file is gone or of another shape."""
    import numpy as np

    from app.media import frames_of

    total, count = 0.0, 0
    try:
        for stored, made in zip(frames_of(file), frames, strict=True):
            if stored.shape != made.shape:
                return None
            total += float(np.square(stored.astype(np.float32) - made).sum())
            count += made.size
    except (MediaError, ValueError):
        return None
    return 10 * math.log10(255**2 * count / total) if total else None


def _short(value: typing.Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
