"""The media that losses draw from, in memory, and files of their tensors; `data` holds media in files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lavie.errors import TrainingError
from lavie.files import publish
from lavie.manifest import first_line
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
    """Items of `frames` frames each that a loss draws from."""

    @property
    def frames(self) -> int: ...

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` items drawn with replacement: float32 latents B C F H W and tokens B L."""
        ...


@dataclass(frozen=True)
class Windows:
    """`frames` consecutive frames from anywhere in longer clips, as `Media`."""

    clips: Media
    frames: int

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latents, tokens = self.clips.draw(count, generator)
        firsts = torch.randint(self.clips.frames - self.frames + 1, (count,), generator=generator).tolist()
        windows = [clip[:, first : first + self.frames] for clip, first in zip(latents, firsts, strict=True)]
        return torch.stack(windows), tokens


class LargeMedia(Protocol):
    """Large clips that super-resolution draws from."""

    def draw_large(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents B C f h w, small frames B 3 f h w in -1 … 1, and tokens B L, of `frames` consecutive frames."""
        ...


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

    def draw_large(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(self.latents), (count,), generator=generator)
        clips = [(self.latents[index], self.small[index]) for index in chosen.tolist()]
        return *cut_pieces(clips, frames, generator), self.tokens[chosen]


def cut_pieces(
    clips: Sequence[tuple[Tensor, Tensor]], frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`frames` consecutive frames from anywhere in each pair of latents C F h w and small frames uint8 F h w 3."""
    latents, small = [], []
    for large, beside in clips:
        first = int(torch.randint(large.shape[1] - frames + 1, (), generator=generator))
        latents.append(large[:, first : first + frames].float())
        small.append(from_uint8(beside[first : first + frames]).transpose(0, 1))
    return torch.stack(latents), torch.stack(small)


def write_tensors(file: Path, tensors: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file that appears whole or not at all, even after a crash.

    Raises TrainingError with the reason alone where it cannot be written.
    """
    partial = file.with_suffix(f".{os.getpid()}.partial")  # two processes may encode copies of a medium
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Contiguous copies: safetensors stores plain row-major data, channels-last weights are not.
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=about)
        publish(partial, file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)  # half a file is of no use and takes the room of a whole one
        raise TrainingError(first_line(error)) from None
