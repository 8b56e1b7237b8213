"""Stage 3: small frames → the latents of frames four times as large."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from lavie.events import SUPER_RESOLUTION, Step
from lavie.latents import Latents
from lavie.layers import TextContext
from lavie.noise import CONDITION, frame_noise
from lavie.sampling import Guided
from lavie.stages.windowed import Run, denoise_windows
from lavie.tiles import in_pieces

SCALE = 4  # output pixels for each input pixel, across and down
# Of the noise on the small frames, as in the published upscaler.
LOW_RES_SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 2e-2, "beta_schedule": "scaled_linear"}


class InPieces:
    """A network that works on overlapping tiles of its frames, called like the network itself.

    The tiles are blended at each step, so that they stay parts of one picture. tile: edge of a tile in latents.
    """

    def __init__(self, network: Any, tile: int):
        self._network, self._tile = network, tile
        self._multiple = 2 ** (len(network.config.block_out_channels) - 1)  # of the network's smallest picture

    def __call__(self, sample: Tensor, timestep: Tensor, text: TextContext, *, low_res: Tensor, **rest: Any) -> Tensor:
        """sample and low_res: B C F H W → a prediction of the same size."""

        def compute(rows: slice, columns: slice) -> Tensor:
            place = (..., rows, columns)
            return self._network(sample[place], timestep, text, low_res=low_res[place], **rest)

        height, width = sample.shape[3:]
        return in_pieces((height, width), self._tile, compute, self._multiple)


class Decoded:
    """Frames 1 3 n H W in -1 … 1, decoded from latents when they are read."""

    def __init__(self, latents: Latents, decode: Callable[[Tensor], Iterable[Tensor]]):
        """decode: latents 1 C n h w → n frames 1 3 H W."""
        self._latents, self._decode, self.frames = latents, decode, latents.frames
        self._held: dict[int, Tensor] = {}

    def read(self, numbers: Sequence[int]) -> Tensor:
        missing = [number for number in dict.fromkeys(numbers) if number not in self._held]
        held = {number: self._held[number] for number in numbers if number in self._held}
        if missing:
            held.update(zip(missing, self._decode(self._latents.read(missing)), strict=True))
        self._held = held  # the next window reads some of them again
        return torch.stack([held[number] for number in numbers], dim=2)


def noised_low_res(frames: Tensor, noise: Tensor, level: int | Tensor) -> Tensor:
    """Small frames B 3 F H W in -1 … 1 with noise of a level 0 … 350, one number or B."""
    levels = torch.as_tensor(level, device=frames.device).expand(frames.shape[0])
    scheduler: Any = DDPMScheduler(**LOW_RES_SCHEDULE)
    noised: Tensor = scheduler.add_noise(frames, noise, levels)
    return noised


def super_resolve(network: Any, frames: Latents, noise_level: int, run: Run) -> Generator[Step, None, Latents]:
    """Add detail.

    Args:
        network: a `SuperResolutionUNet` on its device.
        frames: the small frames, 1 3 n H W in -1 … 1.
        noise_level: 0 … 350.

    Returns:
        latents for the ×4 autoencoder, of the size of the small frames.
    """
    like = run.text_at([0])
    height, width = frames.read([0]).shape[3:]
    level = torch.tensor([noise_level], device=like.device)
    denoiser: Callable[..., Tensor] = InPieces(network, run.mode.tile // SCALE) if run.mode.tile else network

    def predictor_at(start: int, shown: Sequence[int]) -> Guided:
        numbers = range(start, start + len(shown))
        noise = frame_noise(run.seed, (SUPER_RESOLUTION, CONDITION), numbers, (3, height, width)).to(like)
        low_res = noised_low_res(frames.read(shown).to(like), noise, noise_level)
        return run.guided(denoiser, shown, conditions={"low_res": low_res, "class_labels": level})

    shape = (network.config.out_channels, frames.frames, height, width)
    return (yield from denoise_windows(SUPER_RESOLUTION, predictor_at, shape, run, like.device))
