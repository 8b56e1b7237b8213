"""How much Nano's recipe does of everything."""

from __future__ import annotations

from dataclasses import dataclass

from lavie.training.nano.marks import Group
from lavie.training.nano.mix import Mix

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
