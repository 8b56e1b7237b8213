"""What the losses draw from, whoever holds it: a set in memory (`diffusion`), or files (`data`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Media(Protocol):
    """What a loss draws from: items of `frames` frames each."""

    frames: int

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` items drawn with replacement: float32 latents B C F H W and tokens B L."""


@dataclass(frozen=True)
class Windows:
    """`frames` consecutive frames of longer clips, begun anywhere: as `media.Media`."""

    clips: Media
    frames: int

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latents, tokens = self.clips.draw(count, generator)
        firsts = torch.randint(self.clips.frames - self.frames + 1, (count,), generator=generator).tolist()
        windows = [clip[:, first : first + self.frames] for clip, first in zip(latents, firsts, strict=True)]
        return torch.stack(windows), tokens


class LargeMedia(Protocol):
    """What super-resolution draws from."""

    def draw(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents B C f h w, small frames B 3 f h w in -1 … 1, and tokens B L, of `frames` consecutive frames."""
