"""What Nano's `cascade.json` says: how each stage runs where a request is silent, and how to show its latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from lavie.bundle import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.manifest import EXTENSION, NEIGHBOURS, SAMPLE, VELOCITY
from lavie.training.nano import networks as nano
from lavie.training.nano.data import picture_batches
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, RADII, SHAPES

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
