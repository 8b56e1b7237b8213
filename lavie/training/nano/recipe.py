"""The recipe: every stage of Nano's training in order, each in a folder of its own under the work folder.

Autoencoders come first, since nothing after them can be better than they are; then text-to-image on stills,
super-resolution (stills, then clips), joint image-video fine-tuning, interpolation, extension, and the bundle. A run
skips the stages that are done and continues an interrupted one from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from diffusers.models import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import interpolated_frames
from lavie.manifest import EXTENSION, NEIGHBOURS, SAMPLE, TEXT_ENCODER, UPSCALER_TEXT, UPSCALER_VAE, VAE, VELOCITY
from lavie.stages.super_resolution import SCALE
from lavie.text import TextEncoder
from lavie.training.assemble import write_bundle
from lavie.training.diffusion import (
    Batches,
    Loss,
    Mix,
    Networks,
    extension_loss,
    interpolation_loss,
    mixed_loss,
    normalise_latents,
    still_loss,
    super_resolution_loss,
    vae_loss,
)
from lavie.training.loop import Plan, Progress, Visit, fit
from lavie.training.media import LatentSet, Windows, write_tensors
from lavie.training.nano import networks as nano
from lavie.training.nano.data import encode_grey, encode_large_clips, encode_world, picture_batches
from lavie.training.nano.marks import Group, make_measure
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, RADII, SHAPES

MIX = Mix(clips=6, held=12, stills=24)
STILL_MARKS = (Group("one", 100), Group("two", 48, two=True))
CLIP_MARKS = (
    Group("ordinary", 32, held_out=False),
    Group("hearts", 16, shape="heart"),
    Group("spinning", 16, motion="spinning"),
    Group("two", 16, two=True),
)


@dataclass(frozen=True)
class Amounts:
    """How much of everything: optimiser steps a stage, and items in the encoded sets."""

    vae_steps: int = 3000
    upscaler_vae_steps: int = 1500
    upscaler_decoder_steps: int = 3000
    still_steps: int = 9000
    video_steps: int = 13_000
    interpolation_steps: int = 1500
    extension_steps: int = 3000
    super_resolution_still_steps: int = 4000
    super_resolution_steps: int = 400
    stills: int = 200_000
    unseen: int = 96
    unseen_clips: int = 16
    clips: int = 30_000
    long_clips: int = 800
    endless_clips: int = 1500
    large_stills: int = 3000
    large_clips: int = 200


WINDOW = 8  # frames of a clip that super-resolution learns from
# What a page offers to choose from, by kind; a word replaces another of its kind.
WORDS: dict[str, list[str]] = {
    "size": [*RADII],
    "colour": [*COLOURS],
    "shape": [*SHAPES],
    "motion": [*MOTIONS],
    "background": [*BACKGROUNDS],
}
EXAMPLES = [
    "a big red star spinning on a navy background",
    "a yellow circle bouncing on a teal background",
    "a purple heart growing on a black background",
    "a white triangle moving up on a brown background",
]
Preview = list[list[float]]  # a row of red, green and blue for each latent channel, and one for the constant


def build_manifest(small: Preview, large: Preview) -> dict[str, Any]:
    """The content of `cascade.json`. small, large: `fit_preview` of both autoencoders."""
    return {
        "name": "Nano",
        "width": nano.WIDTH,
        "height": nano.HEIGHT,
        "frames": nano.FRAMES,
        "fps": nano.FPS,
        "words": WORDS,
        "examples": EXAMPLES,
        BASE: {"sampler": "ddim", "steps": 25, "guidance": 2.5, "prediction_type": VELOCITY, "preview": small},
        EXTENSION: {
            "sampler": "ddim",
            "steps": 25,
            "guidance": 1.0,  # what the given frames show says enough: guidance makes steps of colour at the joins
            "prediction_type": VELOCITY,
            "preview": small,
        },
        INTERPOLATION: {
            "sampler": "ddim",
            "steps": 1,
            "guidance": 1.0,
            "prediction_type": SAMPLE,
            "conditioning": NEIGHBOURS,
            "windows": {"size": 61, "stride": 40, "trim": 4},
            "preview": small,
        },
        SUPER_RESOLUTION: {
            "sampler": "ddim",
            "steps": 3,
            "guidance": 1.0,
            "noise_level": 20,
            "prediction_type": SAMPLE,
            # Twice what it learned from, to the same error: as many frames in all as 8 every 6, which leave a seam.
            "windows": {"size": 2 * WINDOW, "stride": 12, "trim": 1},
            "preview": large,
        },
    }


@torch.no_grad()
def fit_preview(vae: AutoencoderKL, height: int, width: int) -> Preview:
    """The linear map from latents (and a constant) to colours that fits best, by least squares on real frames."""
    pictures = picture_batches(height, width, 0, 0, 8, seed=7, only_whole_from=0)(0)
    latents = vae.encode(pictures).latent_dist.mode()
    colours = F.interpolate(pictures, size=latents.shape[2:], mode="area")
    known = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1).transpose(0, 1).flatten(1).T
    fitted = torch.linalg.lstsq(known, colours.transpose(0, 1).flatten(1).T).solution
    return [[round(value, 4) for value in row] for row in fitted.tolist()]


STILLS, VIDEO = "stills", "video"
SUPER_RESOLUTION_STILLS, UPSCALER_DECODER = "super_resolution_stills", "super_resolution_decoder"
MODEL = "model.safetensors"
PIECE = 17  # frames that interpolation is trained on at once
MARK_EVERY = 750  # steps
CENTRAL = 0.5  # share of timesteps about the middle, where shapes are decided
UNSEEN_SEED = 2  # of the world's media that marks are measured on
GOING_ON = 3  # of the times that a caption describes, in the clips that extension learns from
Module = TypeVar("Module", bound=nn.Module)


class Recipe:
    """Trains Nano in `work`. Each stage is a method that yields its progress and leaves `<stage>/model.safetensors`.

    Args:
        given: a folder of the same form with stages that are trained already; they are not trained again.
        compiled: whether the base network is compiled for its training, which takes minutes at the first start.
    """

    def __init__(self, work: Path, amounts: Amounts | None = None, given: Path | None = None, *, compiled: bool = True):
        self.work, self.amounts, self.given, self.compiled = work, amounts or Amounts(), given, compiled
        self.tokenizer = nano.build_tokenizer()
        self.text = TextEncoder(self.tokenizer)
        self.empty = self.text.tokens([""])[0]

    def stages(self) -> dict[str, Callable[[], Iterator[Progress]]]:
        """Name → its method, in order."""
        return {
            VAE: self.train_vae,
            UPSCALER_VAE: self.train_upscaler_vae,
            STILLS: self.train_stills,
            SUPER_RESOLUTION_STILLS: self.train_super_resolution_on_stills,
            SUPER_RESOLUTION: self.train_super_resolution,
            UPSCALER_DECODER: self.train_upscaler_decoder,
            VIDEO: self.train_video,
            INTERPOLATION: self.train_interpolation,
            EXTENSION: self.train_extension,
        }

    def run(self, stage: str) -> Iterator[Progress]:
        """Train one stage unless it is done."""
        if not self._model(stage).exists():
            yield from self.stages()[stage]()

    def train_vae(self) -> Iterator[Progress]:
        steps = self.amounts.vae_steps
        batches = picture_batches(nano.HEIGHT, nano.WIDTH, 40, 48, 14, seed=9, only_whole_from=int(0.85 * steps))
        plan = Plan(steps, learning_rate=8e-4, matrix_learning_rate=4e-3, warmup=40, decay=0.9, ema=0.99, seed=1)
        torch.manual_seed(0)
        vae = nano.build_frame_vae()
        loss = vae_loss(vae, batches, plan.seed, whitening=0.002)  # its channels begin as colours; one is free
        yield from self._train_autoencoder(VAE, vae, loss, batches, plan)

    def train_upscaler_vae(self) -> Iterator[Progress]:
        """On frames of half the final size: edges look the same there, and so do the statistics of the group norms."""
        steps, height, width = self.amounts.upscaler_vae_steps, 2 * nano.HEIGHT, 2 * nano.WIDTH
        batches = picture_batches(height, width, 64, 20, 4, seed=9, only_whole_from=int(0.4 * steps))
        plan = Plan(steps, learning_rate=6e-4, matrix_learning_rate=3e-3, warmup=40, decay=0.9, ema=0.98, seed=1)
        torch.manual_seed(0)
        vae = nano.build_upscaler_vae()
        loss = vae_loss(vae, batches, plan.seed, whitening=0)  # its channels begin as colours, and none can collapse
        yield from self._train_autoencoder(UPSCALER_VAE, vae, loss, batches, plan)

    def train_upscaler_decoder(self) -> Iterator[Progress]:
        """The decoder alone, longer: super-resolution has been fitted to the encoder by now."""
        steps, height, width = self.amounts.upscaler_decoder_steps, 2 * nano.HEIGHT, 2 * nano.WIDTH
        batches = picture_batches(height, width, 64, 20, 5, seed=10, only_whole_from=int(0.7 * steps))
        plan = Plan(steps, learning_rate=4e-4, matrix_learning_rate=2e-3, warmup=40, decay=0.9, ema=0.99, seed=1)
        vae = self.load_autoencoder(UPSCALER_VAE)
        vae.decoder.requires_grad_(True)
        yield from fit(vae, vae_loss(vae, batches, plan.seed, whitening=0), plan, self._run(UPSCALER_DECODER))
        self._keep(UPSCALER_DECODER, vae)

    def train_stills(self) -> Iterator[Progress]:
        """Text to image: a base network and the text encoder, both from scratch."""
        plan = Plan(self.amounts.still_steps, 7e-4, 3.5e-3, ema=0.998, seed=2)
        torch.manual_seed(plan.seed)
        networks = self._build_base()
        stills = self.load_or_encode(STILLS, self.amounts.stills, clips=False)
        unseen = self.load_or_encode("unseen_stills", self.amounts.unseen, clips=False, seed=UNSEEN_SEED)
        with nano.quick_attention():
            loss = still_loss(networks, stills, Batches(self.empty, 96, plan.seed, VELOCITY), CENTRAL)
            yield from self._fit_base(STILLS, networks, loss, plan, unseen, STILL_MARKS)
        self._keep(STILLS, networks)

    def train_video(self) -> Iterator[Progress]:
        """Joint image-video fine-tuning of the text-to-image network, each frame of a clip with a text of its own."""
        plan = Plan(self.amounts.video_steps, 6e-4, 3e-3, decay=0.5, ema=0.998, seed=3)
        networks = self._load_base(STILLS)
        torch.manual_seed(plan.seed)
        nano.start_time_at_zero(networks.unet)
        nano.start_places(networks.text_encoder)
        clips = self.load_or_encode("clips", self.amounts.clips, clips=True)
        stills = self.load_or_encode(STILLS, self.amounts.stills, clips=False)
        unseen = self.load_or_encode("unseen_clips", self.amounts.unseen_clips, clips=True, seed=UNSEEN_SEED)
        with nano.quick_attention():
            loss = mixed_loss(networks, clips, stills, self.empty, MIX, plan.seed, CENTRAL)
            yield from self._fit_base(VIDEO, networks, loss, plan, unseen, CLIP_MARKS)
        self._keep(VIDEO, networks)

    def train_interpolation(self) -> Iterator[Progress]:
        """From scratch. What the straight blend of key frames misses is little, and bfloat16 would blur it."""
        plan = Plan(self.amounts.interpolation_steps, 1e-3, None, warmup=30, ema=0.98, autocast=False, seed=4)
        torch.manual_seed(plan.seed)
        text = self._load_text(VIDEO)
        network = nano.start_as_blending(nano.start_time_at_zero(nano.build_interpolation()))
        frames = interpolated_frames(nano.FRAMES)
        clips = self.load_or_encode("long_clips", self.amounts.long_clips, clips=True, frames=frames)
        with nano.quick_attention():
            batches = Batches(self.empty, 5, plan.seed, SAMPLE)
            loss = interpolation_loss(Networks(network, text), clips, batches, PIECE, NEIGHBOURS)
            yield from fit(network, loss, plan, self._run(INTERPOLATION))
        self._keep(INTERPOLATION, network)

    def train_extension(self) -> Iterator[Progress]:
        """From the base network, on windows out of clips that go on when what their caption says is over."""
        plan = Plan(self.amounts.extension_steps, learning_rate=8e-4, matrix_learning_rate=4e-3, ema=0.99, seed=8)
        parent, text = self._load_base(VIDEO), self._load_text(VIDEO)
        network = nano.inherit(nano.build_network(in_channels=9), parent.unet.state_dict())
        if self.compiled:
            nano.compile_blocks(network)
        frames = GOING_ON * (nano.FRAMES - 1) + 1
        count = self.amounts.endless_clips
        clips = self.load_or_encode("endless_clips", count, clips=True, frames=frames, until=GOING_ON)
        grey, batches = encode_grey(self.load_autoencoder(VAE)), Batches(self.empty, 10, plan.seed, VELOCITY)
        with nano.quick_attention():
            loss = extension_loss(Networks(network, text), Windows(clips, nano.FRAMES), grey, batches)
            yield from fit(network, loss, plan, self._run(EXTENSION))
        self._keep(EXTENSION, network)

    def train_super_resolution_on_stills(self) -> Iterator[Progress]:
        """Single frames of half the size, past all that mixes time: four cost what one of the final size does."""
        steps = self.amounts.super_resolution_still_steps
        plan = Plan(steps, learning_rate=6e-4, matrix_learning_rate=3e-3, warmup=30, decay=0.9, ema=0.99, seed=5)
        torch.manual_seed(plan.seed)
        text, vae = self._load_text(STILLS), self.load_autoencoder(UPSCALER_VAE)
        height, width = nano.HEIGHT // 2, nano.WIDTH // 2
        stills = encode_large_clips(vae, self.text, self.amounts.large_stills, 6, 1, height, width)
        latents, small, _ = stills.draw_large(64, 1, torch.Generator().manual_seed(plan.seed))
        network = nano.start_as_passing_on(nano.build_super_resolution(), small[:, :, 0], latents[:, :, 0])
        batches = Batches(self.empty, 24, plan.seed, SAMPLE)
        loss = super_resolution_loss(Networks(network, text), stills, batches, frames=1)
        yield from fit(network, loss, plan, self._run(SUPER_RESOLUTION_STILLS))
        self._keep(SUPER_RESOLUTION_STILLS, network)

    def train_super_resolution(self) -> Iterator[Progress]:
        """Clips of the final size, from what stills taught."""
        steps = self.amounts.super_resolution_steps
        plan = Plan(steps, learning_rate=3e-4, matrix_learning_rate=1e-3, decay=0.9, ema=0.98, seed=6)
        network = nano.build_super_resolution()
        network.load_state_dict(load_file(self._model(SUPER_RESOLUTION_STILLS)))
        nano.start_time_at_zero(network)
        vae = self.load_autoencoder(UPSCALER_VAE)
        clips = encode_large_clips(vae, self.text, self.amounts.large_clips, 7, WINDOW)
        networks = Networks(network, self._load_text(STILLS))
        loss = super_resolution_loss(networks, clips, Batches(self.empty, 3, plan.seed, SAMPLE), frames=3)
        yield from fit(network, loss, plan, self._run(SUPER_RESOLUTION))
        self._keep(SUPER_RESOLUTION, networks)

    def write(self, folder: Path) -> None:
        """Write a bundle of the trained networks."""
        networks = self._load_base(VIDEO)
        large = self._load(SUPER_RESOLUTION, Networks(nano.build_super_resolution(), self._build_text()))
        vae, upscaler_vae = self.load_autoencoder(VAE), self.load_autoencoder(UPSCALER_DECODER)
        components = {
            BASE: networks.unet,
            TEXT_ENCODER: networks.text_encoder,
            VAE: vae,
            UPSCALER_VAE: upscaler_vae,
            UPSCALER_TEXT: large.text_encoder,
            INTERPOLATION: self._load(INTERPOLATION, nano.build_interpolation()),
            EXTENSION: self._load(EXTENSION, nano.build_network(in_channels=9)),
            SUPER_RESOLUTION: large.unet,
        }
        small_preview = fit_preview(vae, nano.HEIGHT, nano.WIDTH)
        large_preview = fit_preview(upscaler_vae, SCALE * nano.HEIGHT, SCALE * nano.WIDTH)
        write_bundle(folder, components, self.tokenizer, build_manifest(small_preview, large_preview))

    def load_autoencoder(self, stage: str) -> AutoencoderKL:
        """A trained autoencoder, frozen."""
        vae = self._load(stage, nano.build_frame_vae() if stage == VAE else nano.build_upscaler_vae())
        vae.register_to_config(scaling_factor=1.0)
        vae.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # diffusers wraps it
        return vae

    def load_or_encode(
        self, name: str, count: int, *, clips: bool, frames: int = nano.FRAMES, until: float = 1.0, seed: int = 1
    ) -> LatentSet:
        """An encoded set of the world (`data.encode_world`), made once and kept in the work folder."""
        file = self.work / "encoded" / f"{name}.safetensors"
        if not file.exists():
            vae = self.load_autoencoder(VAE)
            media = encode_world(vae, self.text, count, seed, clips=clips, frames=frames, until=until)
            write_tensors(file, asdict(media))
        return LatentSet(**load_file(file))

    def _fit_base(
        self, stage: str, networks: Networks, loss: Loss, plan: Plan, unseen: LatentSet, groups: tuple[Group, ...]
    ) -> Iterator[Progress]:
        """Train, and from time to time measure `groups` and the losses of `unseen`."""
        if self.compiled:
            nano.compile_blocks(networks.unet)
        file = self._run(stage) / "marks.jsonl"
        mark = make_measure(networks, self.load_autoencoder(VAE), self.text, unseen, groups, file)
        every = MARK_EVERY if unseen.frames == 1 else 2 * MARK_EVERY
        events = fit(networks, loss, plan, self._run(stage), visits=[Visit(every, mark)])
        yield from (event for event in events if isinstance(event, Progress))

    def _train_autoencoder(
        self, name: str, vae: AutoencoderKL, loss: Loss, batches: Callable[[int], Tensor], plan: Plan
    ) -> Iterator[Progress]:
        yield from fit(vae, loss, plan, self._run(name))
        normalise_latents(vae, (batches(step) for step in range(plan.steps, plan.steps + 4)))
        self._keep(name, vae)

    def _build_base(self) -> Networks:
        return Networks(nano.build_network(), self._build_text())

    def _build_text(self) -> CLIPTextModel:
        return nano.build_text_model(self.tokenizer, nano.TEXT_WIDTH, places=nano.FRAMES)

    def _load_base(self, stage: str) -> Networks:
        networks = self._build_base()
        networks.load_state_dict(load_file(self._model(stage)))
        return networks

    def _load_text(self, stage: str) -> CLIPTextModel:
        """The text encoder that a stage ended with, frozen. Super-resolution keeps that of the stills."""
        return self._load_base(stage).text_encoder.requires_grad_(False).eval()

    def _run(self, stage: str) -> Path:
        return self.work / stage

    def _model(self, stage: str) -> Path:
        """The file of a stage's weights, which may not be there yet."""
        own = self._run(stage) / MODEL
        given = self.given and self.given / stage / MODEL
        return given if given and given.is_file() and not own.exists() else own

    def _keep(self, stage: str, network: nn.Module) -> None:
        write_tensors(self._run(stage) / MODEL, network.state_dict())

    def _load(self, stage: str, network: Module) -> Module:
        network.load_state_dict(load_file(self._model(stage)))
        return network.eval()
