"""The cascade: holds the stages, turns a request into a video, and says what happens meanwhile.

`Cascade.from_bundle(folder).generate(request)` is the whole of it. Stages hand tensors on, on the device; no file is
written and no global state is touched.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lavie import vae
from lavie.bundle import UPSCALER_VAE, VAE, Bundle
from lavie.errors import RequestError
from lavie.events import (
    BASE,
    INTERPOLATION,
    SUPER_RESOLUTION,
    Event,
    Finished,
    Notice,
    StageDone,
    StageStarted,
    Step,
)
from lavie.key_frames import RATE, interpolated_frames
from lavie.ladder import MemoryFallback, ladder_for
from lavie.latents import Decoded, Latents, Whole, whole
from lavie.planning import Size, plan_of
from lavie.plans import DECODING, PLAIN, MemoryMode, MemoryPlan
from lavie.provenance import runs_on, versions
from lavie.request import MAX_SEED, MAX_SIZE, Interpolation, Request, Sampling, SuperResolution
from lavie.residency import Residency, pick_device, pick_dtype
from lavie.stages.base import sample_base
from lavie.stages.interpolation import interpolate
from lavie.stages.super_resolution import super_resolve
from lavie.stages.windowed import KeptWindows, Text, total_steps
from lavie.text import PromptReport, unconditional_first
from lavie.video import Video

SIZE = ("width", "height", "frames", "fps")  # what a request says of the base stage's clip, and a source of itself


class Cascade:
    """Three stages over one bundle of weights. Networks are loaded when first needed and stay for the next request."""

    def __init__(self, bundle: Bundle, residency: Residency):
        self.bundle, self.residency = bundle, residency

    @classmethod
    def from_bundle(cls, folder: Path | str, device: str = "auto", offload: str = "auto") -> Cascade:
        """Open a folder of weights. Raises BundleError or DeviceError; reads no weights yet."""
        bundle = Bundle(folder)
        picked = pick_device(device)
        return cls(bundle, Residency(bundle, picked, pick_dtype(picked), offload))

    @property
    def loaded(self) -> tuple[str, ...]:
        """The components whose weights are in memory."""
        return self.residency.loaded

    def provenance(self) -> dict:
        """What a result depends on besides the request, as plain values: weights, device, number type, attention,
        where the weights were kept (`auto` decided), versions."""
        weights = {"bundle": self.bundle.name, "weights": self.bundle.hashes()}
        return {**weights, **self.runs_on(), "versions": versions()}

    def runs_on(self) -> dict[str, str | int]:
        """That part of `provenance` which says where the networks run; no weights are read for it."""
        return runs_on(self.residency)

    def resolve(self, request: Request, source: Video | None = None, network: str = BASE) -> Request:
        """The request with every value decided: what it leaves open comes from the bundle, the seed is drawn.

        With a source its width, height, frames and fps are None: they are those of the source. network: which one does
        the base stage, "base" or "extension"; each has its own sampling.

        Raises RequestError for a size that the networks cannot make, BundleError for a stage whose weights are missing.
        """
        bundle = self.bundle
        stages = self._stages(request, source)
        for stage in stages:
            bundle.require(stage)
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        # A source is of any length, size and rate, whatever limits a request of the base stage has.
        size = {name: getattr(request, name) or getattr(bundle, name) if source is None else None for name in SIZE}
        resolved = replace(request, seed=seed, **size)
        if BASE in stages:
            resolved = replace(resolved, base=request.base.filled(bundle.defaults[network].sampling))
        if INTERPOLATION in stages:
            sampling = request.interpolation.sampling.filled(bundle.defaults[INTERPOLATION].sampling)
            resolved = replace(resolved, interpolation=Interpolation(sampling))
        if SUPER_RESOLUTION in stages:
            defaults, asked = bundle.defaults[SUPER_RESOLUTION], request.super_resolution
            level = defaults.noise_level if asked.noise_level is None else asked.noise_level
            sampling = asked.sampling.filled(defaults.sampling)
            resolved = replace(resolved, super_resolution=SuperResolution(sampling, level))
        self._check_size(resolved if source is None else source, stages)
        return resolved

    def read(self, prompt: str) -> PromptReport:
        """How a prompt is understood: tokens, what is cut off, unknown words. Runs no network."""
        return self.bundle.text_encoder(BASE).read(prompt)

    @torch.inference_mode()
    def generate(
        self,
        request: Request,
        source: Video | None = None,
        done: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, MemoryMode] | None = None,
    ) -> Iterator[Event]:
        """Make a video, telling what happens; the last event is `Finished`.

        Args:
            request: what to make; whatever it leaves open is decided by `resolve`.
            source: a video to refine instead of making one: its frames are the key frames of interpolation, or the
                small frames of super-resolution. The base stage does not run then.
            done: latents that `StageDone` gave for this same request before. The work goes on behind the last of these
                stages and ends with the same frames, bit for bit.
            memory: the rungs that `MemoryModeChanged` told of when this request ran before, for the same result again; the rung of
                a stage that is not named is chosen by the memory that is free.

        Closing the generator cancels: at most one denoising step is finished after that.
        """
        began = time.monotonic()
        request = self.resolve(request, source)
        stages = self._stages(request, source)
        yield from self.notices(stages[0], request.prompt)
        yield from self.notices(stages[0], request.negative_prompt, "negative prompt")
        fps = request.fps if source is None else source.fps
        latents, left = self._where_it_stands(stages, done or {})
        ladder = self.ladder(request, self._size(request, source, stages), memory)
        for stage in left:
            work = partial(self._base, request)
            if stage != BASE:
                work = partial(self._refine, stage, request, latents, source)
            latents = yield from self._make(stage, ladder, work, self._steps(stage, request, source))
        made = yield from ladder.run(DECODING, partial(self._frames, decoder(stages), latents))
        fps = fps * RATE if INTERPOLATION in stages else fps
        yield Finished(Video(made, fps), request, time.monotonic() - began)

    def plan(self, request: Request, source: Video | None = None) -> MemoryPlan:
        """Where each stage of a resolved request would run now, and what that would need. Runs no network."""
        return plan_of(self.bundle, self.residency, request, self._size(request, source, self._stages(request, source)))

    def ladder(self, request: Request, size: Size, memory: Mapping[str, MemoryMode] | None = None) -> MemoryFallback:
        """What runs the stages of a resolved request on their rungs. memory: see `generate`."""
        return ladder_for(self.bundle, self.residency, request, size, memory)

    def refine(
        self, stage: str, request: Request, shown: Latents, text: Text, kept: KeptWindows, rung: MemoryMode = PLAIN
    ) -> Generator[Step, None, Latents]:
        """Run interpolation or super-resolution over a video of any length.

        Args:
            request: resolved.
            shown: latents of the key frames; for super-resolution the small frames (`decoded`).
            text: for each window, see `stages.windowed.Text`.
            kept: windows that are made on this rung, see `stages.windowed.denoise_windows`.
        """
        asked, defaults = getattr(request, stage), self.bundle.defaults[stage]
        with self.residency.on_device(stage) as network:
            if stage == INTERPOLATION:
                work = interpolate(network, text, shown, asked.sampling, defaults, request.seed, kept, rung)
            else:
                level = asked.noise_level
                arguments = (asked.sampling, level, defaults, request.seed, kept, rung)
                work = super_resolve(network, text, shown, *arguments)
            return (yield from work)

    def embed(self, stage: str, prompt: str, frames: int | None = None) -> Tensor:
        """A prompt as the networks of a stage read it: 1 L C, or 1 F L C (see `text.embeddings`), on the device."""
        with self.residency.on_device(self.bundle.text_components(stage)[0]) as model:
            return self.bundle.text_encoder(stage).encode(model, [prompt], self.residency.device, frames)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames 1 3 F H W in -1 … 1 → latents 1 C F h w on the device, as the base network makes them."""
        with self.residency.on_device(VAE) as autoencoder:
            return vae.encode(autoencoder, frames.to(self.residency.device))

    def decode(self, component: str, latents: Latents, tile: int | None = None) -> Iterator[Tensor]:
        """The frames of latents by one of the two autoencoders, each 1 3 H W in -1 … 1 on the device. tile: see
        `MemoryMode`."""
        with self.residency.on_device(component) as autoencoder:
            for number in range(latents.frames):
                yield from vae.decode(autoencoder, latents.read([number]).to(self.residency.device), tile)

    def decoded(self, latents: Latents, tile: int | None = None) -> Decoded:
        """The small frames that latents of one of the other stages stand for, as super-resolution reads them."""
        return Decoded(latents, lambda some: self.decode(VAE, Whole(some), tile))

    def notices(self, stage: str, prompt: str, what: str = "prompt") -> list[Notice]:
        """What a person should know of how a prompt is read. Runs no network."""
        return list(map(Notice, self.bundle.text_encoder(stage).read(prompt).notices(what)))

    def _where_it_stands(self, stages: list[str], done: Mapping[str, Tensor]) -> tuple[Latents | None, list[str]]:
        """The latents to go on from, and the stages that are left."""
        reached = max((number for number, stage in enumerate(stages, 1) if stage in done), default=0)
        latents = Whole(done[stages[reached - 1]].to(self.residency.device)) if reached else None
        return latents, stages[reached:]

    def _stages(self, request: Request, source: Video | None) -> list[str]:
        stages = [stage for stage in request.stages if source is None or stage != BASE]
        if not stages:
            raise RequestError("a source video and no stage to run on it: ask for interpolation or super-resolution")
        return stages

    def _check_size(self, sized: Request | Video, stages: list[str]) -> None:
        """Sizes must survive every halving of every network; a lone super-resolution takes any even size."""
        factors = [self.bundle.downscale_factor(stage) for stage in stages if stage != SUPER_RESOLUTION] or [2]
        factor = math.lcm(*factors)
        for name in ("width", "height"):
            value = getattr(sized, name)
            if value > MAX_SIZE:
                raise RequestError(f"{name} is {value}: give a video of at most {MAX_SIZE}")
            if value % factor:
                near = max(factor, round(value / factor) * factor)
                raise RequestError(f"{name} is {value}: {self.bundle.name} makes multiples of {factor}, such as {near}")

    def _make(
        self,
        stage: str,
        ladder: MemoryFallback,
        work: Callable[[MemoryMode], Generator[Step, None, Latents]],
        steps: int,
    ) -> Generator[Event, None, Latents]:
        """Run a stage between its first and last event."""
        yield StageStarted(stage, steps)
        began = time.monotonic()
        latents = yield from ladder.run(stage, work)
        yield StageDone(stage, time.monotonic() - began, whole(latents).float().cpu())
        return latents

    def _steps(self, stage: str, request: Request, source: Video | None) -> int:
        sampling = request.sampling(stage)
        if stage == BASE:
            return sampling.steps
        frames = request.frames if source is None else len(source)
        frames = interpolated_frames(frames) if request.interpolation is not None else frames
        return total_steps(frames, sampling, self.bundle.defaults[stage])

    def _base(self, request: Request, rung: MemoryMode) -> Generator[Step, None, Latents]:
        text = self._text(BASE, request.prompt, request.negative_prompt, request.base, request.frames)
        with self.residency.on_device(BASE) as network:
            channels = network.config.out_channels
            factor = self.bundle.halvings(VAE)
            shape = (channels, request.frames, request.height // factor, request.width // factor)
            defaults = self.bundle.defaults[BASE]
            made = yield from sample_base(network, text, shape, request.base, defaults, request.seed, rung)
            return Whole(made)

    def _refine(
        self, stage: str, request: Request, latents: Latents | None, source: Video | None, rung: MemoryMode
    ) -> Generator[Step, None, Latents]:
        """A later stage over a clip: all its windows stay on the device."""
        if latents is not None:
            shown = latents if stage == INTERPOLATION else self.decoded(latents, rung.tile)
        else:
            pixels = self._pixels(source)
            shown = Whole(self.encode(pixels) if stage == INTERPOLATION else pixels)
        defaults = self.bundle.defaults[stage]
        prompt = request.prompt + defaults.prompt_suffix
        text = self._text(stage, prompt, defaults.negative_prompt, request.sampling(stage))
        return (yield from self.refine(stage, request, shown, text, {}, rung))

    def _frames(self, component: str, latents: Latents, rung: MemoryMode) -> Generator[Event, None, np.ndarray]:
        """All frames of a clip, uint8 F H W 3. There is nothing to tell meanwhile."""
        yield from ()
        return vae.pictures(self.decode(component, latents, rung.tile))

    def _size(self, request: Request, source: Video | None, stages: list[str]) -> Size:
        if source is None:
            return Size(request.frames, request.height, request.width, tuple(stages))
        return Size(len(source), source.height, source.width, tuple(stages))

    def _text(self, stage: str, prompt: str, negative: str, sampling: Sampling, frames: int | None = None) -> Tensor:
        """Embeddings for a stage: both halves of guidance, or the prompt alone where guidance is off."""
        conditional = self.embed(stage, prompt, frames)
        if sampling.guidance == 1.0:
            return conditional
        return unconditional_first(self.embed(stage, negative, frames), conditional)

    def _pixels(self, video: Video) -> Tensor:
        """uint8 F H W 3 → 1 3 F H W in -1 … 1 on the device."""
        frames = torch.from_numpy(video.frames).to(self.residency.device)
        return vae.from_uint8(frames).transpose(0, 1)[None].to(self.residency.dtype)


def decoder(stages: Collection[str]) -> str:
    """The autoencoder that turns the latents of the last of `stages` into frames."""
    return UPSCALER_VAE if SUPER_RESOLUTION in stages else VAE
