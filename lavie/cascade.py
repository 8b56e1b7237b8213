"""The cascade: holds the stages, turns a request into a video, and says what happens meanwhile.

`Cascade.from_bundle(folder).generate(request)` is the whole of it. Stages hand tensors on, on the device; no file is
written and no global state is touched.
"""

from __future__ import annotations

import math
import platform
import secrets
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
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
from lavie.latents import Decoded, Latents, Whole, whole
from lavie.layers import attention_kernels
from lavie.request import MAX_SEED, MAX_SIZE, Interpolation, Request, Sampling, SuperResolution
from lavie.residency import Residency, pick_device, pick_dtype
from lavie.stages.base import sample_base
from lavie.stages.interpolation import RATE, interpolate, interpolated_frames
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

    def runs_on(self) -> dict[str, str | int]:
        """That part of `provenance` which says where the networks run; no weights are read for it.

        threads, on a CPU: sums are split among them, and how they are split decides their last bits.
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
            resolved = replace(resolved, base=_filled(request.base, bundle.defaults[network]))
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
        yield from self.notices(stages[0], request.prompt)
        yield from self.notices(stages[0], request.negative_prompt, "negative prompt")
        fps = request.fps if source is None else source.fps
        latents, left = self._where_it_stands(stages, done or {})
        for stage in left:
            work = self._base(request) if stage == BASE else self._refine(stage, request, latents, source)
            latents = yield from self._make(stage, work, self._steps(stage, request, source))
        made = np.concatenate([vae.to_uint8(frame).numpy() for frame in self.decode(decoder(stages), latents)])
        fps = fps * RATE if INTERPOLATION in stages else fps
        yield Finished(Video(made, fps), request, time.monotonic() - began)

    def refine(
        self, stage: str, request: Request, shown: Latents, text: Text, kept: KeptWindows
    ) -> Generator[Step, None, Latents]:
        """Run interpolation or super-resolution over a video of any length.

        Args:
            request: resolved.
            shown: latents of the key frames; for super-resolution the small frames (`decoded`).
            text: for each window, see `stages.windowed.Text`.
            kept: windows that are made, see `stages.windowed.denoise_windows`.
        """
        asked, defaults = getattr(request, stage), self.bundle.defaults[stage]
        with self.residency.on_device(stage) as network:
            if stage == INTERPOLATION:
                work = interpolate(network, text, shown, asked.sampling, defaults, request.seed, kept)
            else:
                level = asked.noise_level
                work = super_resolve(network, text, shown, asked.sampling, level, defaults, request.seed, kept)
            return (yield from work)

    def embed(self, stage: str, prompt: str) -> Tensor:
        """A prompt as the networks of a stage read it: 1 L C on the device."""
        with self.residency.on_device(self.bundle.text_components(stage)[0]) as model:
            return self.bundle.text_encoder(stage).encode(model, [prompt], self.residency.device)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames 1 3 F H W in -1 … 1 → latents 1 C F h w on the device, as the base network makes them."""
        with self.residency.on_device(VAE) as autoencoder:
            return vae.encode(autoencoder, frames.to(self.residency.device))

    def decode(self, component: str, latents: Latents) -> Iterator[Tensor]:
        """The frames of latents by one of the two autoencoders, each 1 3 H W in -1 … 1 on the device."""
        with self.residency.on_device(component) as autoencoder:
            for number in range(latents.frames):
                yield from vae.decode(autoencoder, latents.read([number]).to(self.residency.device))

    def decoded(self, latents: Latents) -> Decoded:
        """The small frames that latents of one of the other stages stand for, as super-resolution reads them."""
        return Decoded(latents, lambda some: self.decode(VAE, Whole(some)))

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

    def _make(self, stage: str, work: Generator[Step, None, Latents], steps: int) -> Generator[Event, None, Latents]:
        """Run a stage between its first and last event."""
        yield StageStarted(stage, steps)
        began = time.monotonic()
        latents = yield from work
        yield StageDone(stage, time.monotonic() - began, whole(latents).float().cpu())
        return latents

    def _steps(self, stage: str, request: Request, source: Video | None) -> int:
        sampling = request.sampling(stage)
        if stage == BASE:
            return sampling.steps
        frames = request.frames if source is None else len(source)
        frames = interpolated_frames(frames) if request.interpolation is not None else frames
        return total_steps(frames, sampling, self.bundle.defaults[stage])

    def _base(self, request: Request) -> Generator[Step, None, Latents]:
        text = self._text(BASE, request.prompt, request.negative_prompt, request.base)
        with self.residency.on_device(BASE) as network:
            channels = network.config.out_channels
            factor = self.bundle.halvings(VAE)
            shape = (channels, request.frames, request.height // factor, request.width // factor)
            made = yield from sample_base(network, text, shape, request.base, self.bundle.defaults[BASE], request.seed)
            return Whole(made)

    def _refine(
        self, stage: str, request: Request, latents: Latents | None, source: Video | None
    ) -> Generator[Step, None, Latents]:
        """A later stage over a clip: all its windows stay on the device."""
        if latents is not None:
            shown = latents if stage == INTERPOLATION else self.decoded(latents)
        else:
            pixels = self._pixels(source)
            shown = Whole(self.encode(pixels) if stage == INTERPOLATION else pixels)
        defaults = self.bundle.defaults[stage]
        prompt = request.prompt + defaults.prompt_suffix
        text = self._text(stage, prompt, defaults.negative_prompt, request.sampling(stage))
        return (yield from self.refine(stage, request, shown, text, {}))

    def _text(self, stage: str, prompt: str, negative: str, sampling: Sampling) -> Tensor:
        """Embeddings for a stage: both halves of guidance, or the prompt alone where guidance is off."""
        conditional = self.embed(stage, prompt)
        if sampling.guidance == 1.0:
            return conditional
        return unconditional_first(self.embed(stage, negative), conditional)

    def _pixels(self, video: Video) -> Tensor:
        """uint8 F H W 3 → 1 3 F H W in -1 … 1 on the device."""
        frames = torch.from_numpy(video.frames).to(self.residency.device)
        return vae.from_uint8(frames).transpose(0, 1)[None].to(self.residency.dtype)


def decoder(stages: Collection[str]) -> str:
    """The autoencoder that turns the latents of the last of `stages` into frames."""
    return UPSCALER_VAE if SUPER_RESOLUTION in stages else VAE


def _filled(sampling: Sampling, defaults: StageDefaults) -> Sampling:
    """What the request says, and where it is silent what the bundle says."""
    own = defaults.sampling
    return replace(
        sampling,
        sampler=sampling.sampler or own.sampler,
        steps=sampling.steps or own.steps,
        guidance=own.guidance if sampling.guidance is None else sampling.guidance,
    )
