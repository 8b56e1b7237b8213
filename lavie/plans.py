"""Memory plans: on which rung each stage of a request runs, chosen from free memory before it starts.

A rung says three things that cost something and save memory: pieces of a frame at a time, the two halves of guidance
one after the other, and networks that wait in the computer's memory. Pieces and halves change a result, so whoever runs
on such a rung tells it. Needs no torch; what a network needs comes from `lavie.footprint`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product

from lavie.events import STAGES, SUPER_RESOLUTION
from lavie.footprint import Config, Shape, decoder_bytes, transformer_parameters, unet_bytes
from lavie.tiles import largest
from lavie.values import check, check_kind, check_whole, from_dict

NONE, MODEL, SEQUENTIAL = OFFLOADED = ("none", "model", "sequential")  # where idle weights are, least memory last
DECODING = "decoding"  # the last latents into frames: no stage of a request, but a part of the work like one
PLACES = (*STAGES, DECODING)
TILES = (1024, 512)  # pixels of the finished frame, the larger first
MIN_TILE, MAX_TILE, TILE_STEP = 64, 8192, 64
SLACK, RESERVED = 1.1, 2**29  # of an allocator: a tenth is lost between blocks; and half a GiB for kernels' own needs


@dataclass(frozen=True)
class MemoryMode:
    """tile: largest edge of a piece in pixels of the finished frame, 64 … 8192 in steps of 64; None: whole frames.

    halves: the unconditional and the conditional half of guidance one after the other, not as one batch. offload: as
    `lavie.residency.Residency` takes it. Raises RequestError.
    """

    tile: int | None = None
    halves: bool = False
    offload: str = NONE

    def __post_init__(self):
        check_whole("tile", self.tile, MIN_TILE, MAX_TILE)
        check((self.tile or 0) % TILE_STEP == 0, f"tile is {self.tile}: give a multiple of {TILE_STEP}")
        check_kind("halves", self.halves, bool)
        check(self.offload in OFFLOADED, f"offload is {self.offload!r}: choose one of {', '.join(OFFLOADED)}")

    @property
    def changes(self) -> bool:
        """Whether a result is another one than with everything at once."""
        return bool(self.tile or self.halves)

    def __str__(self) -> str:
        said = [f"pieces of {self.tile} pixels"] if self.tile else []
        said += ["the halves of guidance in turn"] if self.halves else []
        said += {NONE: [], MODEL: ["idle networks moved away"], SEQUENTIAL: ["layers moved one by one"]}[self.offload]
        return ", ".join(said) or "everything at once"


PLAIN = MemoryMode()


def rungs_to_dict(rungs: Mapping[str, MemoryMode]) -> dict[str, dict]:
    """As JSON values."""
    return {place: asdict(rung) for place, rung in rungs.items()}


def rungs_from_dict(data: object) -> dict[str, MemoryMode]:
    """The inverse of `rungs_to_dict`, whoever wrote it. Raises RequestError."""
    check_kind("memory", data, dict)
    for place in data:
        check(place in PLACES, f"memory names {place!r:.100}: it can name {', '.join(PLACES)}")
    return {place: from_dict(MemoryMode, rung) for place, rung in data.items()}


@dataclass(frozen=True)
class Part:
    """A component: its config, how many parameters it has, bytes of one."""

    config: Config = field(repr=False)
    parameters: int
    element: int

    @property
    def bytes(self) -> int:
        return self.parameters * self.element


@dataclass(frozen=True)
class Work:
    """What a place of the cascade has to do for a request.

    network: with what it is called with for one half of guidance (`shape`). guided: whether there are two. decoder: the
    autoencoder that runs here, with height and width of its `latents`. text: the text encoder. held: bytes of latents
    and frames that stay meanwhile.
    """

    network: Part | None = None
    shape: Shape | None = None
    guided: bool = False
    decoder: Part | None = None
    latents: tuple[int, int] = (0, 0)
    text: Part | None = None
    held: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """rungs, peaks: of each place, the peaks predicted in bytes. free: bytes that it was made for, None: not asked.

    dtype: the networks' number type. fits: whether every peak does, as far as can be told.
    """

    dtype: str
    rungs: Mapping[str, MemoryMode]
    peaks: Mapping[str, int]
    free: int | None = None
    fits: bool = True

    @property
    def peak(self) -> int:
        """The largest of the predicted peaks."""
        return max(self.peaks.values(), default=0)


def plan_for(
    free: int | None,
    works: Mapping[str, Work],
    resident: int,
    dtype: str,
    offloads: Sequence[str] = OFFLOADED,
    fixed: Mapping[str, MemoryMode] | None = None,
) -> MemoryPlan:
    """For each place the cheapest rung that fits, else the smallest.

    What changes no result comes first. Layer by layer, many times slower than all else, comes last.

    Args:
        free: bytes of device memory, what this process holds of it included; None: take all the memory there is.
        works: place → its work.
        resident: bytes of all weights that are on the device where nothing is offloaded.
        offloads: those to choose from.
        fixed: rungs that a result was made on: of these only the offloading, which changes no bit, is chosen anew.
    """
    rungs, peaks, fits = {}, {}, True
    for place, work in works.items():
        asked = (fixed or {}).get(place)
        candidates = list(_candidates(place, work, offloads, asked))
        found = [rung for rung in candidates if free is None or needed(predict(work, rung, resident)) <= free]
        fits = fits and bool(found)
        rungs[place] = found[0] if found else candidates[-1]
        peaks[place] = predict(work, rungs[place], resident)
    return MemoryPlan(dtype, rungs, peaks, free, fits)


def needed(peak: int) -> int:
    """Free memory that a predicted peak asks for."""
    return round(peak * SLACK) + RESERVED


def first_offload(sizes: Sequence[int], free: int, headroom: float) -> str:
    """How to keep weights of these sizes before any request is known. headroom: memory a network needs, in weights."""
    if sum(sizes) * headroom <= free:
        return NONE
    return MODEL if max(sizes, default=0) * headroom <= free else SEQUENTIAL


def predict(work: Work, rung: MemoryMode, resident: int) -> int:
    """Peak bytes of a place's work on a rung. resident: see `plan_for`."""
    parts = [part for part in (work.text, work.network, work.decoder) if part is not None]
    if rung.offload == SEQUENTIAL:
        weights = dict.fromkeys(map(id, parts), max(map(_moved_at_once, parts)))
    elif rung.offload == MODEL:
        weights = {id(part): part.bytes for part in parts}
        if work.network and work.decoder:  # which decodes what the network is shown, while that is on the device
            weights[id(work.decoder)] += work.network.bytes
    else:
        weights = dict.fromkeys(map(id, parts), resident)
    alive = {id(part): 0 for part in parts}
    if work.network:
        alive[id(work.network)] = network_bytes(work, rung)
    if work.decoder:
        alive[id(work.decoder)] = autoencoder_bytes(work, rung)
    return work.held + max(weights[part] + alive[part] for part in alive)


def network_bytes(work: Work, rung: MemoryMode) -> int:
    """What a work's network needs beside its weights."""
    scale = 4  # output pixels for each latent: only super-resolution's network takes pieces, and its autoencoder is ×4
    multiple = 2 ** (len(work.network.config["block_out_channels"]) - 1)
    height, width = work.shape.height, work.shape.width
    if rung.tile and _takes_pieces(work):
        height, width = (largest(size, rung.tile // scale, multiple) for size in (height, width))
    clips = 2 if work.guided and not rung.halves else 1
    shape = Shape(clips, work.shape.frames, height, width)
    return unet_bytes(work.network.config, shape, work.network.element)


def autoencoder_bytes(work: Work, rung: MemoryMode) -> int:
    """What a work's autoencoder needs beside its weights, the finished frame and its weights of blending included."""
    factor = 2 ** (len(work.decoder.config["block_out_channels"]) - 1)
    height, width = work.latents
    if rung.tile:
        height, width = (largest(size, rung.tile // factor) for size in work.latents)
    canvas = 4 * 4 * work.latents[0] * work.latents[1] * factor**2 if (height, width) != work.latents else 0
    return decoder_bytes(work.decoder.config, height, width, work.decoder.element) + canvas


def next_rung(place: str, rung: MemoryMode, work: Work, offloads: Sequence[str] = OFFLOADED) -> MemoryMode | None:
    """Where to go on when memory ran out: smaller pieces, then halves, then offloading; None: that was all."""
    smaller = [tile for tile in _tiles(place, work) if tile < (rung.tile or MAX_TILE + 1)]
    if smaller:
        return replace(rung, tile=smaller[0])
    if work.guided and not rung.halves:
        return replace(rung, halves=True)
    further = [kind for kind in offloads if OFFLOADED.index(kind) > OFFLOADED.index(rung.offload)]
    return replace(rung, offload=further[0]) if further else None


def _candidates(place: str, work: Work, offloads: Sequence[str], fixed: MemoryMode | None) -> Iterator[MemoryMode]:
    """From the cheapest to the smallest."""
    quick = [kind for kind in offloads if kind != SEQUENTIAL]
    tiles, halves = (None, *_tiles(place, work)), (False, True) if work.guided else (False,)
    if fixed is not None:
        tiles, halves = (fixed.tile,), (fixed.halves,)
    for tile, half, offload in product(tiles, halves, quick):
        yield MemoryMode(tile, half, offload)
    if SEQUENTIAL in offloads:
        for tile, half in product(tiles, halves):
            yield MemoryMode(tile, half, SEQUENTIAL)


def _tiles(place: str, work: Work) -> list[int]:
    """Sizes of pieces that are smaller than the frame."""
    if place not in (SUPER_RESOLUTION, DECODING):
        return []
    height, width = work.latents if place == DECODING else (work.shape.height, work.shape.width)
    scale = 2 ** (len(work.decoder.config["block_out_channels"]) - 1) if place == DECODING else 4
    return [tile for tile in TILES if tile < scale * max(height, width)]


def _takes_pieces(work: Work) -> bool:
    return str(work.network.config.get("_class_name", "")).startswith("SuperResolution")


def _moved_at_once(part: Part) -> int:
    """Bytes of the largest layer, where layers go to the device one by one; a transformer goes there whole."""
    if "cross_attention_dim" in part.config:
        return transformer_parameters(part.config) * part.element
    widths = part.config.get("block_out_channels") or [part.config.get("hidden_size", 0)]
    vocabulary = part.config.get("vocab_size", 0) * part.config.get("hidden_size", 0)
    return max(9 * max(widths) ** 2, vocabulary) * part.element
