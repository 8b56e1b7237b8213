"""A long video through all stages: base frames, windows of interpolation and super-resolution, decoded frames.

Every finished part is stored before its event, and stored parts are not made again. So an interrupted video continues
to the same bits, and memory does not grow with the length.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extensions.long_video import cache_keys
from extensions.long_video.base_frames import Part, PartStore, SegmentDone, WindowParts
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies.extend import SegmentFrames
from extensions.long_video.strategies.transitions import Clip, TransitionFrames
from extensions.long_video.strategies.window_model import Model, no_preparation
from lavie import vae
from lavie.cascade import Cascade, decoder
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, MemoryModeChanged, Notice, StageDone, StageStarted, Step
from lavie.key_frames import RATE, interpolated_frames, keys_of, nearest_key
from lavie.latents import Blended, Latents, Whole
from lavie.manifest import EXTENSION, NEEDED, VAE
from lavie.memory_fallback import MemoryFallback
from lavie.memory_mode import DECODING, PLAIN, MemoryMode
from lavie.memory_plan import Size
from lavie.request import Request, Sampling
from lavie.stages import windowed
from lavie.stages.super_resolution import SCALE
from lavie.values import require
from lavie.windows import Windows

__all__ = ["Event", "LongVideoPipeline", "Part", "SegmentDone"]

Event = Notice | MemoryModeChanged | StageStarted | Step | SegmentDone | StageDone


class LongVideoPipeline:
    """Makes one long video."""

    def __init__(
        self,
        cascade: Cascade,
        request: Request,
        plan: SegmentPlan | JoinPlan,
        start: Tensor | None,
        store: PartStore,
        provenance: Mapping[str, Any] | None = None,
        prepare: Callable[[str], None] = no_preparation,
        memory: Mapping[str, MemoryMode] | None = None,
        clips: Sequence[Clip] = (),
    ) -> None:
        """Check the weights; runs no network.

        Args:
            request, plan: resolved. The plan's prompts and seed replace the request's.
            start: 1 C N h w, latents of frames to continue, which begin the video; None for a `JoinPlan`.
            store: finished parts by key, see `cache_keys`.
            provenance: of `Cascade.provenance`, which reads every weight, and what else decides the bits
                (`cache_keys.stage_digest`); None to read it.
            prepare: see `window_model.Model`.
            memory: see `Cascade.generate`.
            clips: of a `JoinPlan`, a function for each that reads its latents.

        Raises BundleError if weights are missing.
        """
        self._memory = memory or {}
        self.cascade, self.plan, self.store, self._prepare = cascade, plan, store, prepare
        self.request = replace(request, seed=plan.seed)
        self._width, self._height = require(request.width), require(request.height)
        self.base_frames = TransitionFrames(plan, clips) if isinstance(plan, JoinPlan) else SegmentFrames(plan, start)
        self.layout = self.base_frames.layout
        for stage in (*self._networks, *request.stages[1:]):
            cascade.bundle.require(stage)
        self._provenance = cascade.provenance() if provenance is None else provenance

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """F H W 3 of the finished video, including the frames to continue."""
        scale = SCALE if SUPER_RESOLUTION in self.request.stages else 1
        frames = self._frames(self.request.stages[-1])
        return frames, scale * self._height, scale * self._width, 3

    @property
    def fps(self) -> float:
        """Frame rate of the finished video."""
        return require(self.request.fps) * (RATE if self._is_interpolated else 1)

    @property
    def joins(self) -> list[int]:
        """The joins of the layout in frames of the finished video, which may be interpolated."""
        return [RATE * join - 1 if self._is_interpolated else join for join in self.layout.joins()]

    @torch.inference_mode()
    def make(self) -> Generator[Event, None, None]:
        """Make the missing parts. Events are those of `Cascade.generate`, and a `SegmentDone` for each segment or
        transition.

        `StageDone.latents` is None. Closing the generator cancels after at most one denoising step; finished parts stay
        stored.

        Raises RequestError for impossible requests before anything is computed.
        """
        for prompt in dict.fromkeys(self.base_frames.prompts):
            yield from self.cascade.notices(BASE, prompt)
        yield from self.cascade.notices(BASE, self.plan.negative_prompt, "negative prompt")
        for stage in self.request.stages:
            began = time.monotonic()
            yield StageStarted(stage, self._steps(stage))
            for attempt in self.memory.attempts(stage, changing=stage != BASE):
                yield from attempt.events
                with attempt as mode:
                    if stage == BASE:
                        yield from self.base_frames.make(self._open_network, self.store, self.keys)
                    else:
                        yield from self._windows(stage, mode)
            yield StageDone(stage, time.monotonic() - began, None)
        for attempt in self.memory.attempts(DECODING):
            yield from attempt.events
            with attempt as mode:
                self._check_first_frame(mode)

    @torch.inference_mode()
    def frames(self) -> Iterator[np.ndarray]:
        """The finished video after `make`, uint8 H W 3, one frame at a time. Raises StorageError if a part is gone."""
        for frame in self._decode(self.memory.modes[DECODING]):
            yield vae.to_uint8(frame)[0].numpy()

    def latents(self, stage: str) -> Latents:
        """The latents of a stage, read when needed; of the base stage including the frames to continue."""
        if stage == BASE:
            return self.base_frames.latents(self.store, self.keys)
        return Blended(self._grid(stage), self._stored_windows(stage), self._frames(stage))

    @cached_property
    def memory(self) -> MemoryFallback:
        """The memory modes of its stages. The base stage always runs whole and may only be offloaded."""
        asked, layout = self.request, self.layout
        size = Size(layout.frames, self._height, self._width, asked.stages, self.base_frames.network, self.plan.window)
        samplings = map(self._sampling, self._networks)  # guidance needs more memory
        asked = replace(asked, base=max(samplings, key=lambda sampling: require(sampling.guidance)))
        modes = {**self._memory, BASE: PLAIN}
        return MemoryFallback(self.cascade.bundle, self.cascade.residency, asked, size, modes)

    @cached_property
    def keys(self) -> list[str]:
        return self.base_frames.keys("".join(self._stage_digest(BASE, network) for network in self._networks))

    def window_keys(self, stage: str) -> list[str]:
        frames, grid = self._frames(stage), self._grid(stage)
        stage_digest, seen_at = self._stage_digest(stage, stage), self._keys_behind(stage)
        found = []
        for number, start in enumerate(grid.starts(frames)):
            shown = list(dict.fromkeys(grid.frames(start, frames)))
            seen = dict.fromkeys(key for frame in shown for key in seen_at(frame))
            found.append(cache_keys.window_key(stage_digest, require(self.plan.seed), number, shown[-1], seen))
        return found

    def _keys_behind(self, stage: str) -> Callable[[int], list[str]]:
        """A function from a frame of a later stage to the keys of the parts it is made from."""
        if stage == INTERPOLATION:
            sees, count = self.cascade.bundle.defaults[stage].conditioning, self.layout.frames
            return lambda frame: [self.base_frames.key_at(self.keys, key) for key in keys_of(frame, count, sees)]
        if not self._is_interpolated:
            return lambda frame: [self.base_frames.key_at(self.keys, frame)]
        frames, grid, found = self._frames(INTERPOLATION), self._grid(INTERPOLATION), self.window_keys(INTERPOLATION)
        return lambda frame: [found[number] for number in grid.covering(frame, frames)]

    def _stage_digest(self, stage: str, network: str) -> str:
        bundle = self.cascade.bundle
        components = {*NEEDED[network], *bundle.text_components(stage)}
        mode = PLAIN if stage == BASE else self.memory.modes[stage]
        return cache_keys.stage_digest(
            stage, self.request, bundle.defaults[network], self._provenance, components, mode
        )

    @property
    def _networks(self) -> list[str]:
        """The components that make the base stage."""
        return [self.base_frames.network] + ([BASE] if self.base_frames.opening is not None else [])

    def _sampling(self, network: str) -> Sampling:
        base, opening = self.request.base, self.base_frames.opening
        return base if opening is None or network == self.base_frames.network else replace(base, guidance=opening)

    @property
    def _is_interpolated(self) -> bool:
        return self.request.interpolation is not None

    def _frames(self, stage: str) -> int:
        frames = self.layout.frames
        return interpolated_frames(frames) if stage != BASE and self._is_interpolated else frames

    def _grid(self, stage: str) -> Windows:
        return self.cascade.bundle.defaults[stage].windows

    def _steps(self, stage: str) -> int:
        sampling = self.request.sampling(stage)
        if stage == BASE:
            return self.base_frames.total_steps(require(sampling.steps))
        return windowed.total_steps(self._frames(stage), sampling, self.cascade.bundle.defaults[stage])

    def _decode(self, mode: MemoryMode) -> Generator[Tensor, None, None]:
        self.cascade.residency.use(mode.offload)
        stages = self.request.stages
        yield from self.cascade.decode(decoder(stages), self.latents(stages[-1]), mode.tile)

    def _check_first_frame(self, mode: MemoryMode) -> None:
        """Decode one frame where memory may run out, so that all frames are decoded in one mode."""
        if self.cascade.residency.free() is not None:
            with contextlib.closing(self._decode(mode)) as frames:
                next(frames)

    @contextlib.contextmanager
    def _open_network(self, component: str) -> Iterator[Model]:
        """A network of the base stage on its device."""
        bundle = self.cascade.bundle
        factor = bundle.halvings(VAE)
        with self.cascade.on_device(component) as network:
            picture = torch.zeros(1, 3, 1, self._height, self._width)
            grey = self.cascade.encode(picture) if component == EXTENSION else None
            yield Model(
                network,
                partial(self.cascade.embed, BASE),
                self._sampling(component),
                bundle.defaults[component],
                (network.config.out_channels, self._height // factor, self._width // factor),
                grey,
                self._prepare,
                lambda latents: vae.pictures(self.cascade.decode(VAE, Whole(latents))),
            )

    def _windows(self, stage: str, mode: MemoryMode) -> Iterator[Event]:
        """Run a later stage over the latents of the one before it. Each memory mode has keys of its own."""
        store = self._stored_windows(stage)
        if len(store) == len(self._grid(stage).starts(self._frames(stage))):
            return
        stages = self.request.stages
        before = self.latents(stages[stages.index(stage) - 1])
        shown = before if stage == INTERPOLATION else self.cascade.decoded(before, mode.tile)
        yield from self.cascade.refine(stage, self.request, shown, self._text(stage), store, mode)

    def _stored_windows(self, stage: str) -> WindowParts:
        return WindowParts(self.store, stage, self.window_keys(stage))

    def _text(self, stage: str) -> Callable[[Sequence[int]], Tensor]:
        """A function from a window's frames to their prompts as a later stage reads them."""
        defaults, embed = self.cascade.bundle.defaults[stage], partial(self.cascade.embed, stage)
        guidance = require(self.request.sampling(stage).guidance)
        table = PromptTable(self.layout, embed, guidance, defaults.negative_prompt, defaults.prompt_suffix)
        return lambda shown: table.text([nearest_key(frame) if self._is_interpolated else frame for frame in shown])
