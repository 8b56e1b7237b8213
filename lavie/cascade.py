"""The cascade: turns a request into a video, stage by stage, and tells its progress as events.

    for event in Cascade.from_bundle(folder).generate(request): ...

Stages pass tensors to each other on the device. Nothing writes files or changes global state.
"""

from __future__ import annotations

import math
import platform
import secrets
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from lavie import vae
from lavie.bundle import Bundle
from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Event, Finished, Notice, StageDone, StageStarted, Step
from lavie.key_frames import RATE, interpolated_frames
from lavie.latents import Latents, Whole, whole
from lavie.layers import attention_kernels
from lavie.manifest import NANO, UPSCALER_VAE, VAE
from lavie.memory_fallback import MemoryFallback
from lavie.memory_mode import DECODING, PLAIN, MemoryMode, MemoryPlan
from lavie.memory_plan import Size, plan_memory
from lavie.request import MAX_SIZE, Interpolation, Request, SuperResolution
from lavie.residency import Residency, pick_device, pick_dtype
from lavie.stages.base import sample_base
from lavie.stages.interpolation import interpolate
from lavie.stages.super_resolution import Decoded, super_resolve
from lavie.stages.windowed import KeptWindows, Run, Text, total_steps
from lavie.text import PromptReport, unconditional_first
from lavie.values import MAX_SEED, require
from lavie.video import Video

SIZE = ("width", "height", "frames", "fps")  # a request says these of the base stage's clip, a source of itself


class Cascade:
    """Three stages over one bundle of weights. Networks are loaded when first needed and stay for the next request."""

    def __init__(self, bundle: Bundle, residency: Residency):
        self.bundle, self.residency = bundle, residency

    @classmethod
    def from_bundle(cls, folder: Path | str = NANO, device: str = "auto", offload: str = "auto") -> Cascade:
        """Open a folder of weights without reading them. Raises BundleError or DeviceError."""
        bundle = Bundle(folder)
        picked = pick_device(device)
        return cls(bundle, Residency(bundle, picked, pick_dtype(picked), offload))

    @property
    def loaded(self) -> tuple[str, ...]:
        """The components whose weights are in memory."""
        return self.residency.loaded

    def provenance(self) -> dict[str, Any]:
        """The weights, device, number type, attention, offloading and versions that a result depends on, as JSON."""
        weights = {"bundle": self.bundle.name, "weights": self.bundle.hashes()}
        versions = {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        }
        return {**weights, **self.runs_on(), "versions": versions}

    def runs_on(self) -> dict[str, str | int]:
        """The part of `provenance` that says where the networks run. Reads no weights.

        threads: of a CPU, which splits sums among them: the last bits depend on it.
        """
        device = self.residency.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        return {
            "device": f"{device.type} ({name})",
            "dtype": str(self.residency.dtype).removeprefix("torch."),
            "attention": attention_kernels(),
            "offload": self.residency.offload,
            **({"threads": torch.get_num_threads()} if device.type == "cpu" else {}),
        }

    def resolve(self, request: Request, source: Video | None = None, network: str = BASE) -> Request:
        """The request with every value decided: open values come from the bundle, the seed is drawn.

        Args:
            source: see `generate`. Width, height, frames and fps of the result are None then: the source has its own.
            network: the component that runs the base stage, "base" or "extension"; each has its own sampling.

        Raises RequestError for a size that the networks cannot make, BundleError for a stage whose weights are missing.
        """
        bundle, defaults = self.bundle, self.bundle.defaults
        stages = self._stages(request, source)
        for stage in stages:
            bundle.require(stage)
        decided: dict[str, Any] = {"seed": secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed}
        # A source may exceed the limits that a request of the base stage has.
        for name in SIZE:
            decided[name] = None if source else getattr(request, name) or getattr(bundle, name)
        if BASE in stages:
            decided[BASE] = request.base.filled(defaults[network].sampling)
        if request.interpolation:
            sampling = request.interpolation.sampling.filled(defaults[INTERPOLATION].sampling)
            decided[INTERPOLATION] = Interpolation(sampling)
        if request.super_resolution:
            default, asked = defaults[SUPER_RESOLUTION], request.super_resolution
            level = default.noise_level if asked.noise_level is None else asked.noise_level
            decided[SUPER_RESOLUTION] = SuperResolution(asked.sampling.filled(default.sampling), level)
        resolved = replace(request, **decided)
        self._check_size(source or resolved, stages)
        return resolved

    def on_device(self, component: str) -> AbstractContextManager[Any]:
        """A component of the bundle, ready to run within the block. Raises OutOfMemory, see `Residency.on_device`."""
        return self.residency.on_device(component)

    def read(self, prompt: str) -> PromptReport:
        """How a prompt is understood: tokens, the end that is cut off, unknown words. Runs no network."""
        return self.bundle.text_encoder(BASE).read(prompt)

    def notices(self, stage: str, prompt: str, what: str = "prompt") -> list[Notice]:
        """Warnings about how a stage reads a prompt. Runs no network."""
        return list(map(Notice, self.bundle.text_encoder(stage).read(prompt).notices(what)))

    @torch.inference_mode()
    def generate(
        self,
        request: Request,
        source: Video | None = None,
        done: Mapping[str, Tensor] | None = None,
        memory: Mapping[str, MemoryMode] | None = None,
    ) -> Generator[Event, None, None]:
        """Make a video. The last event is `Finished`; closing the generator cancels after at most one denoising step.

        Args:
            request: `resolve` decides its open values.
            source: a video to refine in place of the base stage: the key frames of interpolation, or the small frames
                of super-resolution.
            done: latents from `StageDone` events of this same request. Work goes on behind the last of these stages,
                to the same frames, bit for bit.
            memory: modes from `MemoryModeChanged` events of this same request, for the same result.
        """
        began = time.monotonic()
        request = self.resolve(request, source)
        stages = self._stages(request, source)
        yield from self.notices(stages[0], request.prompt)
        yield from self.notices(stages[0], request.negative_prompt, "negative prompt")
        latents, left = self._resume(stages, done or {})
        fallback = MemoryFallback(self.bundle, self.residency, request, self._size(request, source), memory)

        for stage in left:
            yield StageStarted(stage, self._steps(stage, request, source))
            started = time.monotonic()
            for attempt in fallback.attempts(stage):
                yield from attempt.events
                with attempt as mode:
                    prompt, negative, frames = self._prompts(stage, request)
                    text = self.embed(stage, prompt, frames)
                    if request.sampling(stage).guidance != 1.0:
                        text = unconditional_first(self.embed(stage, negative, frames), text)
                    if stage == BASE:
                        latents = yield from self._sample_base(request, text, mode)
                    elif stage == INTERPOLATION:
                        latents = yield from self.refine(stage, request, self._keys(latents, source), text, {}, mode)
                    else:
                        latents = yield from self.refine(
                            stage, request, self._small_frames(latents, source, mode), text, {}, mode
                        )
            yield StageDone(stage, time.monotonic() - started, whole(require(latents)).float().cpu())

        for attempt in fallback.attempts(DECODING):
            yield from attempt.events
            with attempt as mode:
                decoded = self.decode(decoder(stages), require(latents), mode.tile)
                made = torch.cat([vae.to_uint8(frame) for frame in decoded]).numpy()
        fps = require(request.fps if source is None else source.fps) * (RATE if INTERPOLATION in stages else 1)
        yield Finished(Video(made, fps), request, time.monotonic() - began)

    def plan(self, request: Request, source: Video | None = None) -> MemoryPlan:
        """The memory mode and predicted peak of each stage of a resolved request now. Runs no network."""
        return plan_memory(self.bundle, self.residency, request, self._size(request, source))

    def refine(
        self, stage: str, request: Request, shown: Latents, text: Text, kept: KeptWindows, mode: MemoryMode = PLAIN
    ) -> Generator[Step, None, Latents]:
        """Run interpolation or super-resolution over a video of any length.

        Args:
            request: resolved.
            shown: latents of the key frames; for super-resolution the small frames (`decoded`).
            text: of each window, see `stages.windowed.Text`.
            kept: windows that are made in this mode, see `stages.windowed.Run`.
        """
        run = Run(text, request.sampling(stage), self.bundle.defaults[stage], require(request.seed), kept, mode)
        with self.on_device(stage) as network:
            if stage == INTERPOLATION:
                return (yield from interpolate(network, shown, run))
            level = require(require(request.super_resolution).noise_level)
            return (yield from super_resolve(network, shown, level, run))

    def embed(self, stage: str, prompt: str, frames: int | None = None) -> Tensor:
        """A prompt as the networks of a stage read it: 1 L C, or 1 F L C (see `text.embeddings`), on the device."""
        with self.on_device(self.bundle.text_components(stage)[0]) as model:
            return self.bundle.text_encoder(stage).encode(model, [prompt], self.residency.device, frames)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames 1 3 F H W in -1 … 1 → latents 1 C F h w on the device, as the base network makes them."""
        with self.on_device(VAE) as autoencoder:
            return vae.encode(autoencoder, frames.to(self.residency.device))

    def decode(self, component: str, latents: Latents, tile: int | None = None) -> Iterator[Tensor]:
        """The frames of latents by an autoencoder, each 1 3 H W in -1 … 1 on the device. tile: see `MemoryMode`."""
        with self.on_device(component) as autoencoder:
            for number in range(latents.frames):
                yield from vae.decode(autoencoder, latents.read([number]).to(self.residency.device), tile)

    def decoded(self, latents: Latents, tile: int | None = None) -> Decoded:
        """The small frames of the base stage's or interpolation's latents, as super-resolution reads them."""
        return Decoded(latents, lambda some: self.decode(VAE, Whole(some), tile))

    def _stages(self, request: Request, source: Video | None) -> list[str]:
        stages = [stage for stage in request.stages if source is None or stage != BASE]
        if not stages:
            raise RequestError("a source video and no stage to run on it: ask for interpolation or super-resolution")
        return stages

    def _check_size(self, sized: Request | Video, stages: list[str]) -> None:
        """Every network halves its input without a remainder; super-resolution alone takes any even size."""
        factors = [self.bundle.downscale_factor(stage) for stage in stages if stage != SUPER_RESOLUTION] or [2]
        factor = math.lcm(*factors)
        for name in ("width", "height"):
            value = getattr(sized, name)
            if value > MAX_SIZE:
                raise RequestError(f"{name} is {value}: give a video of at most {MAX_SIZE}")
            if value % factor:
                near = max(factor, round(value / factor) * factor)
                raise RequestError(f"{name} is {value}: {self.bundle.name} makes multiples of {factor}, such as {near}")

    def _resume(self, stages: list[str], done: Mapping[str, Tensor]) -> tuple[Latents | None, list[str]]:
        """The latents of the last stage that is done, and the stages that are left."""
        reached = max((number for number, stage in enumerate(stages, 1) if stage in done), default=0)
        latents = Whole(done[stages[reached - 1]].to(self.residency.device)) if reached else None
        return latents, stages[reached:]

    def _steps(self, stage: str, request: Request, source: Video | None) -> int:
        sampling = request.sampling(stage)
        if stage == BASE:
            return require(sampling.steps)
        frames = self._size(request, source).frames
        frames = interpolated_frames(frames) if request.interpolation else frames
        return total_steps(frames, sampling, self.bundle.defaults[stage])

    def _size(self, request: Request, source: Video | None) -> Size:
        stages = tuple(self._stages(request, source))
        if source is not None:
            return Size(len(source), source.height, source.width, stages)
        return Size(require(request.frames), require(request.height), require(request.width), stages)

    def _prompts(self, stage: str, request: Request) -> tuple[str, str, int | None]:
        """The prompt and the negative prompt that a stage reads, and the frames over which it reads them."""
        if stage == BASE:
            return request.prompt, request.negative_prompt, request.frames
        defaults = self.bundle.defaults[stage]
        return request.prompt + defaults.prompt_suffix, defaults.negative_prompt, None

    def _sample_base(self, request: Request, text: Tensor, mode: MemoryMode) -> Generator[Step, None, Latents]:
        factor, size = self.bundle.halvings(VAE), self._size(request, None)
        with self.on_device(BASE) as network:
            shape = (network.config.out_channels, size.frames, size.height // factor, size.width // factor)
            defaults, seed = self.bundle.defaults[BASE], require(request.seed)
            return Whole((yield from sample_base(network, text, shape, request.base, defaults, seed, mode)))

    def _keys(self, latents: Latents | None, source: Video | None) -> Latents:
        """Interpolation's key frames."""
        return latents or Whole(self.encode(self._pixels(require(source))))

    def _small_frames(self, latents: Latents | None, source: Video | None, mode: MemoryMode) -> Latents:
        """Super-resolution's small frames, 1 3 F H W in -1 … 1."""
        return self.decoded(latents, mode.tile) if latents else Whole(self._pixels(require(source)))

    def _pixels(self, video: Video) -> Tensor:
        """1 3 F H W in -1 … 1 on the device."""
        frames = torch.from_numpy(video.frames).to(self.residency.device)
        return vae.from_uint8(frames).transpose(0, 1)[None].to(self.residency.dtype)


def decoder(stages: Collection[str]) -> str:
    """The autoencoder that decodes the latents of the last of `stages`."""
    return UPSCALER_VAE if SUPER_RESOLUTION in stages else VAE
