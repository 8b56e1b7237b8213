"""The losses of latent diffusion: of the autoencoder, and of each network of the cascade.

Every draw of a step comes from one generator keyed by the seed and the step's number. Knows no optimiser and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from diffusers.models import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel

from lavie.key_frames import RATE, show
from lavie.latents import Whole
from lavie.manifest import EPSILON, NEAREST, VELOCITY
from lavie.noise import derive_seed
from lavie.sampling import TRAIN_STEPS, add_noise, training_target
from lavie.stages.super_resolution import noised_low_res
from lavie.text import embeddings, embeddings_at, frame_places
from lavie.training.media import LargeMedia, Media
from lavie.unet import VideoUNet

CAPTION_DROPOUT = 0.1  # share of captions that are emptied, so that guidance has an unconditional half to lean on
CENTRE = -0.4  # mean logit of central timesteps: shapes are decided around 400
# Where each frame of a clip reads a text of its own: share of batches of clips that are read so (the others as those of
# a long video are), and of stills (a word that only stills have would else never be heard in a clip).
PLACED_CLIPS, PLACED_STILLS = 0.9, 0.5
IMAGE_WEIGHT = 0.25  # α of L_V + α L_I: with M = 4 stills for 16 frames, every frame counts the same
MAX_TRAINED_NOISE_LEVEL = 120  # of 350: what it takes to hide the base stage's slips
IMAGES_PER_CLIP = 4  # M (LaVie, section 5.2)
HELD_FRAMES = 4
# Shares of clips of which extension is given no frame (a video is begun by the base network), or both ends.
ALL_MADE, ENDS_GIVEN = 0.04, 0.1
GIVEN_FRAMES = {1: 1, 2: 1, 4: 6, 8: 2}  # how many first frames the other clips give, and how often: 4 is the default
GIVEN, BESIDE, NEXT = 0.25, 3.0, 2.0  # weights in the loss: of given frames, new ones beside them, those behind these
KL_WEIGHT = 1e-4
WHITENING_WEIGHT = 0.02

Loss = Callable[[int], Tensor]  # number of a step → its loss


class Networks(nn.Module):
    """A network and the text encoder whose embeddings it reads."""

    unet: VideoUNet
    text_encoder: CLIPTextModel

    def __init__(self, unet: VideoUNet, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder


@dataclass(frozen=True)
class Batches:
    """What a loss draws at each step: `size` items. empty: L, the tokens of an empty prompt."""

    empty: Tensor
    size: int
    seed: int
    prediction_type: str = EPSILON


@dataclass(frozen=True)
class Mix:
    """The number of clips, held stills and stills in a step of `mixed_loss`."""

    clips: int
    held: int
    stills: int


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "training", step))


def drop_captions(tokens: Tensor, empty: Tensor, generator: torch.Generator, share: float = CAPTION_DROPOUT) -> Tensor:
    """Replace a share of the captions (B L) by the tokens of the empty prompt (L)."""
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], empty, tokens)


def add_random_noise(
    clean: Tensor, generator: torch.Generator, tilt: float = 0, central: float = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents B C F H W, their timesteps B (0 … 999) and the noise, where `clean` is.

    Everything is drawn on the CPU, so that a step sees the same noise on every device.

    Args:
        tilt: timesteps t are drawn with a density of t^tilt: 0 is uniform, more prefers strong noise.
        central: share of timesteps whose logit is normal instead (Esser et al., arXiv 2403.03206, section 3.1).
    """
    share = torch.rand(len(clean), generator=generator) ** (1 / (1 + tilt))
    if central:
        logit = CENTRE + torch.randn(len(clean), generator=generator)
        share = torch.where(torch.rand(len(clean), generator=generator) < central, logit.sigmoid(), share)
    timestep = (TRAIN_STEPS * share).long().clamp(max=TRAIN_STEPS - 1).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    return add_noise(clean, noise, timestep), timestep, noise


def noise_loss(
    network: nn.Module,
    clean: Tensor,
    text: Tensor,
    generator: torch.Generator,
    prediction_type: str = EPSILON,
    beside: Tensor | None = None,
    residual_base: Tensor | None = None,
    weights: Tensor | None = None,
    central: float = 0,
    **conditions: Tensor | int,
) -> Tensor:
    """Mean squared error of the network's prediction at random timesteps (Ho et al., arXiv 2006.11239, eq. 14).

    Args:
        clean: B C F H W, on the network's device.
        text: B L C or B F L C.
        beside: B c F H W, channels behind the noisy ones.
        residual_base: added to the prediction, like `clean`.
        weights: B F, how much each frame counts; None: alike.
        central: see `add_random_noise`.
        conditions: further arguments of the network.
    """
    noisy, timestep, noise = add_random_noise(clean, generator, central=central)
    if beside is not None:
        noisy = torch.cat([noisy, beside], dim=1)
    prediction = network(noisy, timestep, text, **conditions).float()
    if residual_base is not None:
        prediction = residual_base + prediction
    error = (prediction - training_target(clean, noise, timestep, prediction_type)).square()
    return (error if weights is None else error * weights[:, None, :, None, None]).mean()


def still_loss(networks: Networks, stills: Media, batches: Batches, central: float = 0) -> Loss:
    """Text to image: stills alone, which bypass all layers that mix time."""

    def loss_at(step: int) -> Tensor:
        how = (batches.empty, step_generator(batches.seed, step), batches.prediction_type)
        return _batch_loss(networks, stills, batches.size, *how, image_frames=1, placed=0, central=central)

    return loss_at


def joint_loss(networks: Networks, clips: Media, stills: Media | None, batches: Batches) -> Loss:
    """Joint image-video fine-tuning (LaVie, section 4.1): L_V + α L_I, each in a pass of its own.

    Two passes cost what one concatenated pass does and keep the stills' group norm statistics apart from the clips'.
    Without `stills` it is the video-only fine-tuning that the paper warns of.
    """

    def loss_at(step: int) -> Tensor:
        how = (batches.empty, step_generator(batches.seed, step), batches.prediction_type)
        loss = _batch_loss(networks, clips, batches.size, *how, image_frames=0, placed=PLACED_CLIPS)
        if stills is not None:
            count = batches.size * IMAGES_PER_CLIP
            images = _batch_loss(networks, stills, count, *how, image_frames=1, placed=PLACED_STILLS)
            loss = loss + IMAGE_WEIGHT * images
        return loss

    return loss_at


def mixed_loss(
    networks: Networks, clips: Media, stills: Media, empty: Tensor, mix: Mix, seed: int, central: float
) -> Loss:
    """Joint training on moving clips, held stills and stills, each in a pass of its own, all frames weighed alike.

    A word that is in no clip (purple, heart) is lost where frames are mixed, unless frames that show it are mixed as
    well. A held still is the same picture in all of its frames, under a caption without a motion, at a place in a clip.
    It teaches the layers that mix time to keep a heart a heart; a heart that moves is still never seen.
    """
    of_clips = mix.clips * clips.frames
    held_weight, still_weight = mix.held * HELD_FRAMES / of_clips, mix.stills / of_clips

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        how = (empty, generator, VELOCITY)
        loss = _batch_loss(networks, clips, mix.clips, *how, image_frames=0, placed=PLACED_CLIPS, central=central)
        clean, tokens = stills.draw(mix.held, generator)
        held, tokens = clean.expand(-1, -1, HELD_FRAMES, -1, -1), drop_captions(tokens, empty, generator)
        text = embed_held(networks.text_encoder, tokens, generator)
        error = noise_loss(networks.unet, held, text, generator, VELOCITY, central=central, image_frames=0)
        images = _batch_loss(networks, stills, mix.stills, *how, image_frames=1, placed=PLACED_STILLS, central=central)
        return loss + held_weight * error + still_weight * images

    return loss_at


def _batch_loss(
    networks: Networks,
    media: Media,
    batch: int,
    empty: Tensor,
    generator: torch.Generator,
    prediction_type: str,
    *,
    image_frames: int,
    placed: float,
    central: float = 0,
) -> Tensor:
    """The loss of a batch. placed: share of batches that read captions as frames of a clip do."""
    clean, tokens = media.draw(batch, generator)
    text_model = networks.text_encoder
    tokens = drop_captions(tokens, empty, generator).to(text_model.device)
    text = embed_at_times(text_model, tokens, clean.shape[2], placed, generator)
    how = (clean.to(text.device), text, generator, prediction_type)
    return noise_loss(networks.unet, *how, central=central, image_frames=image_frames)


def embed_at_times(
    text_model: CLIPTextModel, tokens: Tensor, frames: int, share: float, generator: torch.Generator
) -> Tensor:
    """Embeddings of captions B L: in a `share` of the calls as the frames of a clip read them, B F L C, and stills as
    frames anywhere in it; else, and by a model that knows no places, B L C (see `text.embeddings`)."""
    if not frame_places(text_model) or float(torch.rand((), generator=generator)) >= share:
        return embeddings(text_model, tokens)
    if frames > 1:
        return embeddings(text_model, tokens, frames)
    places = torch.randint(frame_places(text_model), (len(tokens), 1), generator=generator)
    return embeddings_at(text_model, tokens, places.to(tokens.device))


def embed_held(text_model: CLIPTextModel, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Captions B L as `HELD_FRAMES` neighbouring frames read them, from anywhere in a clip: B F L C."""
    last = frame_places(text_model) - HELD_FRAMES
    first = torch.randint(last + 1, (len(tokens), 1), generator=generator)
    return embeddings_at(text_model, tokens, first + torch.arange(HELD_FRAMES))


def concat_loss(networks: Networks, clips: Media, stills: Media, batches: Batches) -> Loss:
    """Joint training as the paper describes it (LaVie, section 4.1): the stills behind the clip on the frame axis.

    One timestep a sample for clip and stills, a caption of its own for each still, and the plain mean over all frames,
    which is L_V + M/F L_I up to a factor. The clip's group norms see the stills. Both have one size.
    """
    text_model = networks.text_encoder

    def loss_at(step: int) -> Tensor:
        generator, batch = step_generator(batches.seed, step), batches.size
        clip, clip_tokens = clips.draw(batch, generator)
        images, image_tokens = stills.draw(batch * IMAGES_PER_CLIP, generator)
        images = images.squeeze(2).unflatten(0, (batch, -1)).transpose(1, 2)  # (B M) C 1 h w → B C M h w
        tokens = drop_captions(torch.cat([clip_tokens, image_tokens]), batches.empty, generator).to(text_model.device)
        of_clip = embeddings(text_model, tokens[:batch], clip.shape[2])
        if of_clip.ndim == 3:
            of_clip = of_clip[:, None].expand(-1, clip.shape[2], -1, -1)
        of_images = embeddings(text_model, tokens[batch:]).unflatten(0, (batch, -1))
        text = torch.cat([of_clip, of_images], dim=1)  # B F+M L C
        how = (torch.cat([clip, images], dim=2).to(text.device), text, generator, batches.prediction_type)
        return noise_loss(networks.unet, *how, image_frames=IMAGES_PER_CLIP)

    return loss_at


def interpolation_loss(
    networks: Networks, clips: Media, batches: Batches, frames: int, conditioning: str = NEAREST
) -> Loss:
    """Frames between frames (LaVie, section 4.2). `clips` hold every output frame; each fourth is a key frame.

    With `v_prediction` the key frames can be answered with as they are where noise is strong; with `epsilon`, as
    published, every slip there is blown up, which takes far longer training to outgrow.

    Args:
        frames: consecutive ones that are shown at once, 4 n + 1. The network knows no positions and takes any number
            later. Many short pieces a step teach more than one long one, since each has its own noise level.
    """
    pieces = (clips.frames - frames) // RATE + 1

    def loss_at(step: int) -> Tensor:
        generator = step_generator(batches.seed, step)
        clean, tokens = clips.draw(batches.size, generator)
        first = RATE * int(torch.randint(pieces, (), generator=generator))
        text = _embed(networks.text_encoder, tokens, batches.empty, generator)
        shown = show(Whole(clean[:, :, ::RATE].to(text.device)), range(first, first + frames), conditioning)
        how = (clean[:, :, first : first + frames].to(text.device), text, generator, batches.prediction_type)
        return noise_loss(networks.unet, *how, shown.beside, shown.residual_base)

    return loss_at


def extension_loss(networks: Networks, clips: Media, grey: Tensor, batches: Batches) -> Loss:
    """The rest of a clip of which some frames are given (SEINE, section 3.2): 9 channels, noise, mask, masked latents.

    A mask of its own for each clip; the frames beside those that are given count most. grey: as `beside_noise`.
    """
    text_model = networks.text_encoder

    def loss_at(step: int) -> Tensor:
        generator = step_generator(batches.seed, step)
        clean, tokens = clips.draw(batches.size, generator)
        tokens = drop_captions(tokens, batches.empty, generator).to(text_model.device)
        mask = torch.stack([draw_mask(clips.frames, generator) for _ in range(batches.size)])
        text, clean = _embed_by_mask(text_model, tokens, mask), clean.to(tokens.device)
        weights = torch.stack([seam_weights(each) for each in mask]).to(clean)
        how = (clean, text, generator, batches.prediction_type)
        return noise_loss(networks.unet, *how, beside_noise(clean, grey, mask), weights=weights)

    return loss_at


def frame_mask(kind: str, frames: int) -> Tensor:
    """F, 0 where extension is given a frame and 1 where it makes one, by SEINE's names (arXiv 2310.20700, section 3.2).

    kind: `all` to be made; `first n` given; `onelast n` given at each end, of two clips to be joined.
    """
    mask = torch.ones(frames)
    place, _, count = kind.partition(" ")
    if place in ("first", "onelast"):
        mask[: int(count)] = 0
    if place == "onelast":
        mask[-int(count) :] = 0
    return mask


def draw_mask(frames: int, generator: torch.Generator) -> Tensor:
    """A mask (F) at random; at least half of the frames are to be made."""
    kind = float(torch.rand((), generator=generator))
    choices = [count for count, often in GIVEN_FRAMES.items() for _ in range(often) if 2 * count <= frames]
    count = choices[int(torch.randint(len(choices), (), generator=generator))]
    if kind < ALL_MADE:
        return frame_mask("all", frames)
    return frame_mask("onelast 1" if kind < ALL_MADE + ENDS_GIVEN and frames >= 4 else f"first {count}", frames)


def seam_weights(mask: Tensor) -> Tensor:
    """How much each frame counts in the loss, F with a mean of 1: new frames beside given ones make the seam."""
    given = mask == 0
    near = torch.full_like(mask, torch.inf)  # frames to the nearest given one
    if given.any():
        places = torch.arange(len(mask), device=mask.device)
        near = (places[:, None] - places[given]).abs().amin(1).to(mask)
    weights = torch.where(near == 1, BESIDE, torch.where(near == 2, NEXT, 1.0))
    weights = torch.where(given, GIVEN, weights)
    return weights / weights.mean()


def beside_noise(clean: Tensor, grey: Tensor, mask: Tensor) -> Tensor:
    """B 1+C F h w, shown to extension beside the noise: the mask, and the latents with `grey` in frames to be made.

    Args:
        clean: B C F h w.
        grey: C h w, the latents of a mid-grey picture.
        mask: B F.
    """
    made = mask.to(clean)[:, None, :, None, None]
    masked = clean * (1 - made) + grey.to(clean)[None, :, None] * made
    return torch.cat([made.expand(-1, -1, -1, *clean.shape[3:]), masked], dim=1)


def _embed(text_model: CLIPTextModel, tokens: Tensor, empty: Tensor, generator: torch.Generator) -> Tensor:
    """Embeddings of captions (B L), some of them emptied, where the text model is."""
    return embeddings(text_model, drop_captions(tokens, empty, generator).to(text_model.device))


def _embed_by_mask(text_model: CLIPTextModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """B L C, or B F L C by an encoder that knows places: clips of which nothing is given (mask B F) have them."""
    alike = embeddings(text_model, tokens)
    if not frame_places(text_model):
        return alike
    free = mask.all(1).to(tokens.device)[:, None, None, None]
    return torch.where(free, embeddings(text_model, tokens, mask.shape[1]), alike[:, None])


def super_resolution_loss(
    networks: Networks, clips: LargeMedia, batches: Batches, frames: int, crop: tuple[int, int] | None = None
) -> Loss:
    """Detail for noised small frames (LaVie, section 4.3), `frames` of a clip at once; single frames bypass time.

    Published with `v_prediction`. With `sample` a narrow network starts from what the small frames already say (see
    `nano.networks`): 35.1 dB after 200 steps, against 30.2.

    Args:
        crop: width and height that are cut at random out of the small frames, and the same place out of the latents.
    """

    def loss_at(step: int) -> Tensor:
        generator, batch = step_generator(batches.seed, step), batches.size
        clean, small, tokens = clips.draw_large(batch, frames, generator)
        if crop is not None:
            clean, small = _crop(clean, small, crop, generator)
        text = _embed(networks.text_encoder, tokens, batches.empty, generator)
        level = torch.randint(MAX_TRAINED_NOISE_LEVEL, (batch,), generator=generator)
        low_res = noised_low_res(small, torch.randn(small.shape, generator=generator), level).to(text.device)
        how = (clean.to(text.device), text, generator, batches.prediction_type)
        return noise_loss(networks.unet, *how, class_labels=level, low_res=low_res, image_frames=int(frames == 1))

    return loss_at


def _crop(clean: Tensor, small: Tensor, crop: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same piece of latents and small frames, both … h w: one place for the whole batch."""
    (width, height), (rows, columns) = crop, small.shape[-2:]
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    place = (..., slice(top, top + height), slice(left, left + width))
    return clean[place], small[place]


def vae_loss(
    vae: AutoencoderKL, batch_at: Callable[[int], Tensor], seed: int, whitening: float = WHITENING_WEIGHT
) -> Loss:
    """The autoencoder between frames and latents (Rombach et al. 2022, latent diffusion, section 3.1).

    The reconstruction is a squared and an absolute error, with a slight KL penalty. There is no adversary: the
    procedural world has no texture that a critic would have to bring back. A pull of the latents' covariance over
    channels towards the identity is added: without it four channels soon say the same (measured: correlations of 0.99
    between pairs after 2 000 steps), and colours have no room.

    Args:
        batch_at: number of a step → frames B C H W in -1 … 1.
    """

    def loss_at(step: int) -> Tensor:
        frames = batch_at(step)
        generator = torch.Generator().manual_seed(derive_seed(seed, "autoencoder", step))
        posterior = vae.encode(frames).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = vae.decode(posterior.mean + posterior.std * noise).sample.float() - frames
        penalty = KL_WEIGHT * posterior.kl().mean() / error[0].numel() + whitening * _colouring(posterior.mean)
        total: Tensor = error.square().mean() + 0.2 * error.abs().mean() + penalty
        return total

    return loss_at


def _colouring(latents: Tensor) -> Tensor:
    """How far latents B C H W are from white: squared distance of their mean from 0 and their covariance from 1."""
    values = latents.float().transpose(0, 1).flatten(1)
    mean = values.mean(1, keepdim=True)
    covariance = (values - mean) @ (values - mean).T / values.shape[1]
    return mean.square().sum() + (covariance - torch.eye(len(values), device=values.device)).square().sum()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, batches: Iterable[Tensor]) -> None:
    """Give every latent channel mean 0 and deviation 1, in place: the networks then need no scaling factor.

    The change of units goes into the two 1×1 convolutions around the latents, so that encoding and decoding together
    stay what they were. batches: frames B C H W to measure the latents on.
    """
    measured = torch.cat([vae.encode(batch).latent_dist.mean for batch in batches]).transpose(0, 1).flatten(1)
    mean, deviation = measured.mean(1), measured.std(1)
    channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into is not None and into.bias is not None and out is not None and out.bias is not None
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
