"""The recipe: every stage of Nano's training in order, each in a folder of its own under the work folder.

Autoencoders first, since nothing after them can be better than they are; then text-to-image on stills,
super-resolution (stills, then clips), joint image-video fine-tuning, interpolation, extension, and the bundle. A stage
that is done is skipped, one that was interrupted goes on from its checkpoint; so the whole can be run again any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn

from lavie.bundle import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import interpolated_frames
from lavie.manifest import EXTENSION, NEIGHBOURS, SAMPLE, TEXT_ENCODER, UPSCALER_TEXT, UPSCALER_VAE, VAE, VELOCITY
from lavie.stages.super_resolution import SCALE
from lavie.text import TextEncoder
from lavie.training.assemble import write_bundle
from lavie.training.diffusion import extension_loss, interpolation_loss, still_loss, super_resolution_loss
from lavie.training.loop import Plan, Progress, Visit, fit
from lavie.training.media import LatentSet, Windows, write_tensors
from lavie.training.nano import networks as nano
from lavie.training.nano.data import encode_world, grey_latents, picture_batches, super_resolution_clips
from lavie.training.nano.marks import Group, mark_with
from lavie.training.nano.mix import Mix, mixed_loss
from lavie.training.nano.networks import build_text_model, build_tokenizer, start_places
from lavie.training.nano.start import start_as_blending, start_as_passing_on
from lavie.training.vae import normalise_latents, vae_loss
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
WORDS = {
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


def manifest(small: Preview, large: Preview) -> dict:
    """What `cascade.json` says. small, large: `colours_of` both autoencoders, for previews."""
    return {
        "name": "Nano",
        "width": nano.WIDTH,
        "height": nano.HEIGHT,
        "frames": nano.FRAMES,
        "fps": nano.FPS,
        "words": WORDS,
        "examples": EXAMPLES,
        BASE: {
            "sampler": "ddim",
            "steps": 25,
            "guidance": 2.5,
            "prediction_type": VELOCITY,
            "preview": small,
        },
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
def colours_of(vae: AutoencoderKL, height: int, width: int) -> Preview:
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


class Recipe:
    """Trains Nano in `work`. Each stage is a method that yields its progress and leaves `<stage>/model.safetensors`.

    given: a folder of the same form with stages that are trained already; they are not trained again. compiled: whether
    the base network is compiled for its training, which takes minutes at the first start.
    """

    def __init__(self, work: Path, amounts: Amounts | None = None, given: Path | None = None, *, compiled: bool = True):
        self.work, self.amounts, self.given, self.compiled = work, amounts or Amounts(), given, compiled
        self.tokenizer = build_tokenizer()
        self.empty = TextEncoder(self.tokenizer).tokens([""])[0]

    def stages(self) -> dict[str, Callable[[], Iterator[Progress]]]:
        """Name → what trains it, in order."""
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
        """One stage, or nothing where it is done."""
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
        vae = self.autoencoder(UPSCALER_VAE)
        vae.decoder.requires_grad_(True)
        yield from fit(vae, vae_loss(vae, batches, plan.seed, whitening=0), plan, self._run(UPSCALER_DECODER))
        self._keep(UPSCALER_DECODER, vae)

    def train_stills(self) -> Iterator[Progress]:
        """Text to image: a base network and the text encoder, both from scratch."""
        plan = Plan(self.amounts.still_steps, 7e-4, 3.5e-3, ema=0.998, seed=2)
        torch.manual_seed(plan.seed)
        networks = self._text_and_network()
        stills = self.encoded(STILLS, self.amounts.stills, clips=False)
        unseen = self.encoded("unseen_stills", self.amounts.unseen, clips=False, seed=UNSEEN_SEED)
        with nano.quick_attention():
            loss = still_loss(networks, stills, self.empty, 96, plan.seed, VELOCITY, CENTRAL)
            yield from self._fit_base(STILLS, networks, loss, plan, unseen, STILL_MARKS)
        self._keep(STILLS, networks)

    def train_video(self) -> Iterator[Progress]:
        """Joint image-video fine-tuning of the text-to-image network, each frame of a clip with a text of its own."""
        plan = Plan(self.amounts.video_steps, 6e-4, 3e-3, decay=0.5, ema=0.998, seed=3)
        networks = self._text_and_network()
        networks.load_state_dict(load_file(self._model(STILLS)))
        torch.manual_seed(plan.seed)
        nano.start_time_at_zero(networks["unet"])
        start_places(networks["text_encoder"])
        clips = self.encoded("clips", self.amounts.clips, clips=True)
        stills = self.encoded(STILLS, self.amounts.stills, clips=False)
        unseen = self.encoded("unseen_clips", self.amounts.unseen_clips, clips=True, seed=UNSEEN_SEED)
        with nano.quick_attention():
            loss = mixed_loss(networks, clips, stills, self.empty, MIX, plan.seed, CENTRAL)
            yield from self._fit_base(VIDEO, networks, loss, plan, unseen, CLIP_MARKS)
        self._keep(VIDEO, networks)

    def train_interpolation(self) -> Iterator[Progress]:
        """What the straight blend of key frames misses, from scratch: little, so that bfloat16 would blur it."""
        plan = Plan(self.amounts.interpolation_steps, 1e-3, None, warmup=30, ema=0.98, autocast=False, seed=4)
        torch.manual_seed(plan.seed)
        text = self._trained_text_and_weights()[0]
        network = start_as_blending(nano.start_time_at_zero(nano.build_interpolation()))
        frames = interpolated_frames(nano.FRAMES)
        clips = self.encoded("long_clips", self.amounts.long_clips, clips=True, frames=frames)
        with nano.quick_attention():
            loss = interpolation_loss(network, text, clips, self.empty, 5, plan.seed, PIECE, SAMPLE, NEIGHBOURS)
            yield from fit(network, loss, plan, self._run(INTERPOLATION))
        self._keep(INTERPOLATION, network)

    def train_extension(self) -> Iterator[Progress]:
        """From the base network, on windows out of clips that go on when what their caption says is over."""
        plan = Plan(self.amounts.extension_steps, learning_rate=8e-4, matrix_learning_rate=4e-3, ema=0.99, seed=8)
        text, parent = self._trained_text_and_weights()
        network = nano.inherit(nano.build_network(in_channels=9), parent)
        if self.compiled:
            nano.compiled(network)
        frames = GOING_ON * (nano.FRAMES - 1) + 1
        clips = self.encoded("endless_clips", self.amounts.endless_clips, clips=True, frames=frames, until=GOING_ON)
        with nano.quick_attention():
            windows = Windows(clips, nano.FRAMES)
            loss = extension_loss(
                network, text, windows, grey_latents(self.autoencoder(VAE)), self.empty, 10, plan.seed, VELOCITY
            )
            yield from fit(network, loss, plan, self._run(EXTENSION))
        self._keep(EXTENSION, network)

    def train_super_resolution_on_stills(self) -> Iterator[Progress]:
        """Single frames of half the size, past all that mixes time: four cost what one of the final size does."""
        steps = self.amounts.super_resolution_still_steps
        plan = Plan(steps, learning_rate=6e-4, matrix_learning_rate=3e-3, warmup=30, decay=0.9, ema=0.99, seed=5)
        torch.manual_seed(plan.seed)
        text, vae = self._text_of_stills(), self.autoencoder(UPSCALER_VAE)
        stills = super_resolution_clips(
            vae, self.tokenizer, self.amounts.large_stills, 6, 1, nano.HEIGHT // 2, nano.WIDTH // 2
        )
        small, latents = stills.draw(64, 1, torch.Generator().manual_seed(plan.seed))[1::-1]
        network = start_as_passing_on(nano.build_super_resolution(), small[:, :, 0], latents[:, :, 0])
        loss = super_resolution_loss(network, text, stills, self.empty, 24, plan.seed, 1, SAMPLE)
        yield from fit(network, loss, plan, self._run(SUPER_RESOLUTION_STILLS))
        self._keep(SUPER_RESOLUTION_STILLS, network)

    def train_super_resolution(self) -> Iterator[Progress]:
        """Clips of the final size, from what stills taught."""
        steps = self.amounts.super_resolution_steps
        plan = Plan(steps, learning_rate=3e-4, matrix_learning_rate=1e-3, decay=0.9, ema=0.98, seed=6)
        network = nano.build_super_resolution()
        network.load_state_dict(load_file(self._model(SUPER_RESOLUTION_STILLS)))
        nano.start_time_at_zero(network)
        vae = self.autoencoder(UPSCALER_VAE)
        clips = super_resolution_clips(vae, self.tokenizer, self.amounts.large_clips, 7, WINDOW)
        text = self._text_of_stills()
        loss = super_resolution_loss(network, text, clips, self.empty, 3, plan.seed, 3, SAMPLE)
        yield from fit(network, loss, plan, self._run(SUPER_RESOLUTION))
        self._keep(SUPER_RESOLUTION, nn.ModuleDict({"unet": network, "text_encoder": text}))

    def write(self, folder: Path) -> None:
        """Put what is trained into a bundle."""
        networks = self._text_and_network()
        networks.load_state_dict(load_file(self._model(VIDEO)))
        large = nn.ModuleDict({"unet": nano.build_super_resolution(), "text_encoder": self._text()})
        large = self._load(SUPER_RESOLUTION, large)
        components = {
            BASE: networks["unet"],
            TEXT_ENCODER: networks["text_encoder"],
            VAE: self.autoencoder(VAE),
            UPSCALER_VAE: self.autoencoder(UPSCALER_DECODER),
            UPSCALER_TEXT: large["text_encoder"],
            INTERPOLATION: self._load(INTERPOLATION, nano.build_interpolation()),
            EXTENSION: self._load(EXTENSION, nano.build_network(in_channels=9)),
            SUPER_RESOLUTION: large["unet"],
        }
        previews = (
            colours_of(components[VAE], nano.HEIGHT, nano.WIDTH),
            colours_of(components[UPSCALER_VAE], SCALE * nano.HEIGHT, SCALE * nano.WIDTH),
        )
        write_bundle(folder, components, self.tokenizer, manifest(*previews))

    def autoencoder(self, stage: str):
        """A trained autoencoder, frozen."""
        small = stage == VAE
        vae = self._load(stage, nano.build_frame_vae() if small else nano.build_upscaler_vae())
        vae.register_to_config(scaling_factor=1.0)
        return vae.requires_grad_(False).to(memory_format=torch.channels_last)

    def encoded(
        self,
        name: str,
        count: int,
        *,
        clips: bool,
        frames: int = nano.FRAMES,
        until: float = 1.0,
        seed: int = 1,
    ) -> LatentSet:
        """An encoded set of the world (`data.encode_world`), made once and kept in the work folder."""
        file = self.work / "encoded" / f"{name}.safetensors"
        if not file.exists():
            vae, how = self.autoencoder(VAE), {"seed": seed, "clips": clips, "frames": frames, "until": until}
            write_tensors(file, asdict(encode_world(vae, self.tokenizer, count, **how)))
        return LatentSet(**load_file(file))

    def _fit_base(
        self, stage: str, networks: nn.ModuleDict, loss, plan: Plan, unseen: LatentSet, groups: tuple[Group, ...]
    ) -> Iterator[Progress]:
        """Trains and measures now and then what `groups` say, on what is `unseen`."""
        if self.compiled:
            nano.compiled(networks["unet"])
        file = self._run(stage) / "marks.jsonl"
        mark = mark_with(networks, self.autoencoder(VAE), self.tokenizer, unseen, groups, file)
        every = MARK_EVERY if unseen.frames == 1 else 2 * MARK_EVERY
        told = fit(networks, loss, plan, self._run(stage), visits=[Visit(every, mark)])
        yield from (each for each in told if isinstance(each, Progress))

    def _train_autoencoder(self, name: str, vae, loss, batches: Callable[[int], Tensor], plan: Plan):
        yield from fit(vae, loss, plan, self._run(name))
        normalise_latents(vae, (batches(step) for step in range(plan.steps, plan.steps + 4)))
        self._keep(name, vae)

    def _text_and_network(self) -> nn.ModuleDict:
        return nn.ModuleDict({"unet": nano.build_network(), "text_encoder": self._text()})

    def _text(self) -> nn.Module:
        return build_text_model(self.tokenizer, nano.TEXT_WIDTH, places=nano.FRAMES)

    def _trained_text_and_weights(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The text encoder that the base stage ended with, frozen, and the base network's weights."""
        networks = self._text_and_network()
        networks.load_state_dict(load_file(self._model(VIDEO)))
        return networks["text_encoder"].requires_grad_(False).eval(), networks["unet"].state_dict()

    def _text_of_stills(self) -> nn.Module:
        """Super-resolution keeps the text encoder as stills left it: joint training changes its own meanwhile."""
        networks = self._text_and_network()
        networks.load_state_dict(load_file(self._model(STILLS)))
        return networks["text_encoder"].requires_grad_(False).eval()

    def _run(self, stage: str) -> Path:
        return self.work / stage

    def _model(self, stage: str) -> Path:
        """Where a stage's weights lie; they may not be there yet."""
        own = self._run(stage) / MODEL
        given = self.given and self.given / stage / MODEL
        return given if given and given.is_file() and not own.exists() else own

    def _keep(self, stage: str, network: nn.Module) -> None:
        write_tensors(
            self._run(stage) / MODEL, {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        )

    def _load(self, stage: str, network: nn.Module) -> nn.Module:
        network.load_state_dict(load_file(self._model(stage)))
        return network.eval()
