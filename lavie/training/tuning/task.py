"""What one network learns from a person's media and how it shows what it can: the difference between the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lavie import vae as vae_module
from lavie.bundle import BASE, INTERPOLATION, SUPER_RESOLUTION, Bundle
from lavie.errors import TrainingError
from lavie.key_frames import RATE
from lavie.latents import Whole, whole
from lavie.manifest import EXTENSION, MANIFEST, UPSCALER_VAE, VAE
from lavie.stages.base import sample_base
from lavie.stages.interpolation import interpolate
from lavie.stages.super_resolution import SCALE, super_resolve
from lavie.text import unconditional_first
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import LATENTS, SMALL, EncodedLargeSet, EncodedSet, StoredClips, weights_mark
from lavie.training.diffusion import (
    concat_loss,
    extension_loss,
    interpolation_loss,
    joint_loss,
    still_loss,
    super_resolution_loss,
)
from lavie.training.masks import beside_noise, frame_mask
from lavie.training.tuning.extend import extend
from lavie.training.tuning.networks import freeze_spatial, levels, starting_network
from lavie.training.tuning.settings import CONCAT, STILLS, VIDEO_ONLY, Settings
from lavie.video import Video
from lavie.windows import Windows

SAMPLE_SEED = 1
INTERPOLATED = 17  # frames that interpolation is shown at once where nothing is said
ENOUGH_GIVEN = 4  # frames that a sample of extension is given, or half of the clip


class Task:
    """A network, what stands around it, and the loss that it is trained by. Everything is on `device`."""

    def __init__(self, bundle: Bundle, settings: Settings, device: torch.device):
        """Raises TrainingError or BundleError: these settings do not fit this bundle."""
        self.bundle, self.settings, self.device = bundle, settings, device
        self.stage = BASE if settings.kind == EXTENSION else settings.kind
        if self.stage not in bundle.defaults:
            raise TrainingError(f"{bundle.folder / MANIFEST} does not say how {self.stage} runs: take another bundle")
        self.defaults = bundle.defaults[self.stage]
        network, self.source = starting_network(bundle, settings.kind, settings.origin, settings.seed)
        if settings.freeze_spatial:
            freeze_spatial(network)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        self.network = network.to(device)
        self.cut = self._cut()
        self.encoder = bundle.text_encoder(self.stage)
        self.text_model = bundle.load(bundle.text_components(self.stage)[0], torch.float32).to(device)
        self.vae = bundle.load(UPSCALER_VAE if self._enlarges else VAE, torch.float32).to(device)

    @property
    def networks(self) -> nn.ModuleDict:
        """As the losses of the base network take them; the text encoder stays as it is."""
        return nn.ModuleDict({"unet": self.network, "text_encoder": self.text_model})

    @property
    def wants_clips(self) -> bool:
        return not (self.settings.kind == BASE and self.settings.base_mode == STILLS)

    @property
    def wants_stills(self) -> bool:
        return self.settings.kind == BASE and self.settings.base_mode != VIDEO_ONLY

    def mark(self) -> str:
        """What latents depend on besides the medium and its cut."""
        return weights_mark(self.vae)

    def stored(self, media: list, frames: int) -> StoredClips:
        kind = EncodedLargeSet if self._enlarges else EncodedSet
        return kind(media, self.encoder.tokens, frames)

    @torch.no_grad()
    def encode(self, clip: np.ndarray) -> dict[str, Tensor]:
        """uint8 F H W 3 → what is stored of a clip: latents C F h w, and beside large ones the small frames."""
        frames = vae_module.from_uint8(torch.from_numpy(np.ascontiguousarray(clip))).transpose(0, 1)[None]
        stored = {LATENTS: vae_module.encode(self.vae, frames.to(self.device))[0].cpu().half()}
        if self._enlarges:
            small = [np.asarray(Image.fromarray(frame).reduce(SCALE)) for frame in clip]
            stored[SMALL] = torch.from_numpy(np.stack(small))
        return stored

    def loss(
        self, clips: StoredClips | None, stills: StoredClips | None, batch: int, seed: int
    ) -> Callable[[int], Tensor]:
        """Step → loss, of the sets that there are."""
        asked, kind = self.settings, self.settings.kind
        common = (self.encoder.tokens([""])[0], batch, seed)
        prediction = self.defaults.prediction_type
        if kind == BASE and clips is None:
            return still_loss(self.networks, stills, *common, prediction)
        if kind == BASE and asked.base_mode == CONCAT and stills is not None:
            return concat_loss(self.networks, clips, stills, *common, prediction)
        if kind == BASE:
            return joint_loss(self.networks, clips, stills, *common, prediction)
        if kind == INTERPOLATION:
            arguments = (self.network, self.text_model, clips, *common, self.cut.frames, prediction)
            return interpolation_loss(*arguments, self.defaults.conditioning)
        if kind == EXTENSION:
            return extension_loss(self.network, self.text_model, clips, self._grey(), *common, prediction)
        arguments = (self.network, self.text_model, clips, *common, self.cut.frames, prediction)
        return super_resolution_loss(*arguments, crop=asked.crop)

    @torch.no_grad()
    def sample(self, clips: StoredClips, number: int) -> Video:
        """What the network makes now of clip `number`: of its caption, and of what else the network is shown."""
        stored = clips.read(number)
        sampling = self.defaults.sampling
        latents = stored[LATENTS].float()[None].to(self.device)
        frames = latents.shape[2] if self.settings.kind == BASE else None
        text = self._text(clips.caption(number), sampling.guidance, frames)
        grid = replace(self.defaults, windows=Windows(latents.shape[2], latents.shape[2]))
        if self.settings.kind == BASE:
            made = result_of(sample_base(self.network, text, latents.shape[1:], sampling, grid, SAMPLE_SEED))
        elif self.settings.kind == INTERPOLATION:
            made = result_of(interpolate(self.network, text, Whole(latents[:, :, ::RATE]), sampling, grid, SAMPLE_SEED))
        elif self.settings.kind == EXTENSION:
            mask = frame_mask(f"first {min(ENOUGH_GIVEN, latents.shape[2] // 2)}", latents.shape[2])
            beside = beside_noise(latents, self._grey(), mask[None])
            made = result_of(extend(self.network, text, beside, sampling, grid, SAMPLE_SEED))
        else:
            small = vae_module.from_uint8(stored[SMALL]).transpose(0, 1)[None].to(self.device)
            level = self.defaults.noise_level
            made = result_of(super_resolve(self.network, text, Whole(small), sampling, level, grid, SAMPLE_SEED))
        return Video(vae_module.pictures(vae_module.decode(self.vae, made)), self.bundle.fps)

    @property
    def _enlarges(self) -> bool:
        return self.settings.kind == SUPER_RESOLUTION

    def _cut(self) -> Cut:
        asked, bundle = self.settings, self.bundle
        usual = {INTERPOLATION: INTERPOLATED, SUPER_RESOLUTION: self.defaults.windows.size}
        frames = asked.frames or usual.get(asked.kind, bundle.frames)
        width, height = asked.size or (bundle.width, bundle.height)
        self._check_sides("size", (width, height))
        if self._enlarges:
            self._check_crop((width, height))
            return Cut(frames, SCALE * width, SCALE * height, asked.stride, enlarge=False)
        return Cut(frames, width, height, asked.stride)

    def _check_crop(self, size: tuple[int, int]) -> None:
        if self.settings.crop is None:
            return
        self._check_sides("crop", self.settings.crop)
        if any(piece > side for piece, side in zip(self.settings.crop, size, strict=True)):
            raise TrainingError(
                f"crop is {_by(self.settings.crop)}: give at most {_by(size)}, the size of the small frames"
            )

    def _check_sides(self, name: str, sides: tuple[int, int]) -> None:
        """Every halving on the way through autoencoder and network must come out whole."""
        factor = levels(self.network) * (1 if self._enlarges else self.bundle.halvings(VAE))
        if any(side < factor or side % factor for side in sides):
            near = tuple(max(factor, round(side / factor) * factor) for side in sides)
            raise TrainingError(f"{name} is {_by(sides)}: give multiples of {factor}, such as {_by(near)}")

    @torch.no_grad()
    def _grey(self) -> Tensor:
        """C h w, the latents of a mid-grey frame: what stands for the frames that are not given."""
        frame = torch.zeros(1, 3, 1, self.cut.height, self.cut.width, device=self.device)
        return vae_module.encode(self.vae, frame)[0, :, 0]

    def _text(self, caption: str, guidance: float, frames: int | None) -> Tensor:
        conditional = self.encoder.encode(self.text_model, [caption], self.device, frames)
        if guidance == 1.0:
            return conditional
        negative = self.encoder.encode(self.text_model, [self.defaults.negative_prompt], self.device, frames)
        return unconditional_first(negative, conditional)


def _by(sides: tuple[int, int]) -> str:
    return "×".join(map(str, sides))


def result_of(stage) -> Tensor:
    """The latents that a stage has made when it has yielded all of its steps."""
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value if isinstance(end.value, Tensor) else whole(end.value)
