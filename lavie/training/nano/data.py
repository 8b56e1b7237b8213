"""Nano's training data: batches of pictures for its autoencoders, encoded stills and clips for its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from torch import Tensor

from lavie.stages.super_resolution import SCALE
from lavie.text import TextEncoder
from lavie.training.media import LargeClips, LatentSet
from lavie.training.nano.networks import FRAMES, HEIGHT, WIDTH
from lavie.training.world import Staging, Subject, random_scene, stage
from lavie.vae import from_uint8

TWO_SUBJECTS = 0.4  # share of scenes with two subjects
SPUN = 0.25  # share of the subjects in clips that spin whatever was drawn for them: with those drawn so, 30 %
TURNED = 1 / 3  # share of the shapes in stills that stand at any angle
RECOLOURED = 0.6  # share of the autoencoders' pictures in colours that no caption names
ENCODED_AT_ONCE = 32  # frames: more no longer fit the cache, and take twice the time
OUTPUT_FRAMES = 60  # steps between the first and the last frame of an interpolated clip


def frames_to_tensor(frames: np.ndarray) -> Tensor:
    """Frames F H W 3 in 0 … 255 → float32 F 3 H W in -1 … 1."""
    return from_uint8(torch.from_numpy(np.ascontiguousarray(frames)))


def random_staging(seed: int, index: int, *, held_out: bool, turned: float = 0.0, spun: float = 0.0) -> Staging:
    """The `index`-th clip of a run's world.

    Args:
        held_out: whether purple and hearts may appear.
        turned: share of shapes that stand at any angle; the others are nearly upright.
        spun: share of subjects that are made to spin.
    """
    rng = np.random.default_rng([seed, index])
    scene = random_scene(rng, held_out=held_out, two=TWO_SUBJECTS)
    if spun:
        subjects = (_make_spin(subject) if rng.random() < spun else subject for subject in scene.subjects)
        scene = replace(scene, subjects=tuple(subjects))
    staging = stage(scene, rng)
    placements = [
        replace(placement, angle=rng.uniform(-math.pi, math.pi)) if rng.random() < turned else placement
        for placement in staging.placements
    ]
    return replace(staging, placements=tuple(placements))


def _make_spin(subject: Subject) -> Subject:
    """The subject spinning; nobody sees it of a circle."""
    return subject if subject.shape == "circle" else replace(subject, motion="spinning")


def picture_batches(
    height: int, width: int, crop: int, crops: int, whole: int, seed: int, only_whole_from: int
) -> Callable[[int], Tensor]:
    """Step → frames B 3 h w for an autoencoder.

    Mostly crops about the outlines, where everything is that is hard to encode, and at every sixth step whole frames,
    on whose statistics the group norms will run; from step `only_whole_from` on nothing else.
    """

    def batch_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        entire = step % 6 == 0 or step >= only_whole_from
        pictures = _draw_pictures(rng, height, width, None if entire else crop)
        chosen = [next(pictures) for _ in range(whole if entire else crops)]
        return frames_to_tensor(np.stack(chosen))

    return batch_at


def _draw_pictures(rng: np.random.Generator, height: int, width: int, crop: int | None) -> Iterator[np.ndarray]:
    while True:
        staging = stage(random_scene(rng, held_out=True, two=0.3), rng)
        moment = float(rng.random())
        frame = staging.at([moment], height, width)[0]
        if rng.random() < RECOLOURED:
            frame = _recolour(frame, rng)
        if crop is None:
            yield frame
            continue
        for placement in staging.placements * 2:
            outline = placement.outline(moment) * height
            x, y = outline[rng.integers(len(outline))] + rng.normal(0, crop / 7, 2)
            left, top = int(np.clip(x - crop / 2, 0, width - crop)), int(np.clip(y - crop / 2, 0, height - crop))
            yield frame[top : top + crop, left : left + crop]


def _recolour(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same picture in other colours: channels permuted, some inverted, each with its own gain and offset."""
    shuffled = frame[..., rng.permutation(3)].astype(np.float32)
    inverted = np.where(rng.random(3) < 0.3, 255 - shuffled, shuffled)
    return np.clip(inverted * rng.uniform(0.6, 1, 3) + rng.uniform(0, 30, 3), 0, 255)


@torch.no_grad()
def encode_world(
    vae: AutoencoderKL,
    text: TextEncoder,
    count: int,
    seed: int,
    *,
    clips: bool,
    frames: int = FRAMES,
    until: float = 1.0,
) -> LatentSet:
    """Encode `count` clips without purple and hearts, or `count` stills with them.

    A still is a moment of a clip, so that stills show every place and size that clips will; its caption is silent on
    motion.

    until: the time at which a clip ends (see `world.Placement.outline`).
    """
    spun, turned = (SPUN, 0.0) if clips else (0.0, TURNED)
    stagings = [random_staging(seed, i, held_out=not clips, turned=turned, spun=spun) for i in range(count)]
    moments = np.random.default_rng([seed, count]).random(count)
    at_once = max(1, ENCODED_AT_ONCE // (frames if clips else 1))
    encoded = []
    for start in range(0, count, at_once):
        filmed = [
            staging.film(frames, HEIGHT, WIDTH, until) if clips else staging.at([moment], HEIGHT, WIDTH)
            for staging, moment in zip(stagings[start : start + at_once], moments[start : start + at_once], strict=True)
        ]
        pixels = frames_to_tensor(np.concatenate(filmed)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(pixels).latent_dist.mode().to(torch.float16)
        encoded.append(latents.unflatten(0, (len(filmed), -1)).transpose(1, 2))
    captions = [(staging.scene if clips else staging.scene.still()).caption for staging in stagings]
    return LatentSet(torch.cat(encoded).contiguous(), text.tokens(captions))


@torch.no_grad()
def encode_grey(vae: AutoencoderKL) -> Tensor:
    """C h w, the latents of a mid-grey frame, which stands for the frames that extension is not given."""
    latents: Tensor = vae.encode(torch.zeros(1, 3, HEIGHT, WIDTH)).latent_dist.mode()
    return latents[0]


@torch.no_grad()
def encode_large_clips(
    vae: AutoencoderKL, text: TextEncoder, count: int, seed: int, frames: int, height: int = HEIGHT, width: int = WIDTH
) -> LargeClips:
    """Encode `count` windows of neighbouring output frames, filmed at `height` × `width` and `SCALE` times as large.

    Purple and hearts appear, since detail has no motion to learn.
    """
    latents, small, captions = [], [], []
    for index in range(count):
        staging = random_staging(seed, index, held_out=True)
        first = np.random.default_rng([seed, index, 1]).uniform(0, 1 - frames / OUTPUT_FRAMES)
        moments = first + np.arange(frames) / OUTPUT_FRAMES
        pixels = frames_to_tensor(staging.at(moments, SCALE * height, SCALE * width))
        encoded = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        latents.append(encoded.to(torch.float16).transpose(0, 1))
        small.append(torch.from_numpy(staging.at(moments, height, width)))
        captions.append(staging.scene.caption)
    return LargeClips(torch.stack(latents), torch.stack(small), text.tokens(captions))
