"""The cascade: holds the stages, turns a request into a video, and says what happens meanwhile.

`Cascade.from_bundle(folder).generate(request)` is the whole of it. Stages hand tensors on, on the device; no file is
written and no global state is touched.
"""

from __future__ import annotations

import math
import platform
import secrets
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor

from lavie import vae
from lavie.bundle import UPSCALER_VAE, VAE, Bundle, StageDefaults
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
from lavie.layers import attention_kernels
from lavie.request import MAX_SEED, MAX_SIZE, Interpolation, Request, Sampling, SuperResolution
from lavie.residency import Residency, pick_device, pick_dtype
from lavie.stages.base import sample_base
from lavie.stages.interpolation import RATE, interpolate, interpolated_frames
from lavie.stages.super_resolution import super_resolve
from lavie.stages.windowed import total_steps
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
        return {
            "bundle": self.bundle.name,
            "weights": self.bundle.hashes(),
            **self.runs_on(),
            "versions": {
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                "python": platform.python_version(),
            },
        }

    def runs_on(self) -> dict[str, str]:
        """That part of `provenance` which says where the networks run; no weights are read for it."""
        device = self.residency.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        return {
            "device": f"{device.type} ({name})",
            "dtype": str(self.residency.dtype).removeprefix("torch."),
            "attention": attention_kernels(),
            "offload": self.residency.offload,
        }

    def resolve(self, request: Request, source: Video | None = None) -> Request:
        """The request with every value decided: what it leaves open comes from the bundle, the seed is drawn.

        With a source its width, height, frames and fps are None: they are those of the source.

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
            resolved = replace(resolved, base=_filled(request.base, bundle.defaults[BASE]))
        if INTERPOLATION in stages:
            sampling = _filled(request.interpolation.sampling, bundle.defaults[INTERPOLATION])
            resolved = replace(resolved, interpolation=Interpolation(sampling))
        if SUPER_RESOLUTION in stages:
            defaults, asked = bundle.defaults[SUPER_RESOLUTION], request.super_resolution
            level = defaults.noise_level if asked.noise_level is None else asked.noise_level
            resolved = replace(resolved, super_resolution=SuperResolution(_filled(asked.sampling, defaults), level))
        self._check_size(resolved if source is None else source, stages)
        return resolved

    def read(self, prompt: str) -> PromptReport:
        """How a prompt is understood: tokens, what is cut off, unknown words. Runs no network."""
        return self.bundle.text_encoder(BASE).read(prompt)

    @torch.inference_mode()
    def generate(
        self, request: Request, source: Video | None = None, done: Mapping[str, Tensor] | None = None
    ) -> Iterator[Event]:
        """Make a video, telling what happens; the last event is `Finished`.

        Args:
            request: what to make; whatever it leaves open is decided by `resolve`.
            source: a video to refine instead of making one: its frames are the key frames of interpolation, or the
                small frames of super-resolution. The base stage does not run then.
            done: latents that `StageDone` gave for this same request before. The work goes on behind the last of these
                stages and ends with the same frames, bit for bit.

        Closing the generator cancels: at most one denoising step is finished after that.
        """
        began = time.monotonic()
        request = self.resolve(request, source)
        stages = self._stages(request, source)
        yield from map(Notice, self._notices(request, stages))
        fps = request.fps if source is None else source.fps
        latents, left = self._where_it_stands(stages, done or {})
        for stage in left:
            work = {BASE: self._base, INTERPOLATION: self._interpolate, SUPER_RESOLUTION: self._super_resolve}[stage]
            latents = yield from self._make(stage, work(request, latents, source), self._steps(stage, request, source))
        made = self._decode(UPSCALER_VAE if SUPER_RESOLUTION in stages else VAE, latents, as_uint8=True)
        fps = fps * RATE if INTERPOLATION in stages else fps
        yield Finished(Video(made.numpy(), fps), request, time.monotonic() - began)

    def _where_it_stands(self, stages: list[str], done: Mapping[str, Tensor]) -> tuple[Tensor | None, list[str]]:
        """The latents to go on from, and the stages that are left."""
        reached = max((number for number, stage in enumerate(stages, 1) if stage in done), default=0)
        latents = done[stages[reached - 1]].to(self.residency.device) if reached else None
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

    def _notices(self, request: Request, stages: list[str]) -> list[str]:
        encoder = self.bundle.text_encoder(stages[0])
        said = encoder.read(request.prompt).notices()
        return said + encoder.read(request.negative_prompt).notices("negative prompt")

    def _make(self, stage: str, work: Generator[Step, None, Tensor], steps: int) -> Generator[Event, None, Tensor]:
        """Run a stage between its first and last event."""
        yield StageStarted(stage, steps)
        began = time.monotonic()
        latents = yield from work
        yield StageDone(stage, time.monotonic() - began, latents.float().cpu())
        return latents

    def _steps(self, stage: str, request: Request, source: Video | None) -> int:
        sampling = request.sampling(stage)
        if stage == BASE:
            return sampling.steps
        frames = request.frames if source is None else len(source)
        frames = interpolated_frames(frames) if request.interpolation is not None else frames
        return total_steps(frames, sampling, self.bundle.defaults[stage])

    def _base(self, request: Request, *_) -> Generator[Step, None, Tensor]:
        text = self._text(BASE, request.prompt, request.negative_prompt, request.base)
        with self.residency.on_device(BASE) as network:
            channels = network.config.out_channels
            factor = self.bundle.halvings(VAE)
            shape = (channels, request.frames, request.height // factor, request.width // factor)
            return (
                yield from sample_base(network, text, shape, request.base, self.bundle.defaults[BASE], request.seed)
            )

    def _interpolate(
        self, request: Request, keys: Tensor | None, source: Video | None
    ) -> Generator[Step, None, Tensor]:
        defaults, sampling = self.bundle.defaults[INTERPOLATION], request.interpolation.sampling
        keys = self._encode(source) if keys is None else keys
        prompt = request.prompt + defaults.prompt_suffix
        text = self._text(INTERPOLATION, prompt, defaults.negative_prompt, sampling)
        with self.residency.on_device(INTERPOLATION) as network:
            return (yield from interpolate(network, text, keys, sampling, defaults, request.seed))

    def _super_resolve(
        self, request: Request, latents: Tensor | None, source: Video | None
    ) -> Generator[Step, None, Tensor]:
        defaults, asked = self.bundle.defaults[SUPER_RESOLUTION], request.super_resolution
        frames = self._pixels(source) if latents is None else self._decode(VAE, latents)
        prompt = request.prompt + defaults.prompt_suffix
        text = self._text(SUPER_RESOLUTION, prompt, defaults.negative_prompt, asked.sampling)
        with self.residency.on_device(SUPER_RESOLUTION) as network:
            return (
                yield from super_resolve(
                    network, text, frames, asked.sampling, asked.noise_level, defaults, request.seed
                )
            )

    def _text(self, stage: str, prompt: str, negative: str, sampling: Sampling) -> Tensor:
        """Embeddings for a stage: both halves of guidance, or the prompt alone where guidance is off."""
        encoder = self.bundle.text_encoder(stage)
        with self.residency.on_device(self.bundle.text_components(stage)[0]) as model:
            conditional = encoder.encode(model, [prompt], self.residency.device)
            if sampling.guidance == 1.0:
                return conditional
            return unconditional_first(encoder.encode(model, [negative], self.residency.device), conditional)

    def _pixels(self, video: Video) -> Tensor:
        """uint8 F H W 3 → 1 3 F H W in -1 … 1 on the device."""
        frames = torch.from_numpy(video.frames).to(self.residency.device)
        return vae.from_uint8(frames).transpose(0, 1)[None].to(self.residency.dtype)

    def _encode(self, video: Video) -> Tensor:
        with self.residency.on_device(VAE) as autoencoder:
            return vae.encode(autoencoder, self._pixels(video))

    def _decode(self, component: str, latents: Tensor, as_uint8: bool = False) -> Tensor:
        """Latents → 1 3 F H W in -1 … 1 on the device, or uint8 F H W 3 on the CPU; one frame at a time."""
        with self.residency.on_device(component) as autoencoder:
            if as_uint8:
                return torch.cat([vae.to_uint8(piece) for piece in vae.decode(autoencoder, latents)])
            return torch.cat(list(vae.decode(autoencoder, latents))).transpose(0, 1)[None]


def _filled(sampling: Sampling, defaults: StageDefaults) -> Sampling:
    """What the request says, and where it is silent what the bundle says."""
    own = defaults.sampling
    return replace(
        sampling,
        sampler=sampling.sampler or own.sampler,
        steps=sampling.steps or own.steps,
        guidance=own.guidance if sampling.guidance is None else sampling.guidance,
    )
