"""What a diffusion network learns from: batches of latents with captions, and the losses of the cascade's networks.

Every draw of a step comes from one generator keyed by the seed and the step's number. Knows no optimiser and no file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lavie.noise import derive_seed
from lavie.sampling import EPSILON, TRAIN_STEPS, VELOCITY, add_noise, training_target
from lavie.stages.interpolation import RATE, nearest_keys
from lavie.stages.super_resolution import noised_low_res
from lavie.vae import from_uint8

CAPTION_DROPOUT = 0.1  # share of captions that are emptied, so that guidance has an unconditional half to lean on
IMAGE_WEIGHT = 0.25  # α of L_V + α L_I: with M = 4 stills for 16 frames, every frame counts the same
MAX_TRAINED_NOISE_LEVEL = 120  # of 350: what it takes to hide the base stage's slips
IMAGES_PER_CLIP = 4  # M (LaVie, section 5.2)


@dataclass(frozen=True)
class LatentSet:
    """Encoded media. latents: N C F H W (any float type, scaled as the network sees them). tokens: N L caption ids."""

    latents: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` items drawn with replacement: float32 latents B C F H W and tokens B L."""
        chosen = torch.randint(len(self), (count,), generator=generator)
        return self.latents[chosen].float(), self.tokens[chosen]


@dataclass(frozen=True)
class LargeClips:
    """Encoded large clips beside the small ones. latents: N C F h w. small: uint8 N F h w 3. tokens: N L.

    The latents of a ×4 autoencoder are as large as the small frames. Whole frames are shown, since the group norms run
    on their statistics when the network is used; a few of a clip's frames at once, for the sake of more clips a step.
    """

    latents: Tensor
    small: Tensor
    tokens: Tensor

    def draw(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents B C f h w, small frames B 3 f h w in -1 … 1, and tokens B L, of `frames` consecutive frames."""
        latents, small = [], []
        chosen = torch.randint(len(self.latents), (count,), generator=generator)
        for index in chosen.tolist():
            first = int(torch.randint(self.latents.shape[2] - frames + 1, (), generator=generator))
            latents.append(self.latents[index, :, first : first + frames].float())
            small.append(from_uint8(self.small[index, first : first + frames]).transpose(0, 1))
        return torch.stack(latents), torch.stack(small), self.tokens[chosen]


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "training", step))


def drop_captions(tokens: Tensor, empty: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a share of the captions (B L) by the tokens of the empty prompt (L)."""
    dropped = torch.rand(len(tokens), generator=generator) < CAPTION_DROPOUT
    return torch.where(dropped[:, None], empty, tokens)


def noise_loss(
    network: nn.Module,
    clean: Tensor,
    text: Tensor,
    generator: torch.Generator,
    prediction_type: str = EPSILON,
    beside: Tensor | None = None,
    **conditions,
) -> Tensor:
    """Mean squared error of the network's prediction at random timesteps (Ho et al., arXiv 2006.11239, eq. 14).

    clean: B C F H W. text: B L C. beside: B c F H W channels concatenated behind the noisy ones.
    """
    timestep = torch.randint(TRAIN_STEPS, (len(clean),), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = add_noise(clean, noise, timestep)
    if beside is not None:
        noisy = torch.cat([noisy, beside], dim=1)
    prediction = network(noisy, timestep, text, **conditions)
    return F.mse_loss(prediction.float(), training_target(clean, noise, timestep, prediction_type))


def still_loss(
    networks: nn.ModuleDict,
    stills: LatentSet,
    empty: Tensor,
    batch: int,
    seed: int,
    prediction_type: str = EPSILON,
) -> Callable[[int], Tensor]:
    """Text-to-image: stills alone, past all that mixes time. `networks` has "unet" and "text_encoder"."""

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        return _one_batch(networks, stills, empty, batch, generator, prediction_type, image_frames=1)

    return loss_at


def joint_loss(
    networks: nn.ModuleDict,
    clips: LatentSet,
    stills: LatentSet | None,
    empty: Tensor,
    batch: int,
    seed: int,
    prediction_type: str = EPSILON,
) -> Callable[[int], Tensor]:
    """Joint image-video fine-tuning (LaVie, section 4.1): L_V + α L_I, each in a pass of its own.

    Two passes cost what one concatenated pass does and keep the stills' group norm statistics apart from the clips'.
    Without `stills` it is the video-only fine-tuning that the paper warns of.
    """

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        loss = _one_batch(networks, clips, empty, batch, generator, prediction_type, image_frames=0)
        if stills is not None:
            count = batch * IMAGES_PER_CLIP
            images = _one_batch(networks, stills, empty, count, generator, prediction_type, image_frames=1)
            loss = loss + IMAGE_WEIGHT * images
        return loss

    return loss_at


def _one_batch(
    networks, media: LatentSet, empty: Tensor, batch: int, generator, prediction_type: str, image_frames: int
) -> Tensor:
    clean, tokens = media.draw(batch, generator)
    text = networks["text_encoder"](drop_captions(tokens, empty, generator)).last_hidden_state
    return noise_loss(networks["unet"], clean, text, generator, prediction_type, image_frames=image_frames)


def interpolation_loss(
    network: nn.Module,
    text_model: nn.Module,
    clips: LatentSet,
    empty: Tensor,
    batch: int,
    seed: int,
    frames: int,
    prediction_type: str = EPSILON,
) -> Callable[[int], Tensor]:
    """Frames between frames (LaVie, section 4.2). `clips` hold every output frame; each fourth is a key frame.

    frames: how many consecutive ones are shown at once, 4 n + 1; the network, which knows no positions, takes any
    number later. Many short pieces a step teach more than one long one, since each has its own noise level.

    With `v_prediction` the key frames can be answered with as they are where noise is strong; with `epsilon`, as
    published, every slip there is blown up, which takes far longer training to outgrow.
    """
    near = torch.tensor(nearest_keys(frames))
    pieces = (clips.latents.shape[2] - frames) // RATE + 1

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clean, tokens = clips.draw(batch, generator)
        first = RATE * int(torch.randint(pieces, (), generator=generator))
        clean = clean[:, :, first : first + frames]
        text = text_model(drop_captions(tokens, empty, generator)).last_hidden_state
        keys = clean[:, :, ::RATE].index_select(2, near)
        return noise_loss(network, clean, text, generator, prediction_type, beside=keys)

    return loss_at


def super_resolution_loss(
    network: nn.Module,
    text_model: nn.Module,
    clips: LargeClips,
    empty: Tensor,
    batch: int,
    seed: int,
    frames: int,
    prediction_type: str = VELOCITY,
) -> Callable[[int], Tensor]:
    """Detail for noised small frames (LaVie, section 4.3), `frames` of a clip at once; single frames pass time by.

    Published with `v_prediction`. With `sample` a narrow network starts from what the small frames already say (see
    `nano.start`): 35.1 dB after 200 steps, against 30.2.
    """

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clean, small, tokens = clips.draw(batch, frames, generator)
        text = text_model(drop_captions(tokens, empty, generator)).last_hidden_state
        level = torch.randint(MAX_TRAINED_NOISE_LEVEL, (batch,), generator=generator)
        low_res = noised_low_res(small, torch.randn(small.shape, generator=generator), level)
        conditions = {"class_labels": level, "low_res": low_res, "image_frames": int(frames == 1)}
        return noise_loss(network, clean, text, generator, prediction_type, **conditions)

    return loss_at
