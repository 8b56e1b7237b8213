"""What the losses draw from, whoever holds it: a set in memory, or files (`data`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lavie.vae import from_uint8

ROWS, COLUMNS = 12, 8


def contact_sheet(clips: Sequence[np.ndarray]) -> Image.Image:
    """One clip (uint8 F H W 3, all of one size) a row, a few of its frames from left to right."""
    rows = []
    for clip in clips[:ROWS]:
        chosen = np.linspace(0, len(clip) - 1, COLUMNS).round().astype(int)
        rows.append(np.concatenate(list(clip[chosen]), axis=1))
    return Image.fromarray(np.concatenate(rows))


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


@dataclass(frozen=True)
class LatentSet:
    """Encoded media. latents: N C F H W (any float type, scaled as the network sees them). tokens: N L caption ids."""

    latents: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def frames(self) -> int:
        return self.latents.shape[2]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self), (count,), generator=generator)
        return self.latents[chosen].float(), self.tokens[chosen]


@dataclass(frozen=True)
class LargeClips:
    """Encoded large clips beside the small ones. latents: N C F h w. small: uint8 N F h w 3. tokens: N L.

    The latents of a ×4 autoencoder are as large as the small frames. Whole frames are shown, since the group norms run
    on their statistics when the network is used; a few of a clip's frames at once, for the sake of more clips a step.
    """

    latents: Tensor
    small: Tensor
    tokens: Tensor

    def draw(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        latents, small = [], []
        chosen = torch.randint(len(self.latents), (count,), generator=generator)
        for index in chosen.tolist():
            first = int(torch.randint(self.latents.shape[2] - frames + 1, (), generator=generator))
            latents.append(self.latents[index, :, first : first + frames].float())
            small.append(from_uint8(self.small[index, first : first + frames]).transpose(0, 1))
        return torch.stack(latents), torch.stack(small), self.tokens[chosen]


def write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file that is there as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(file)
