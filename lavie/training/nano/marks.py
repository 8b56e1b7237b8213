"""Marks: what a base network can do during its training, measured in use and written beside its progress.

Losses at fixed timesteps are of media that are not trained on, with the same noise each time. Pictures and clips are of
prompts drawn from all combinations, and judged from their pixels alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel

from lavie.manifest import VELOCITY
from lavie.sampling import Guided, add_noise, denoise, make_scheduler, set_steps, training_target
from lavie.text import TextEncoder, embeddings, unconditional_first
from lavie.training.diffusion import Networks
from lavie.training.judge import drop_unfit_shapes, matches, read
from lavie.training.media import LatentSet
from lavie.training.nano import networks as nano
from lavie.training.world import Scene, random_scene
from lavie.vae import to_uint8

LOSSES_AT = (150, 300, 500, 700, 900)
STEPS, GUIDANCE = 25, 2.5
NOISE, PROMPTS = 51, 52  # seeds
AT_ONCE = 800  # frames in a batch of samples

Network = Callable[..., Tensor]  # noisy latents, timesteps and text → the predicted velocity


@dataclass(frozen=True)
class Group:
    """Prompts of one kind.

    Args:
        held_out: whether purple and hearts may be asked for.
        two: whether there are two subjects.
        shape, motion: of every subject; None: whatever is drawn.
    """

    name: str
    prompts: int
    held_out: bool = True
    two: bool = False
    shape: str | None = None
    motion: str | None = None

    def scenes(self) -> list[Scene]:
        """The scenes to ask for, the same at each mark."""
        numbers = (np.random.default_rng([PROMPTS, index]) for index in count())
        drawn = (random_scene(rng, held_out=self.held_out, two=float(self.two)) for rng in numbers)
        return list(islice(filter(self._is_asked, drawn), self.prompts))

    def _is_asked(self, scene: Scene) -> bool:
        wanted = {"shape": self.shape, "motion": self.motion}
        return all(getattr(s, name) == value for s in scene.subjects for name, value in wanted.items() if value)


def make_measure(
    networks: Networks, vae: AutoencoderKL, text: TextEncoder, unseen: LatentSet, groups: Sequence[Group], file: Path
) -> Callable[[int], dict[str, Any]]:
    """A function from the number of steps done to a mark, which it adds to `file` as a line.

    unseen: media that are not trained on; where they are stills, so are the samples.
    """
    frames = unseen.frames

    @torch.no_grad()
    def measure(done: int) -> dict[str, Any]:
        began = time.monotonic()
        network = nano.build_network()  # not compiled, and with no state of the training's own
        network.load_state_dict(networks.unet.state_dict())
        asked = partial(network.eval(), image_frames=1) if frames == 1 else network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            mark: dict[str, Any] = {"step": done, "loss": measure_losses(asked, networks.text_encoder, unseen)}
            for group in groups:
                mark[group.name] = _score_group(asked, networks.text_encoder, vae, text, group, frames)
        mark["seconds"] = round(time.monotonic() - began, 1)
        with file.open("a") as log:
            log.write(json.dumps(mark) + "\n")
        return mark

    return measure


def measure_losses(network: Network, text_model: CLIPTextModel, media: LatentSet) -> dict[int, float]:
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


def sample(
    network: Network, text_model: CLIPTextModel, text: TextEncoder, captions: Sequence[str], frames: int
) -> Tensor:
    """Latents B C F h w of captions, from the same noise for the same number of them."""
    read_by_frame = embeddings(text_model, text.tokens(["", *captions]), _places(frames))
    both = unconditional_first(read_by_frame[:1].expand_as(read_by_frame[1:]), read_by_frame[1:])
    shape = (len(captions), nano.LATENT_CHANNELS, frames, nano.HEIGHT // 8, nano.WIDTH // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(NOISE))
    scheduler = make_scheduler("ddim", VELOCITY)
    set_steps(scheduler, STEPS)
    *_, last = denoise(Guided(network, both, GUIDANCE), noise, scheduler, VELOCITY)
    return last.latents


def _places(frames: int) -> int | None:
    return frames if frames > 1 else None


def _score_group(
    network: Network, text_model: CLIPTextModel, vae: AutoencoderKL, text: TextEncoder, group: Group, frames: int
) -> dict[str, float | None]:
    """Attribute → per cent of a group's prompts in which it is right, where a shape must fit its outline; "all" stands
    for those that are named, "any_fit" for the shape by the judge that asks for no fit. And the mean wobble."""
    scenes = group.scenes() if frames > 1 else [scene.still() for scene in group.scenes()]
    readings, at_once = [], max(1, AT_ONCE // (8 * frames))
    for start in range(0, len(scenes), at_once):
        captions = [scene.caption for scene in scenes[start : start + at_once]]
        for clip in sample(network, text_model, text, captions, frames):
            readings.append(read(to_uint8(vae.decode(clip.transpose(0, 1)).sample.float()).numpy()))
    verdicts = [matches(scene, drop_unfit_shapes(reading)) for scene, reading in zip(scenes, readings, strict=True)]
    right: dict[str, float | None] = {}
    for name in ("colour", "shape", "motion", "background", "all"):
        if name in verdicts[0]:
            right[name] = _per_cent([verdict[name] for verdict in verdicts])
    right["any_fit"] = _per_cent([matches(*pair)["shape"] for pair in zip(scenes, readings, strict=True)])
    wobbles = [reading.wobble for reading in readings if reading.wobble is not None]
    return {**right, "wobble": round(float(np.mean(wobbles)), 4) if wobbles else None}


def _per_cent(verdicts: list[bool]) -> float:
    return round(100 * float(np.mean(verdicts)), 1)
