"""A bundle and a request → the works of the cascade's places, and from these the memory plan. Runs no network.

Reads configs and the headers of weight files, never weights.
"""

from __future__ import annotations

import json
import math
import struct
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from lavie.bundle import UPSCALER_VAE, VAE, Bundle
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.footprint import Shape
from lavie.key_frames import interpolated_frames
from lavie.plans import DECODING, MemoryMode, MemoryPlan, Part, Work, plan_for
from lavie.request import Request

if typing.TYPE_CHECKING:
    from lavie.residency import Residency

CHANNELS, FLOAT = 4, 4  # of latents, which stay in float32


@dataclass(frozen=True)
class Size:
    """What the stages of a request begin with: frames, and pixels of one. The stages that are to run, in their order.

    network: which one does the base stage. window: frames that it sees at once, None: all of them.
    """

    frames: int
    height: int
    width: int
    stages: tuple[str, ...]
    network: str = BASE
    window: int | None = None


def works_of(bundle: Bundle, residency: Residency, request: Request, size: Size) -> dict[str, Work]:
    """Place → its work. request: resolved."""

    @cache
    def part(component: str) -> Part:
        element = residency.dtype_of(component).itemsize
        return Part(bundle.config(component), _parameters(bundle.folder / component), element)

    works, held = {}, 0
    factor = bundle.halvings(VAE)
    small = (size.height // factor, size.width // factor)
    frames = size.frames
    for stage in size.stages:
        windows = bundle.defaults[stage].windows
        frames = interpolated_frames(frames) if stage == INTERPOLATION else frames
        enlarges = stage == SUPER_RESOLUTION
        latents = (size.height, size.width) if enlarges else small
        seen = (size.window or frames) if stage == BASE else windows.size
        made = frames if stage == BASE else len(windows.starts(frames)) * seen
        held = FLOAT * CHANNELS * made * math.prod(latents) + enlarges * FLOAT * 3 * seen * math.prod(latents)
        works[stage] = Work(
            network=part(size.network if stage == BASE else stage),
            shape=Shape(1, seen, *latents),
            guided=request.sampling(stage).guidance != 1.0,
            decoder=part(VAE) if enlarges else None,
            latents=small if enlarges else (0, 0),
            text=part(bundle.text_components(stage)[0]),
            held=held,
        )
    large = SUPER_RESOLUTION in size.stages
    shown = (size.height, size.width) if large else small
    works[DECODING] = Work(decoder=part(UPSCALER_VAE if large else VAE), latents=shown, held=held)
    return works


def plan_of(
    bundle: Bundle, residency: Residency, request: Request, size: Size, fixed: Mapping[str, MemoryMode] | None = None
) -> MemoryPlan:
    """The plan for what is free on the residency's device now; all there is where nothing is planned (a CPU).

    fixed: see `lavie.plans.plan_for`.
    """
    works = works_of(bundle, residency, request, size)
    dtype = str(residency.dtype).removeprefix("torch.")
    parts = {
        id(part): part.bytes
        for work in works.values()
        for part in (work.text, work.network, work.decoder)
        if part is not None
    }
    others = sum(bundle.size(component) for component in residency.loaded)
    return plan_for(residency.free(), works, max(sum(parts.values()), others), dtype, residency.choices, fixed)


def _parameters(folder: Path) -> int:
    """How many numbers the weights in a folder are."""
    return sum(_count(file, file.stat().st_mtime_ns) for file in sorted(folder.glob("*.safetensors")))


@lru_cache(64)
def _count(file: Path, changed: int) -> int:
    """Of one safetensors file, by its header: the length in 8 bytes, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
