"""What a diffusion network learns from: batches of latents with captions, and the losses of the cascade's networks.

Every draw of a step comes from one generator keyed by the seed and the step's number. Knows no optimiser and no file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lavie.key_frames import RATE, show
from lavie.latents import Whole
from lavie.manifest import EPSILON, NEAREST, VELOCITY
from lavie.noise import derive_seed
from lavie.sampling import TRAIN_STEPS, add_noise, training_target
from lavie.stages.super_resolution import noised_low_res
from lavie.text import embeddings, embeddings_at, frame_places
from lavie.training.masks import beside_noise, draw_mask, seam_weights
from lavie.training.media import LargeMedia, Media

CAPTION_DROPOUT = 0.1  # share of captions that are emptied, so that guidance has an unconditional half to lean on
CENTRE = -0.4  # mean logit of central timesteps: shapes are decided around 400


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "training", step))


def drop_captions(tokens: Tensor, empty: Tensor, generator: torch.Generator, share: float = CAPTION_DROPOUT) -> Tensor:
    """Replace a share of the captions (B L) by the tokens of the empty prompt (L)."""
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], empty, tokens)


def noised(
    clean: Tensor, generator: torch.Generator, least: int = 0, tilt: float = 0, central: float = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents B C F H W with noise, at timesteps B (`least` … 999) drawn for each, and that noise, where `clean` is.

    tilt: timesteps t come by with a density of t^tilt: 0 is all alike, and with more strong noise is rather drawn.
    central: share of timesteps whose logit is normal instead (Esser et al., arXiv 2403.03206, section 3.1).
    Whatever the device, everything is drawn on the CPU: the same step sees the same noise everywhere.
    """
    share = torch.rand(len(clean), generator=generator) ** (1 / (1 + tilt))
    if central:
        logit = CENTRE + torch.randn(len(clean), generator=generator)
        share = torch.where(torch.rand(len(clean), generator=generator) < central, logit.sigmoid(), share)
    timestep = (least + (TRAIN_STEPS - least) * share).long().clamp(max=TRAIN_STEPS - 1).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    return add_noise(clean, noise, timestep), timestep, noise


# Where each frame of a clip reads a text of its own: share of batches of clips that are read so (the others as those of
# a long video are), and of stills (a word that only stills have would else never be heard in a clip).
PLACED_CLIPS, PLACED_STILLS = 0.9, 0.5
IMAGE_WEIGHT = 0.25  # α of L_V + α L_I: with M = 4 stills for 16 frames, every frame counts the same
MAX_TRAINED_NOISE_LEVEL = 120  # of 350: what it takes to hide the base stage's slips
IMAGES_PER_CLIP = 4  # M (LaVie, section 5.2)


def noise_loss(
    network: nn.Module,
    clean: Tensor,
    text: Tensor,
    generator: torch.Generator,
    prediction_type: str = EPSILON,
    beside: Tensor | None = None,
    onto: Tensor | None = None,
    weights: Tensor | None = None,
    central: float = 0,
    **conditions,
) -> Tensor:
    """Mean squared error of the network's prediction at random timesteps (Ho et al., arXiv 2006.11239, eq. 14).

    clean: B C F H W, on the network's device. text: B L C or B F L C. beside: B c F H W channels put behind the noisy
    ones. onto: like `clean`, what the prediction is added to. weights: B F, how much each frame counts; None: alike.
    central: as `noised`.
    """
    noisy, timestep, noise = noised(clean, generator, central=central)
    if beside is not None:
        noisy = torch.cat([noisy, beside], dim=1)
    prediction = network(noisy, timestep, text, **conditions).float()
    if onto is not None:
        prediction = onto + prediction
    error = (prediction - training_target(clean, noise, timestep, prediction_type)).square()
    return (error if weights is None else error * weights[:, None, :, None, None]).mean()


def embed(text_model: nn.Module, tokens: Tensor, empty: Tensor, generator: torch.Generator) -> Tensor:
    """Embeddings of captions (B L), some of them emptied, where the text model is."""
    return embeddings(text_model, drop_captions(tokens, empty, generator).to(text_model.device))


def still_loss(
    networks: nn.ModuleDict,
    stills: Media,
    empty: Tensor,
    batch: int,
    seed: int,
    prediction_type: str = EPSILON,
    central: float = 0,
) -> Callable[[int], Tensor]:
    """Text-to-image: stills alone, past all that mixes time. `networks` has "unet" and "text_encoder"."""

    def loss_at(step: int) -> Tensor:
        how = (empty, step_generator(seed, step), prediction_type)
        return _one_batch(networks, stills, batch, *how, image_frames=1, placed=0, central=central)

    return loss_at


def joint_loss(
    networks: nn.ModuleDict,
    clips: Media,
    stills: Media | None,
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
        how = (empty, generator, prediction_type)
        loss = _one_batch(networks, clips, batch, *how, image_frames=0, placed=PLACED_CLIPS)
        if stills is not None:
            images = _one_batch(networks, stills, batch * IMAGES_PER_CLIP, *how, image_frames=1, placed=PLACED_STILLS)
            loss = loss + IMAGE_WEIGHT * images
        return loss

    return loss_at


def _one_batch(
    networks,
    media: Media,
    batch: int,
    empty: Tensor,
    generator,
    prediction_type: str,
    *,
    image_frames: int,
    placed: float,
    central: float = 0,
) -> Tensor:
    """The loss of a batch. placed: share of batches that read captions as frames of a clip do."""
    clean, tokens = media.draw(batch, generator)
    text_model = networks["text_encoder"]
    tokens = drop_captions(tokens, empty, generator).to(text_model.device)
    text = placed_at_times(text_model, tokens, clean.shape[2], placed, generator)
    clean = clean.to(text.device)
    conditions = {"central": central, "image_frames": image_frames}
    return noise_loss(networks["unet"], clean, text, generator, prediction_type, **conditions)


def placed_at_times(
    text_model: nn.Module, tokens: Tensor, frames: int, share: float, generator: torch.Generator
) -> Tensor:
    """Embeddings of captions B L, in a `share` of the calls as frames of a clip read them, B F L C, stills as frames
    anywhere in it; else, and by a model that knows no places, all alike, B L C (`text.embeddings`)."""
    if not frame_places(text_model) or float(torch.rand((), generator=generator)) >= share:
        return embeddings(text_model, tokens)
    if frames > 1:
        return embeddings(text_model, tokens, frames)
    places = torch.randint(frame_places(text_model), (len(tokens), 1), generator=generator)
    return embeddings_at(text_model, tokens, places.to(tokens.device))


def concat_loss(
    networks: nn.ModuleDict,
    clips: Media,
    stills: Media,
    empty: Tensor,
    batch: int,
    seed: int,
    prediction_type: str = EPSILON,
) -> Callable[[int], Tensor]:
    """Joint training as the paper describes it (LaVie, section 4.1): the stills behind the clip on the frame axis.

    One timestep a sample for clip and stills, a caption of its own for each still, and the plain mean over all frames,
    which is L_V + M/F L_I up to a factor. The clip's group norms see the stills. Both have one size.
    """

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clip, clip_tokens = clips.draw(batch, generator)
        images, image_tokens = stills.draw(batch * IMAGES_PER_CLIP, generator)
        images = images.squeeze(2).unflatten(0, (batch, -1)).transpose(1, 2)  # (B M) C 1 h w → B C M h w
        text_model, frames = networks["text_encoder"], clip.shape[2]
        tokens = drop_captions(torch.cat([clip_tokens, image_tokens]), empty, generator).to(text_model.device)
        of_clip = embeddings(text_model, tokens[:batch], frames)
        if of_clip.ndim == 3:
            of_clip = of_clip[:, None].expand(-1, frames, -1, -1)
        of_images = embeddings(text_model, tokens[batch:]).unflatten(0, (batch, -1))
        text = torch.cat([of_clip, of_images], dim=1)  # B F+M L C
        clean = torch.cat([clip, images], dim=2).to(text.device)
        network = networks["unet"]
        return noise_loss(network, clean, text, generator, prediction_type, image_frames=IMAGES_PER_CLIP)

    return loss_at


def interpolation_loss(
    network: nn.Module,
    text_model: nn.Module,
    clips: Media,
    empty: Tensor,
    batch: int,
    seed: int,
    frames: int,
    prediction_type: str = EPSILON,
    conditioning: str = NEAREST,
) -> Callable[[int], Tensor]:
    """Frames between frames (LaVie, section 4.2). `clips` hold every output frame; each fourth is a key frame.

    frames: how many consecutive ones are shown at once, 4 n + 1; the network, which knows no positions, takes any
    number later. Many short pieces a step teach more than one long one, since each has its own noise level.

    With `v_prediction` the key frames can be answered with as they are where noise is strong; with `epsilon`, as
    published, every slip there is blown up, which takes far longer training to outgrow.
    """
    pieces = (clips.frames - frames) // RATE + 1

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clean, tokens = clips.draw(batch, generator)
        first = RATE * int(torch.randint(pieces, (), generator=generator))
        text = embed(text_model, tokens, empty, generator)
        shown = show(Whole(clean[:, :, ::RATE].to(text.device)), range(first, first + frames), conditioning)
        clean = clean[:, :, first : first + frames].to(text.device)
        return noise_loss(network, clean, text, generator, prediction_type, shown.beside, shown.residual_base)

    return loss_at


def extension_loss(
    network: nn.Module,
    text_model: nn.Module,
    clips: Media,
    grey: Tensor,
    empty: Tensor,
    batch: int,
    seed: int,
    prediction_type: str = EPSILON,
) -> Callable[[int], Tensor]:
    """The rest of a clip of which some frames are given (SEINE, section 3.2): 9 channels, noise, mask, masked latents.

    A mask of its own for each clip; the frames beside those that are given count most. grey: as `beside_noise`.
    """

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clean, tokens = clips.draw(batch, generator)
        tokens = drop_captions(tokens, empty, generator).to(text_model.device)
        mask = torch.stack([draw_mask(clips.frames, generator) for _ in range(batch)])
        text, clean = _placed_where_free(text_model, tokens, mask), clean.to(tokens.device)
        beside = beside_noise(clean, grey, mask)
        weights = torch.stack([seam_weights(each) for each in mask]).to(clean)
        return noise_loss(network, clean, text, generator, prediction_type, beside=beside, weights=weights)

    return loss_at


def _placed_where_free(text_model: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """B L C, or B F L C by an encoder that knows places: clips of which nothing is given (mask B F) have them."""
    alike = embeddings(text_model, tokens)
    if not frame_places(text_model):
        return alike
    free = mask.all(1).to(tokens.device)[:, None, None, None]
    return torch.where(free, embeddings(text_model, tokens, mask.shape[1]), alike[:, None])


def super_resolution_loss(
    network: nn.Module,
    text_model: nn.Module,
    clips: LargeMedia,
    empty: Tensor,
    batch: int,
    seed: int,
    frames: int,
    prediction_type: str = VELOCITY,
    crop: tuple[int, int] | None = None,
) -> Callable[[int], Tensor]:
    """Detail for noised small frames (LaVie, section 4.3), `frames` of a clip at once; single frames pass time by.

    crop: width and height that are cut at random out of the small frames, and the same place out of the latents.
    Published with `v_prediction`. With `sample` a narrow network starts from what the small frames already say (see
    `nano.start`): 35.1 dB after 200 steps, against 30.2.
    """

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)
        clean, small, tokens = clips.draw(batch, frames, generator)
        if crop is not None:
            clean, small = _cropped(clean, small, crop, generator)
        text = embed(text_model, tokens, empty, generator)
        level = torch.randint(MAX_TRAINED_NOISE_LEVEL, (batch,), generator=generator)
        low_res = noised_low_res(small, torch.randn(small.shape, generator=generator), level).to(text.device)
        conditions = {"class_labels": level, "low_res": low_res, "image_frames": int(frames == 1)}
        return noise_loss(network, clean.to(text.device), text, generator, prediction_type, **conditions)

    return loss_at


def _cropped(clean: Tensor, small: Tensor, crop: tuple[int, int], generator) -> tuple[Tensor, Tensor]:
    """The same piece of latents and small frames, both … h w: one place for the whole batch."""
    (width, height), (rows, columns) = crop, small.shape[-2:]
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    rows, columns = slice(top, top + height), slice(left, left + width)
    return clean[..., rows, columns], small[..., rows, columns]
