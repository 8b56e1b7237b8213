"""The task of a training on own media: the network, its encoded media, its loss and its samples."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from lavie import vae as vae_module
from lavie.bundle import CLASSES, Bundle
from lavie.errors import TrainingError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Step
from lavie.key_frames import RATE, beside_channels
from lavie.latents import Latents, Whole, whole
from lavie.manifest import EXTENSION, MANIFEST, NEAREST, UPSCALER_VAE, VAE
from lavie.sampling import Guided
from lavie.stages.base import sample_base
from lavie.stages.interpolation import interpolate
from lavie.stages.super_resolution import SCALE, super_resolve
from lavie.stages.windowed import Run, denoise_windows
from lavie.text import unconditional_first
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import LATENTS, SMALL, Encoded, EncodedSet
from lavie.training.diffusion import (
    Batches,
    Loss,
    Networks,
    beside_noise,
    concat_loss,
    extension_loss,
    frame_mask,
    interpolation_loss,
    joint_loss,
    still_loss,
    super_resolution_loss,
)
from lavie.training.nano.networks import inherit, start_time_at_zero
from lavie.training.tuning.settings import CONCAT, FROM_BUNDLE, FROM_LAYOUT, STILLS, VIDEO_ONLY, Settings
from lavie.unet import VideoUNet
from lavie.values import require
from lavie.video import Video
from lavie.windows import Windows


def extend(network: VideoUNet, beside: Tensor, run: Run) -> Generator[Step, None, Latents]:
    """Latents of a clip of which `beside` (1 1+C F h w, see `beside_noise`) gives some frames."""
    frames, height, width = beside.shape[2:]
    shape = (network.config["out_channels"], frames, height, width)

    def predictor_at(start: int, shown: Sequence[int]) -> Guided:
        return run.guided(network, shown, concatenate=beside)

    return (yield from denoise_windows(EXTENSION, predictor_at, shape, run, beside.device))


LATENT_CHANNELS = 4
GUIDED_KINDS = (INTERPOLATION, EXTENSION)  # base networks that are shown something beside the noise


def build_starting_network(bundle: Bundle, kind: str, origin: str, seed: int) -> tuple[VideoUNet, str]:
    """A network in float32 on the CPU, ready to be trained, and in words where its weights come from.

    Raises TrainingError if the bundle has nothing that it could begin with.
    """
    network: VideoUNet
    if origin == FROM_BUNDLE:
        network, source = _load_start(bundle, kind)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = start_time_at_zero(CLASSES[kind].from_config(_find_config(bundle, kind, origin)))
        source = "random weights"
    return network.requires_grad_(True).train(), source


def freeze_spatial(network: VideoUNet) -> None:
    """Train only the layers that mix time, as where the rest comes from an image model."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("temp" in name)  # `attn_temp`, `norm_temp`, and everything with `temporal` in its name
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) and module.weight.requires_grad:
            module.register_forward_pre_hook(_track_input)


def _track_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ask for the gradient of a norm's input even where nobody needs it.

    torch 2.13 ends in a segmentation fault on a CPU where a channels-last group norm of a small picture is trained and
    its input is not, as right behind frozen layers.
    """
    x, *others = inputs
    tracked = x if x.requires_grad or not torch.is_grad_enabled() else x.detach().requires_grad_()
    return (tracked, *others)


def _load_start(bundle: Bundle, kind: str) -> tuple[VideoUNet, str]:
    if (bundle.folder / kind / "config.json").is_file():
        network = bundle.load(kind, torch.float32)
        assert isinstance(network, VideoUNet)
        return network, f"{bundle.name}’s {kind}"
    if kind not in GUIDED_KINDS:
        raise TrainingError(f"{bundle.folder} holds no {kind} to begin with: give --from scratch, or another --model")
    network = CLASSES[kind].from_config(_find_config(bundle, kind, FROM_BUNDLE))
    parent = bundle.load(BASE, torch.float32)
    return inherit(network, parent.state_dict()), f"{bundle.name}’s base, new inputs at zero"


def _find_config(bundle: Bundle, kind: str, origin: str) -> dict[str, Any]:
    """The bundle's own layout of this network; that of its base network with more inputs; or the published one."""
    if origin != FROM_LAYOUT and (bundle.folder / kind / "config.json").is_file():
        return bundle.config(kind)
    inputs = {"in_channels": _count_inputs(bundle, kind)} if kind in GUIDED_KINDS else {}
    if origin != FROM_LAYOUT and inputs:
        plain = {name: value for name, value in bundle.config(BASE).items() if not name.startswith("_")}  # no class
        return plain | inputs
    text = bundle.text_components(kind if kind == SUPER_RESOLUTION else BASE)[0]
    return {"cross_attention_dim": bundle.config(text)["hidden_size"], **inputs}


def _count_inputs(bundle: Bundle, kind: str) -> int:
    """Channels of noise and what stands beside it: for extension a mask and latents."""
    if kind == EXTENSION:
        return LATENT_CHANNELS + 1 + LATENT_CHANNELS
    conditioning = bundle.defaults[kind].conditioning if kind in bundle.defaults else NEAREST
    return LATENT_CHANNELS + beside_channels(conditioning, LATENT_CHANNELS)


SAMPLE_SEED = 1
INTERPOLATED = 17  # frames that interpolation is shown at once where nothing is said
ENOUGH_GIVEN = 4  # frames that a sample of extension is given, or half of the clip


class Task:
    """A network, the components that its training needs, and its loss. Everything is on `device`."""

    def __init__(self, bundle: Bundle, settings: Settings, device: torch.device):
        """Raises TrainingError or BundleError where the settings do not fit the bundle."""
        self.bundle, self.settings, self.device = bundle, settings, device
        self.stage = BASE if settings.kind == EXTENSION else settings.kind
        if self.stage not in bundle.defaults:
            raise TrainingError(f"{bundle.folder / MANIFEST} does not say how {self.stage} runs: take another bundle")
        self.defaults = bundle.defaults[self.stage]
        network, self.source = build_starting_network(bundle, settings.kind, settings.origin, settings.seed)
        if settings.freeze_spatial:
            freeze_spatial(network)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        self.network = network
        self.cut = self._cut()
        self.encoder = bundle.text_encoder(self.stage)
        text_model = bundle.load(bundle.text_components(self.stage)[0], torch.float32)
        assert isinstance(text_model, CLIPTextModel)
        self.networks = Networks(network, text_model).to(device)  # the text encoder stays as it is
        self.vae = bundle.load(UPSCALER_VAE if self._enlarges else VAE, torch.float32).to(device)

    @property
    def wants_clips(self) -> bool:
        return not (self.settings.kind == BASE and self.settings.base_mode == STILLS)

    @property
    def wants_stills(self) -> bool:
        return self.settings.kind == BASE and self.settings.base_mode != VIDEO_ONLY

    def open_set(self, media: list[Encoded], frames: int) -> EncodedSet:
        return EncodedSet(media, self.encoder.tokens, frames)

    @torch.no_grad()
    def encode(self, clip: np.ndarray) -> dict[str, Tensor]:
        """uint8 F H W 3 → the stored tensors of a clip: latents C F h w, and beside large ones the small frames."""
        frames = vae_module.from_uint8(torch.from_numpy(np.ascontiguousarray(clip))).transpose(0, 1)[None]
        stored = {LATENTS: vae_module.encode(self.vae, frames.to(self.device))[0].cpu().half()}
        if self._enlarges:
            small = [np.asarray(Image.fromarray(frame).reduce(SCALE)) for frame in clip]
            stored[SMALL] = torch.from_numpy(np.stack(small))
        return stored

    def loss(self, clips: EncodedSet, stills: EncodedSet, batch: int, seed: int) -> Loss:
        """The loss of the sets, of which one may be empty."""
        kind, networks, frames = self.settings.kind, self.networks, self.cut.frames
        batches = Batches(self.encoder.tokens([""])[0], batch, seed, self.defaults.prediction_type)
        if kind == BASE and not clips:
            return still_loss(networks, stills, batches)
        if kind == BASE and self.settings.base_mode == CONCAT and stills:
            return concat_loss(networks, clips, stills, batches)
        if kind == BASE:
            return joint_loss(networks, clips, stills or None, batches)
        if kind == INTERPOLATION:
            return interpolation_loss(networks, clips, batches, frames, self.defaults.conditioning)
        if kind == EXTENSION:
            return extension_loss(networks, clips, self._grey(), batches)
        return super_resolution_loss(networks, clips, batches, frames, self.settings.crop)

    @torch.no_grad()
    def sample(self, clips: EncodedSet, number: int) -> Video:
        """What the network makes now of clip `number`: of its caption, and of what else the network is shown."""
        stored = clips.read(number)
        sampling = self.defaults.sampling
        latents = stored[LATENTS].float()[None].to(self.device)
        frames = latents.shape[2] if self.settings.kind == BASE else None
        text = self._text(clips.caption(number), require(sampling.guidance), frames)
        _, channels, length, height, width = latents.shape
        grid = replace(self.defaults, windows=Windows(length, length))
        run = Run(text, sampling, grid, SAMPLE_SEED)
        if self.settings.kind == BASE:
            shape = (channels, length, height, width)
            made = run_stage(sample_base(self.network, text, shape, sampling, grid, SAMPLE_SEED))
        elif self.settings.kind == INTERPOLATION:
            made = run_stage(interpolate(self.network, Whole(latents[:, :, ::RATE]), run))
        elif self.settings.kind == EXTENSION:
            mask = frame_mask(f"first {min(ENOUGH_GIVEN, length // 2)}", length)
            beside = beside_noise(latents, self._grey(), mask[None])
            made = run_stage(extend(self.network, beside, run))
        else:
            small = vae_module.from_uint8(stored[SMALL]).transpose(0, 1)[None].to(self.device)
            made = run_stage(super_resolve(self.network, Whole(small), self.defaults.noise_level, run))
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
            crop, most = _format_size(self.settings.crop), _format_size(size)
            raise TrainingError(f"crop is {crop}: give at most {most}, the size of the small frames")

    def _check_sides(self, name: str, sides: tuple[int, int]) -> None:
        """Raises TrainingError unless every halving in the autoencoder and the network comes out whole."""
        shrinks = 2 ** (len(self.network.config["block_out_channels"]) - 1)  # of latents inside the network
        factor = shrinks * (1 if self._enlarges else self.bundle.halvings(VAE))
        if any(side < factor or side % factor for side in sides):
            near = _format_size([max(factor, round(side / factor) * factor) for side in sides])
            raise TrainingError(f"{name} is {_format_size(sides)}: give multiples of {factor}, such as {near}")

    @torch.no_grad()
    def _grey(self) -> Tensor:
        """C h w, the latents of a mid-grey frame, which stands for the frames that are not given."""
        frame = torch.zeros(1, 3, 1, self.cut.height, self.cut.width, device=self.device)
        return vae_module.encode(self.vae, frame)[0, :, 0]

    def _text(self, caption: str, guidance: float, frames: int | None) -> Tensor:
        conditional = self.encoder.encode(self.networks.text_encoder, [caption], self.device, frames)
        if guidance == 1.0:
            return conditional
        negative = self.encoder.encode(self.networks.text_encoder, [self.defaults.negative_prompt], self.device, frames)
        return unconditional_first(negative, conditional)


def _format_size(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))


def run_stage(stage: Generator[Step, None, Tensor | Latents]) -> Tensor:
    """Run a stage to its end and return its latents, 1 C F h w."""
    while True:
        try:
            next(stage)
        except StopIteration as end:
            return end.value if isinstance(end.value, Tensor) else whole(end.value)
