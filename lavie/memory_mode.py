"""How a stage saves memory, and which stage does so, as values. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lavie.request import STAGES
from lavie.values import check, check_kind, check_whole, from_dict, to_dict

NONE, MODEL, SEQUENTIAL = OFFLOADED = ("none", "model", "sequential")  # where idle weights are, least memory last
DECODING = "decoding"  # the last latents into frames: planned like a stage
MEMORY_STAGES = (*STAGES, DECODING)
MIN_TILE, MAX_TILE, TILE_STEP = 64, 8192, 64


@dataclass(frozen=True)
class MemoryMode:
    """How a stage saves memory. Tiles and split guidance change the result, offloading does not.

    Args:
        tile: largest edge of a tile in pixels of the finished frame, 64 … 8192 in steps of 64; None: whole frames.
        split_guidance: run the unconditional and the conditional half of guidance one after the other.
        offload: where idle weights are, see `lavie.residency.Residency`.

    Raises RequestError for other values.
    """

    tile: int | None = None
    split_guidance: bool = field(default=False, metadata={"stored": "halves"})
    offload: str = NONE

    def __post_init__(self) -> None:
        check_whole("tile", self.tile, MIN_TILE, MAX_TILE)
        check((self.tile or 0) % TILE_STEP == 0, f"tile is {self.tile}: give a multiple of {TILE_STEP}")
        check_kind("halves", self.split_guidance, bool)
        check(self.offload in OFFLOADED, f"offload is {self.offload!r}: choose one of {', '.join(OFFLOADED)}")

    @property
    def changes(self) -> bool:
        """Whether the result differs from that of `PLAIN`."""
        return bool(self.tile or self.split_guidance)

    def __str__(self) -> str:
        parts = [f"pieces of {self.tile} pixels"] if self.tile else []
        parts += ["the halves of guidance in turn"] if self.split_guidance else []
        parts += {NONE: [], MODEL: ["idle networks moved away"], SEQUENTIAL: ["layers moved one by one"]}[self.offload]
        return ", ".join(parts) or "everything at once"


PLAIN = MemoryMode()


@dataclass(frozen=True)
class MemoryPlan:
    """The memory mode and the predicted peak in bytes of each stage.

    Args:
        dtype: number type of the networks.
        free: bytes of device memory that the plan is made for; None where memory is not planned.
        fits: whether every predicted peak fits.
    """

    dtype: str
    modes: Mapping[str, MemoryMode]
    peaks: Mapping[str, int]
    free: int | None = None
    fits: bool = True

    @property
    def peak(self) -> int:
        return max(self.peaks.values(), default=0)


def modes_to_dict(modes: Mapping[str, MemoryMode]) -> dict[str, Any]:
    return {stage: to_dict(mode) for stage, mode in modes.items()}


def modes_from_dict(data: Any) -> dict[str, MemoryMode]:
    """The inverse of `modes_to_dict`. Raises RequestError for anything else."""
    check_kind("memory", data, dict)
    for stage in data:
        check(stage in MEMORY_STAGES, f"memory names {stage!r:.100}: it can name {', '.join(MEMORY_STAGES)}")
    return {stage: from_dict(MemoryMode, mode) for stage, mode in data.items()}
