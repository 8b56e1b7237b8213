"""A long video through all stages: its footage, then windows of interpolation and super-resolution, then its frames.

The footage is the base stage: segments, or clips with bridges between them. Everything that is made is handed to `kept`
before it is told of, and nothing that is there is made again. So work goes on behind whatever was kept, to the same
bits; and what is in memory does not grow with the length.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extensions.long_video import cache_keys
from extensions.long_video.base_frames import BaseFrames, Kept, Part, WindowParts
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies.extend import SegmentDone
from extensions.long_video.strategies.segments import Segments
from extensions.long_video.strategies.transitions import Bridges, Clip
from extensions.long_video.strategies.window_model import Model, no_preparation
from lavie import vae
from lavie.bundle import EXTENSION, NEEDED, VAE
from lavie.cascade import Cascade, decoder
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, MemoryModeChanged, Notice, StageDone, StageStarted, Step
from lavie.key_frames import RATE, interpolated_frames, keys_of, nearest_key
from lavie.ladder import MemoryFallback
from lavie.latents import Blended, Latents, Whole
from lavie.planning import Size
from lavie.plans import DECODING, PLAIN, MemoryMode
from lavie.request import Request, Sampling
from lavie.stages import windowed
from lavie.stages.super_resolution import SCALE
from lavie.windows import Windows

__all__ = ["Event", "LongVideoPipeline", "Part", "SegmentDone"]

Event = Notice | MemoryModeChanged | StageStarted | Step | SegmentDone | StageDone


class LongVideoPipeline:
    """A long video in the making."""

    def __init__(
        self,
        cascade: Cascade,
        request: Request,
        plan: SegmentPlan | JoinPlan,
        start: Tensor | Sequence[Clip] | None,
        kept: Kept,
        provenance: Mapping[str, Any] | None = None,
        prepare: Callable[[str], None] = no_preparation,
        memory: Mapping[str, MemoryMode] | None = None,
    ):
        """Raises BundleError where weights are missing; runs no network.

        Args:
            request, plan: resolved. Of the request's prompt and seed the plan has its own.
            start: 1 C N h w, latents of frames to continue; the video begins with them. Of a reel, what reads the
                latents of each of its clips: they are read when they are needed, and again.
            provenance: what `Cascade.provenance` says, where it is known: it reads every weight; and what else decides
                the bits (`keys.made_with`).
            prepare: see `model.Model`.
            memory: see `Cascade.generate`.
        """
        self._memory = memory or {}
        self.cascade, self.plan, self.kept, self._prepare = cascade, plan, kept, prepare
        self.request = replace(request, seed=plan.seed)
        self.footage: BaseFrames = Bridges(plan, start) if isinstance(plan, JoinPlan) else Segments(plan, start)
        self.layout = self.footage.layout
        for stage in (*self._networks, *request.stages[1:]):
            cascade.bundle.require(stage)
        self._provenance = cascade.provenance() if provenance is None else provenance

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """F H W 3 of the finished video, the frames that were there already included."""
        scale = SCALE if SUPER_RESOLUTION in self.request.stages else 1
        frames = self._frames(self.request.stages[-1])
        return frames, scale * self.request.height, scale * self.request.width, 3

    @property
    def fps(self) -> float:
        """Of the finished video."""
        return self.request.fps * (RATE if self._interpolated else 1)

    @property
    def joins(self) -> list[int]:
        """The first frame of each segment that continues something, in frames of the finished video. Of a reel: of each
        bridge, and of the clip behind it.

        Of an interpolated one: the first that is made beside a key frame of the segment.
        """
        return [RATE * join - 1 if self._interpolated else join for join in self.layout.joins()]

    @torch.inference_mode()
    def make(self) -> Iterator[Event]:
        """Make what is not kept yet. Stages tell as in `Cascade.generate`, each segment or bridge by a `SegmentDone`.

        `StageDone.latents` is None. Closing the generator cancels: at most one denoising step is finished after that,
        and what was told of is kept.

        Raises RequestError for what cannot be made, before anything is computed.
        """
        for prompt in dict.fromkeys(self.footage.prompts):
            yield from self.cascade.notices(BASE, prompt)
        yield from self.cascade.notices(BASE, self.plan.negative_prompt, "negative prompt")
        for stage in self.request.stages:
            began = time.monotonic()
            yield StageStarted(stage, self._steps(stage))
            work = self._base if stage == BASE else partial(self._windows, stage)
            yield from self.ladder.run(stage, work, changing=stage != BASE)
            yield StageDone(stage, time.monotonic() - began, None)
        yield from self.ladder.run(DECODING, self._first_frame)

    @torch.inference_mode()
    def frames(self) -> Iterator[np.ndarray]:
        """The finished video after `make`, uint8 H W 3, one frame at a time. Raises StorageError for a part that is
        gone."""
        for frame in self._decoded(self.ladder.rungs[DECODING]):
            yield vae.to_uint8(frame)[0].numpy()

    def latents(self, stage: str) -> Latents:
        """What a stage has made, read where it is needed; of the base stage with the frames that were there."""
        if stage == BASE:
            return self.footage.latents(self.kept, self.keys)
        return Blended(self._grid(stage), self._kept_windows(stage), self._frames(stage))

    @cached_property
    def ladder(self) -> MemoryFallback:
        """What its stages run on. The base stage runs everything at once: it may only be offloaded."""
        asked, layout = self.request, self.layout
        begun = Size(layout.frames, asked.height, asked.width, asked.stages, self.footage.network, self.plan.window)
        samplings = map(self._sampling, self._networks)  # a network that is guided needs more
        asked = replace(asked, base=max(samplings, key=lambda sampling: sampling.guidance))
        return self.cascade.ladder(asked, begun, {**self._memory, BASE: PLAIN})

    @cached_property
    def keys(self) -> list[str]:
        """Of the segments or bridges."""
        return self.footage.keys("".join(self._made_with(BASE, network) for network in self._networks))

    def window_keys(self, stage: str) -> list[str]:
        """Of the windows of a later stage."""
        frames, grid = self._frames(stage), self._grid(stage)
        made_with, seen_at = self._made_with(stage, stage), self._keys_behind(stage)
        found = []
        for number, start in enumerate(grid.starts(frames)):
            shown = list(dict.fromkeys(grid.frames(start, frames)))
            seen = dict.fromkeys(key for frame in shown for key in seen_at(frame))
            found.append(cache_keys.window_key(made_with, self.plan.seed, number, shown[-1], seen))
        return found

    def _keys_behind(self, stage: str) -> Callable[[int], list[str]]:
        """A frame of a later stage → the keys of the parts that it is made from."""
        if stage == INTERPOLATION:
            sees, count = self.cascade.bundle.defaults[stage].conditioning, self.layout.frames
            return lambda frame: [self.footage.key_at(self.keys, key) for key in keys_of(frame, count, sees)]
        if not self._interpolated:
            return lambda frame: [self.footage.key_at(self.keys, frame)]
        frames, grid, found = self._frames(INTERPOLATION), self._grid(INTERPOLATION), self.window_keys(INTERPOLATION)
        return lambda frame: [found[number] for number in grid.covering(frame, frames)]

    def _made_with(self, stage: str, network: str) -> str:
        bundle = self.cascade.bundle
        components = {*NEEDED[network], *bundle.text_components(stage)}
        rung = PLAIN if stage == BASE else self.ladder.rungs[stage]
        return cache_keys.made_with(stage, self.request, bundle.defaults[network], self._provenance, components, rung)

    @property
    def _networks(self) -> list[str]:
        """Components that do the base stage."""
        return [self.footage.network] + ([self.footage.opened_by] if self.footage.opened_by else [])

    def _sampling(self, network: str) -> Sampling:
        """Of a network of the base stage."""
        base = self.request.base
        return replace(base, guidance=self.plan.opening) if network == self.footage.opened_by else base

    @property
    def _interpolated(self) -> bool:
        return self.request.interpolation is not None

    def _frames(self, stage: str) -> int:
        """How many a stage makes."""
        frames = self.layout.frames
        return interpolated_frames(frames) if stage != BASE and self._interpolated else frames

    def _base_frame(self, frame: int) -> int:
        """The frame of the base stage that a later stage's frame is conditioned on, through all stages."""
        return nearest_key(frame) if self._interpolated else frame

    def _grid(self, stage: str) -> Windows:
        return self.cascade.bundle.defaults[stage].windows

    def _steps(self, stage: str) -> int:
        sampling = self.request.sampling(stage)
        if stage == BASE:
            return self.footage.total_steps(sampling.steps)
        return windowed.total_steps(self._frames(stage), sampling, self.cascade.bundle.defaults[stage])

    def _decoded(self, rung: MemoryMode) -> Iterator[Tensor]:
        self.cascade.residency.use(rung.offload)
        return self.cascade.decode(decoder(self.request.stages), self.latents(self.request.stages[-1]), rung.tile)

    def _first_frame(self, rung: MemoryMode) -> Iterator[Event]:
        """Where memory may run out, find out before the first frame is handed over: all are of one rung."""
        if self.cascade.residency.free() is not None:
            with contextlib.closing(self._decoded(rung)) as frames:
                next(frames)
        yield from ()

    def _base(self, rung: MemoryMode) -> Iterator[Event]:
        return self.footage.make(self._opened, self.kept, self.keys)

    @contextlib.contextmanager
    def _opened(self, component: str) -> Iterator[Model]:
        """A network of the base stage on its device."""
        request, bundle = self.request, self.cascade.bundle
        factor = bundle.halvings(VAE)
        with self.cascade.residency.on_device(component) as network:
            picture = torch.zeros(1, 3, 1, request.height, request.width)
            grey = self.cascade.encode(picture) if component == EXTENSION else None
            yield Model(
                network,
                partial(self.cascade.embed, BASE),
                self._sampling(component),
                bundle.defaults[component],
                (network.config.out_channels, request.height // factor, request.width // factor),
                grey,
                self._prepare,
                lambda latents: vae.pictures(self.cascade.decode(VAE, Whole(latents))),
            )

    def _windows(self, stage: str, rung: MemoryMode) -> Iterator[Event]:
        """A later stage over the latents of the one before it. On another rung its windows have other keys."""
        kept = self._kept_windows(stage)
        if len(kept) == len(self._grid(stage).starts(self._frames(stage))):
            return
        stages = self.request.stages
        shown = self.latents(stages[stages.index(stage) - 1])
        shown = shown if stage == INTERPOLATION else self.cascade.decoded(shown, rung.tile)
        yield from self.cascade.refine(stage, self.request, shown, self._text(stage), kept, rung)

    def _kept_windows(self, stage: str) -> WindowParts:
        return WindowParts(self.kept, stage, self.window_keys(stage))

    def _text(self, stage: str) -> Callable[[Sequence[int]], Tensor]:
        """The prompts of a window's frames as a later stage reads them."""
        defaults, embed = self.cascade.bundle.defaults[stage], partial(self.cascade.embed, stage)
        guidance = self.request.sampling(stage).guidance
        table = PromptTable(self.layout, embed, guidance, defaults.negative_prompt, defaults.prompt_suffix)
        return lambda shown: table.text(list(map(self._base_frame, shown)))
