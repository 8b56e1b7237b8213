"""Predicts the memory that each stage of a request needs, and chooses the memory mode of each stage.

The prediction follows one forward pass of `lavie.unet` or of diffusers' AutoencoderKL on a GPU and counts the tensors
that are alive at each point; the largest sum is the peak. It reads configs and headers of weight files, never weights.
`bench.memory` compares it with counted allocations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

from lavie.bundle import Bundle
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import interpolated_frames
from lavie.manifest import UPSCALER_VAE, VAE
from lavie.memory_mode import DECODING, MAX_TILE, MODEL, OFFLOADED, SEQUENTIAL, MemoryMode, MemoryPlan
from lavie.request import Request
from lavie.residency import Residency
from lavie.tiles import largest
from lavie.vae import ATTENTION_CHUNKED_FROM, SCORES_AT_ONCE

TILES = (1024, 512)  # pixels of the finished frame, the larger first
SCALE = 4  # pixels of the finished frame for each latent of super-resolution
SLACK, RESERVED = 1.1, 2**29  # an allocator loses a tenth between blocks; kernels need half a GiB of their own
CHANNELS, FLOAT = 4, 4  # of latents, which stay in float32
FEED_FORWARD = 16  # times its input while a gated feed-forward layer runs: both halves (8), gate (4), product (4)
TOKENS = 77  # of a prompt

Config = Mapping[str, Any]  # the content of a component's config.json


@dataclass(frozen=True)
class Shape:
    """The input of a network: clips in the batch, frames of a clip, height and width of its latents."""

    clips: int
    frames: int
    height: int
    width: int

    def pixels(self, halvings: int = 0) -> int:
        """Pixels of the whole batch after so many strided convolutions."""
        height, width = (-(-size // 2**halvings) for size in (self.height, self.width))
        return self.clips * self.frames * height * width


@dataclass(frozen=True)
class Part:
    """A component: its config, the number of its parameters, bytes of one."""

    config: Config = field(repr=False)
    parameters: int
    element: int

    @property
    def bytes(self) -> int:
        return self.parameters * self.element

    @property
    def factor(self) -> int:
        """How many times smaller the smallest picture inside the component is."""
        return int(2 ** (len(self.config["block_out_channels"]) - 1))


@dataclass(frozen=True)
class Work:
    """What a stage computes.

    Args:
        network, shape: the network and its input for one half of guidance.
        guided: whether guidance has two halves.
        decoder, latents: the autoencoder that decodes in this stage, and the height and width of its latents.
        text: the text encoder.
        held: bytes of latents and frames that stay in memory meanwhile.
    """

    network: Part | None = None
    shape: Shape | None = None
    guided: bool = False
    decoder: Part | None = None
    latents: tuple[int, int] = (0, 0)
    text: Part | None = None
    held: int = 0

    @property
    def parts(self) -> list[Part]:
        return [part for part in (self.text, self.network, self.decoder) if part is not None]


@dataclass(frozen=True)
class Size:
    """What the stages of a request begin with: frames, height and width in pixels, and the stages in their order.

    network: the component that runs the base stage. window: frames that it sees at once; None: all of them.
    """

    frames: int
    height: int
    width: int
    stages: tuple[str, ...]
    network: str = BASE
    window: int | None = None


def plan_memory(
    bundle: Bundle, residency: Residency, request: Request, size: Size, fixed: Mapping[str, MemoryMode] | None = None
) -> MemoryPlan:
    """Plan a resolved request for the memory that is free on the residency's device now. fixed: see `choose_modes`."""
    works = describe_work(bundle, residency, request, size)
    weights = sum({id(part): part.bytes for work in works.values() for part in work.parts}.values())
    resident = max(weights, sum(map(bundle.size, residency.loaded)))
    dtype = str(residency.dtype).removeprefix("torch.")
    return choose_modes(residency.free(), works, resident, dtype, residency.choices, fixed)


def describe_work(bundle: Bundle, residency: Residency, request: Request, size: Size) -> dict[str, Work]:
    """The work of each stage of a resolved request, and of decoding."""

    @cache
    def part(component: str) -> Part:
        element = residency.dtype_of(component).itemsize
        return Part(bundle.config(component), bundle.parameters(component), element)

    works, held, frames = {}, 0, size.frames
    factor = bundle.halvings(VAE)
    large, small = (size.height, size.width), (size.height // factor, size.width // factor)
    for stage in size.stages:
        windows = bundle.defaults[stage].windows
        enlarges = stage == SUPER_RESOLUTION
        frames = interpolated_frames(frames) if stage == INTERPOLATION else frames
        seen = (size.window or frames) if stage == BASE else windows.size
        made = frames if stage == BASE else len(windows.starts(frames)) * seen
        latents = large if enlarges else small
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
    decoder, latents = (UPSCALER_VAE, large) if SUPER_RESOLUTION in size.stages else (VAE, small)
    works[DECODING] = Work(decoder=part(decoder), latents=latents, held=held)
    return works


def choose_modes(
    free: int | None,
    works: Mapping[str, Work],
    resident: int,
    dtype: str,
    offloads: Sequence[str] = OFFLOADED,
    fixed: Mapping[str, MemoryMode] | None = None,
) -> MemoryPlan:
    """Choose for each stage the cheapest mode that fits, else the smallest.

    Modes that do not change the result come first. Sequential offloading, many times slower than all else, comes last.

    Args:
        free: bytes of device memory, including those that this process holds; None: unlimited.
        works: stage → its work.
        resident: bytes of all weights that are on the device where nothing is offloaded.
        offloads: those to choose from.
        fixed: modes of an earlier run: only their offloading, which changes no bit, is chosen anew.
    """
    modes, peaks, fits = {}, {}, True
    for stage, work in works.items():
        candidates = list(_candidates(stage, work, offloads, (fixed or {}).get(stage)))
        fitting = [mode for mode in candidates if free is None or needed(predict(work, mode, resident)) <= free]
        fits = fits and bool(fitting)
        modes[stage] = fitting[0] if fitting else candidates[-1]
        peaks[stage] = predict(work, modes[stage], resident)
    return MemoryPlan(dtype, modes, peaks, free, fits)


def next_mode(stage: str, mode: MemoryMode, work: Work, offloads: Sequence[str] = OFFLOADED) -> MemoryMode | None:
    """The next smaller mode: smaller tiles, then split guidance, then offloading; None behind the last."""
    if smaller := [tile for tile in _tiles(stage, work) if tile < (mode.tile or MAX_TILE + 1)]:
        return replace(mode, tile=smaller[0])
    if work.guided and not mode.split_guidance:
        return replace(mode, split_guidance=True)
    further = [kind for kind in offloads if OFFLOADED.index(kind) > OFFLOADED.index(mode.offload)]
    return replace(mode, offload=further[0]) if further else None


def _candidates(stage: str, work: Work, offloads: Sequence[str], fixed: MemoryMode | None) -> Iterator[MemoryMode]:
    """From the cheapest to the smallest."""
    tiles, splits = (None, *_tiles(stage, work)), (False, True) if work.guided else (False,)
    if fixed is not None:
        tiles, splits = (fixed.tile,), (fixed.split_guidance,)
    quick = [kind for kind in offloads if kind != SEQUENTIAL]
    yield from (MemoryMode(*values) for values in product(tiles, splits, quick))
    if SEQUENTIAL in offloads:
        yield from (MemoryMode(*values, SEQUENTIAL) for values in product(tiles, splits))


def _tiles(stage: str, work: Work) -> list[int]:
    """Sizes of tiles that are smaller than the frame."""
    if stage == DECODING and work.decoder:
        edge = work.decoder.factor * max(work.latents)
    elif stage == SUPER_RESOLUTION and work.shape:
        edge = SCALE * max(work.shape.height, work.shape.width)
    else:
        return []
    return [tile for tile in TILES if tile < edge]


def needed(peak: int) -> int:
    """Free memory that a predicted peak asks for."""
    return round(peak * SLACK) + RESERVED


def predict(work: Work, mode: MemoryMode, resident: int) -> int:
    """Peak bytes of a work in a mode. resident: see `choose_modes`."""
    peaks = []
    for part in work.parts:
        if mode.offload == SEQUENTIAL:
            weights = max(map(_moved_at_once, work.parts))
        elif mode.offload == MODEL:
            # The decoder makes the network's input while the network is on the device.
            weights = part.bytes + (work.network.bytes if work.network and part is work.decoder else 0)
        else:
            weights = resident
        peaks.append(weights + _activations(part, work, mode))
    return work.held + max(peaks)


def _activations(part: Part, work: Work, mode: MemoryMode) -> int:
    """Bytes that a part of a work needs beside its weights."""
    if part is work.network and work.shape:
        height, width = work.shape.height, work.shape.width
        if mode.tile and _is_super_resolution(part.config):  # the only network that works on tiles
            height, width = (largest(size, mode.tile // SCALE, part.factor) for size in (height, width))
        clips = 2 if work.guided and not mode.split_guidance else 1
        return unet_bytes(part.config, Shape(clips, work.shape.frames, height, width), part.element)
    if part is work.decoder:
        height, width = work.latents
        if mode.tile:
            height, width = (largest(size, mode.tile // part.factor) for size in work.latents)
        # In tiles, the whole frame and the weights of its blending are there as well.
        canvas = 0 if (height, width) == work.latents else 4 * FLOAT * math.prod(work.latents) * part.factor**2
        return decoder_bytes(part.config, height, width, part.element) + canvas
    return 0


def _moved_at_once(part: Part) -> int:
    """Bytes of the largest layer, where layers go to the device one by one; a transformer goes there whole."""
    if "cross_attention_dim" in part.config:
        return transformer_parameters(part.config) * part.element
    hidden = part.config.get("hidden_size", 0)
    widths = part.config.get("block_out_channels") or [hidden]
    return int(max(9 * max(widths) ** 2, part.config.get("vocab_size", 0) * hidden) * part.element)


def unet_bytes(config: Config, shape: Shape, element: int) -> int:
    """Peak of one forward of one of the three networks, input and output included. element: bytes of a number."""
    outside = 2 * shape.pixels() * (config["in_channels"] + config["out_channels"])
    return round(element * (max(_unet_walk(config, shape)) + outside + _text_numbers(config, shape.clips)))


def _unet_walk(config: Config, shape: Shape) -> Iterator[int]:
    """Numbers (not bytes) alive at each point of `VideoUNet._run_levels`."""
    widths, layers, temporal = (
        list(config["block_out_channels"]),
        config["layers_per_block"],
        _is_super_resolution(config),
    )
    pixels = [shape.pixels(level) for level in range(len(widths))]
    attention = 10 if str(config.get("_class_name", "")).startswith("Interpolation") else 6
    # The input as pixels (once more behind a temporal block) and as tokens, and the widest of the layers.
    transformer = 2 + temporal + max(attention, 1 + FEED_FORWARD)
    mixing = 4  # times its input, in a temporal module between the levels

    def layer(before: int, width: int, attends: bool) -> int:
        """Channels alive in a residual block and its transformer, besides those that the caller holds."""
        resnet = max(2 * before, before + width, 3 * width)
        return max(resnet, (1 + transformer) * width) if attends else resnet

    before, skips = widths[0], [widths[0] * pixels[0]]
    for level, width in enumerate(widths):
        for index in range(layers):
            unlisted = before * pixels[level] if temporal and level > 0 and index == 0 else 0  # mixed, so no skip
            yield sum(skips) + unlisted + layer(before, width, _attends(config, "down", level)) * pixels[level]
            before = width
            skips.append(width * pixels[level])
        if level + 1 < len(widths):
            skips.append(width * pixels[level + 1])
        if temporal:
            yield sum(skips) + mixing * width * pixels[min(level + 1, len(widths) - 1)]
    held = sum(skips) + temporal * before * pixels[-1]
    yield held + layer(before, before, True) * pixels[-1]
    yield held + (layer(before, before, False) + before) * pixels[-1]
    if temporal:
        yield sum(skips) + (1 + mixing) * before * pixels[-1]
    for level, width in reversed(list(enumerate(widths))):
        attends = _attends(config, "up", len(widths) - 1 - level)
        for _ in range(layers + 1):
            joined = before + skips.pop() // pixels[level]
            yield sum(skips) + (before + joined + layer(joined, width, attends)) * pixels[level]
            before = width
        above = pixels[max(level - 1, 0)]
        if level > 0:
            yield sum(skips) + width * (pixels[level] + 2 * above)
        if temporal:
            yield sum(skips) + (1 + mixing) * width * above
    yield 3 * widths[0] * pixels[0]  # the last norm and activation


def _attends(config: Config, way: str, index: int) -> bool:
    return str(config[f"{way}_block_types"][index]).startswith("CrossAttn")


def _text_numbers(config: Config, clips: int) -> int:
    """Keys and values of the prompts, which are kept from step to step."""
    widths, layers = list(config["block_out_channels"]), config["layers_per_block"]
    down = sum(layers * width for index, width in enumerate(widths) if _attends(config, "down", index))
    up = sum((layers + 1) * width for index, width in enumerate(reversed(widths)) if _attends(config, "up", index))
    return int(2 * TOKENS * clips * (widths[-1] + down + up) * (2 if _is_super_resolution(config) else 1))


def decoder_bytes(config: Config, height: int, width: int, element: int) -> int:
    """Peak while an AutoencoderKL decodes one frame. height, width: of its latents."""
    widths = list(config["block_out_channels"])
    before, pixels = widths[-1], height * width
    attention = 7 * before * pixels
    if pixels >= ATTENTION_CHUNKED_FROM:
        attention = 8 * before * pixels + 2 * SCORES_AT_ONCE
    alive = [attention, pixels * 5 * before]
    for index, channels in enumerate(reversed(widths)):
        alive.append(pixels * max(3 * before, before + 4 * channels if before != channels else 5 * channels))
        if index + 1 < len(widths):
            alive.append(channels * (pixels + 2 * 4 * pixels))
            pixels *= 4
        before = channels
    return round(element * (max(alive) + 2 * 3 * pixels))


def transformer_parameters(config: Config) -> int:
    """Parameters of the largest part that goes to the device at once in sequential offloading."""
    width, text = max(config["block_out_channels"]), config["cross_attention_dim"]
    # Three attentions (4 + 2 + 4, keys and values of the text apart), the feed-forward layer (12), in and out (2).
    squares = 24 + (6 if _is_super_resolution(config) else 0)
    return int(max(squares * width**2 + 2 * width * text, 9 * 2 * width**2))


def _is_super_resolution(config: Config) -> bool:
    """Whether the network has convolutions along time, and temporal modules between its levels."""
    return str(config.get("_class_name", "")).startswith("SuperResolution")
