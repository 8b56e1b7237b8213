"""What a joint step sees: moving clips, stills that are held for some frames, and stills alone.

A word that is in no clip (purple, heart) is lost where frames are mixed, unless frames that show it are mixed as well.
A held still is such: the same picture in all of its frames, under a caption without a motion, at a place in a clip. It
teaches what mixes time to keep a heart a heart; a heart that moves is still never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lavie.manifest import VELOCITY
from lavie.text import embeddings_at, frame_places
from lavie.training.diffusion import (
    PLACED_CLIPS,
    PLACED_STILLS,
    drop_captions,
    noise_loss,
    placed_at_times,
    step_generator,
)
from lavie.training.media import LatentSet

HELD_FRAMES = 4


@dataclass(frozen=True)
class Mix:
    """How many of each there are in a step."""

    clips: int
    held: int
    stills: int


def mixed_loss(
    networks: nn.ModuleDict, clips: LatentSet, stills: LatentSet, empty: Tensor, mix: Mix, seed: int, central: float
) -> Callable[[int], Tensor]:
    """Joint image-video training (LaVie, section 4.1), each kind in a pass of its own, all frames weighed alike.

    networks: "unet" and "text_encoder". central: share of timesteps about the middle (`diffusion.noised`).
    """
    of_clips = mix.clips * clips.frames
    held_weight, still_weight = mix.held * HELD_FRAMES / of_clips, mix.stills / of_clips
    network, text_model = networks["unet"], networks["text_encoder"]

    def loss_at(step: int) -> Tensor:
        generator = step_generator(seed, step)

        def drawn(media: LatentSet, count: int) -> tuple[Tensor, Tensor]:
            clean, tokens = media.draw(count, generator)
            return clean, drop_captions(tokens, empty, generator)

        def error(clean: Tensor, text: Tensor, image_frames: int) -> Tensor:
            conditions = {"central": central, "image_frames": image_frames}
            return noise_loss(network, clean, text, generator, VELOCITY, **conditions)

        clean, tokens = drawn(clips, mix.clips)
        loss = error(clean, placed_at_times(text_model, tokens, clips.frames, PLACED_CLIPS, generator), 0)
        clean, tokens = drawn(stills, mix.held)
        held = clean.expand(-1, -1, HELD_FRAMES, -1, -1)
        loss = loss + held_weight * error(held, held_text(text_model, tokens, generator), 0)
        clean, tokens = drawn(stills, mix.stills)
        text = placed_at_times(text_model, tokens, 1, PLACED_STILLS, generator)
        return loss + still_weight * error(clean, text, 1)

    return loss_at


def held_text(text_model: nn.Module, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Captions B L as `HELD_FRAMES` neighbouring frames read them, from anywhere in a clip: B F L C."""
    last = frame_places(text_model) - HELD_FRAMES
    first = torch.randint(last + 1, (len(tokens), 1), generator=generator)
    return embeddings_at(text_model, tokens, first + torch.arange(HELD_FRAMES))
