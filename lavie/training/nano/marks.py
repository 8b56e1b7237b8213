"""Marks on the way: what a base network can do by now, measured as it will be used and written beside its progress.

Losses at fixed timesteps are of media that were not trained on, with the same noise each time; pictures and clips are
of prompts drawn from all combinations, and judged from their pixels alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lavie.manifest import VELOCITY
from lavie.sampling import Guided, add_noise, denoise, make_scheduler, set_steps, training_target
from lavie.text import TextEncoder, embeddings, unconditional_first
from lavie.training.judge import matches, read, strictly
from lavie.training.media import LatentSet
from lavie.training.nano import networks as nano
from lavie.training.world import Scene, random_scene
from lavie.vae import to_uint8

LOSSES_AT = (150, 300, 500, 700, 900)
STEPS, GUIDANCE = 25, 2.5
NOISE, PROMPTS = 51, 52  # seeds
AT_ONCE = 800  # frames in a batch of samples


@dataclass(frozen=True)
class Group:
    """Prompts that are asked alike. held_out: whether purple and hearts may be asked for. two: of two subjects. shape,
    motion: what every subject is and does; None: whatever is drawn."""

    name: str
    prompts: int
    held_out: bool = True
    two: bool = False
    shape: str | None = None
    motion: str | None = None

    def scenes(self) -> list[Scene]:
        """The same at each mark."""
        numbers = (np.random.default_rng([PROMPTS, index]) for index in count())
        drawn = (random_scene(rng, held_out=self.held_out, two=float(self.two)) for rng in numbers)
        return list(islice(filter(self._is_asked, drawn), self.prompts))

    def _is_asked(self, scene: Scene) -> bool:
        wanted = {"shape": self.shape, "motion": self.motion}
        return all(getattr(s, name) == value for s in scene.subjects for name, value in wanted.items() if value)


def mark_with(
    networks: nn.ModuleDict,
    vae: AutoencoderKL,
    tokenizer,
    unseen: LatentSet,
    groups: Sequence[Group],
    file: Path,
) -> Callable[[int], dict]:
    """What a visit calls with the number of steps that are done; each mark is a line of `file`.

    networks: "unet" and "text_encoder". unseen: media that are not trained on; where they are stills, so are the
    samples, and the layers over time are passed by.
    """
    frames = unseen.frames

    @torch.no_grad()
    def measure(done: int) -> dict:
        began = time.monotonic()
        network = nano.build_network()  # not compiled, and with no state of the training's own
        network.load_state_dict(networks["unet"].state_dict())
        asked = partial(network.eval(), image_frames=1) if frames == 1 else network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            mark = {"step": done, "loss": losses(asked, networks["text_encoder"], unseen)}
            for group in groups:
                mark[group.name] = _right(asked, networks["text_encoder"], vae, tokenizer, group, frames)
        mark["seconds"] = round(time.monotonic() - began, 1)
        with file.open("a") as log:
            log.write(json.dumps(mark) + "\n")
        return mark

    return measure


def losses(network: Callable, text_model: nn.Module, media: LatentSet) -> dict[int, float]:
    """Timestep → mean squared error of the velocity, with the right words."""
    clean = media.latents.float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(NOISE))
    text = embeddings(text_model, media.tokens, _places(media.frames))
    found = {}
    for timestep in LOSSES_AT:
        at = torch.full((len(clean),), timestep)
        target = training_target(clean, noise, at, VELOCITY)
        predicted = network(add_noise(clean, noise, at), at, text).float()
        found[timestep] = round((predicted - target).square().mean().item(), 4)
    return found


def sample(network: Callable, text_model: nn.Module, tokenizer, captions: Sequence[str], frames: int) -> Tensor:
    """Latents B C F h w of captions, the same noise for the same number of them."""
    read_by_frame = embeddings(text_model, TextEncoder(tokenizer).tokens(["", *captions]), _places(frames))
    text = unconditional_first(read_by_frame[:1].expand_as(read_by_frame[1:]), read_by_frame[1:])
    shape = (len(captions), nano.LATENT_CHANNELS, frames, nano.HEIGHT // 8, nano.WIDTH // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(NOISE))
    scheduler = make_scheduler("ddim", VELOCITY)
    set_steps(scheduler, STEPS)
    *_, last = denoise(Guided(network, text, GUIDANCE), noise, scheduler, VELOCITY)
    return last.latents


def _places(frames: int) -> int | None:
    return frames if frames > 1 else None


def _right(network, text_model, vae, tokenizer, group: Group, frames: int) -> dict[str, float | None]:
    """Attribute → per cent of a group's prompts in which it is right, where a shape must fit its outline; "all" stands
    for those that are named, "any_fit" for the shape by the judge that asks for no fit. And the mean wobble."""
    scenes = group.scenes() if frames > 1 else [scene.still() for scene in group.scenes()]
    clips = _clips(network, text_model, vae, tokenizer, [scene.caption for scene in scenes], frames)
    readings = [read(clip) for clip in clips]
    verdicts = [matches(scene, strictly(reading)) for scene, reading in zip(scenes, readings, strict=True)]
    names = [name for name in ("colour", "shape", "motion", "background", "all") if name in verdicts[0]]
    right = {name: _per_cent([verdict[name] for verdict in verdicts]) for name in names}
    right["any_fit"] = _per_cent([matches(*pair)["shape"] for pair in zip(scenes, readings, strict=True)])
    wobbles = [reading.wobble for reading in readings if reading.wobble is not None]
    return {**right, "wobble": round(float(np.mean(wobbles)), 4) if wobbles else None}


def _per_cent(verdicts: list[bool]) -> float:
    return round(100 * float(np.mean(verdicts)), 1)


def _clips(network, text_model, vae, tokenizer, captions: list[str], frames: int) -> Iterator[np.ndarray]:
    """Frames F H W 3 of each caption."""
    at_once = max(1, AT_ONCE // (8 * frames))
    for start in range(0, len(captions), at_once):
        latents = sample(network, text_model, tokenizer, captions[start : start + at_once], frames)
        for clip in latents:
            yield to_uint8(vae.decode(clip.transpose(0, 1)).sample.float()).numpy()
