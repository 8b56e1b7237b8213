"""Stage 3: small frames → the latents of frames four times as large, window by window without a seam."""

from __future__ import annotations

from collections.abc import Generator

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from lavie.bundle import StageDefaults
from lavie.events import SUPER_RESOLUTION, Step
from lavie.latents import Latents
from lavie.layers import TextContext
from lavie.noise import CONDITION, frame_noise
from lavie.plans import PLAIN, MemoryMode
from lavie.request import Sampling
from lavie.sampling import Guided
from lavie.stages.windowed import KeptWindows, Text, denoise_windows, text_at
from lavie.tiles import in_pieces

SCALE = 4  # output pixels for each input pixel, across and down
# The noise on the small frames has a schedule of its own, that of the published upscaler.
LOW_RES_SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 2e-2, "beta_schedule": "scaled_linear"}


class InPieces:
    """A network over overlapping pieces of its frames, called like the network itself.

    tile: edge of a piece in latents. Blended at each step, all pieces stay parts of one picture.
    """

    def __init__(self, network: nn.Module, tile: int):
        self._network, self._tile = network, tile
        self._multiple = 2 ** (len(network.config.block_out_channels) - 1)  # of the network's smallest picture

    def __call__(self, sample: Tensor, timestep: Tensor, context: TextContext, *, low_res: Tensor, **rest) -> Tensor:
        """sample and low_res: B C F H W → a prediction of the same size."""

        def compute(rows: slice, columns: slice) -> Tensor:
            place = (..., rows, columns)
            return self._network(sample[place], timestep, context, low_res=low_res[place], **rest)

        return in_pieces(sample.shape[3:], self._tile, compute, self._multiple)


def noised_low_res(frames: Tensor, noise: Tensor, level: int | Tensor) -> Tensor:
    """Small frames B 3 F H W in -1 … 1 with noise of `level` (0 … 350; one number, or one a clip)."""
    levels = torch.as_tensor(level, device=frames.device).expand(frames.shape[0])
    return DDPMScheduler(**LOW_RES_SCHEDULE).add_noise(frames, noise, levels)


def super_resolve(
    network: nn.Module,
    text: Text,
    frames: Latents,
    sampling: Sampling,
    noise_level: int,
    defaults: StageDefaults,
    seed: int,
    kept: KeptWindows | None = None,
    rung: MemoryMode = PLAIN,
) -> Generator[Step, None, Latents]:
    """Add detail.

    Args:
        network: a `SuperResolutionUNet` on its device.
        text: 2 L C, the negative prompt's embeddings first; 1 L C where guidance is 1. Or one for each window.
        frames: the small frames, 1 3 n H W in -1 … 1 as they are read.
        noise_level: 0 … 350.
        kept: see `denoise_windows`.
        rung: whether pieces of a frame are denoised one by one, blended at each step, and halves in turn.

    Returns:
        latents for the ×4 autoencoder: their size is that of the small frames.
    """
    read = text_at(text)
    like = read([0])
    height, width = frames.read([0]).shape[3:]
    level = torch.tensor([noise_level], device=like.device)
    denoiser = InPieces(network, rung.tile // SCALE) if rung.tile else network

    def predictor_at(start: int, shown) -> Guided:
        numbers = range(start, start + len(shown))
        noise = frame_noise(seed, (SUPER_RESOLUTION, CONDITION), numbers, (3, height, width)).to(like)
        low_res = noised_low_res(frames.read(shown).to(like), noise, noise_level)
        conditions = {"low_res": low_res, "class_labels": level}
        options = {"conditions": conditions, "in_turn": rung.halves}
        return Guided(denoiser, read(shown), sampling.guidance, sampling.rescale, **options)

    shape = (network.config.out_channels, frames.frames, height, width)
    arguments = (shape, sampling, defaults, seed, like.device, kept)
    return (yield from denoise_windows(SUPER_RESOLUTION, predictor_at, *arguments))
