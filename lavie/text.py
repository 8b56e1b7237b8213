"""Prompts to text embeddings of CLIP, and reports on the parts of a prompt that the encoder does not see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptReport:
    """How the text encoder reads a prompt.

    Args:
        tokens: their number, markers included.
        limit: the number that the encoder takes.
        cut: the end of the prompt that does not fit, or "".
        unknown: words that the encoder does not know.
    """

    tokens: int
    limit: int
    cut: str
    unknown: tuple[str, ...]

    def notices(self, what: str = "prompt") -> list[str]:
        """Sentences for a person about what is cut off or unknown."""
        said = []
        if self.cut:
            said.append(f"the {what} has {self.tokens} tokens of {self.limit}: “{self.cut}” was cut off, shorten it")
        if self.unknown:
            words = ", ".join(f"“{word}”" for word in self.unknown)
            said.append(
                f"this model does not know {words} in the {what}: it has only learned the words of its own world"
            )
        return said


class TextEncoder:
    """The tokenizer of a CLIP text model. The model on its device is passed to `encode`."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    @property
    def limit(self) -> int:
        """Tokens a prompt may have, both markers included."""
        return int(self.tokenizer.model_max_length)

    def read(self, prompt: str) -> PromptReport:
        """How the encoder reads a prompt. Runs no network."""
        encoded = self.tokenizer(prompt, return_offsets_mapping=True, truncation=False, verbose=False)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        cut = prompt[offsets[self.limit - 1][0] :].strip() if len(ids) > self.limit else ""
        unknown: tuple[str, ...] = ()
        if self._has_closed_vocabulary:
            spans = [span for token, span in zip(ids, offsets, strict=True) if token == self.tokenizer.unk_token_id]
            unknown = tuple(dict.fromkeys(prompt[a:b] for a, b in spans if prompt[a:b].strip()))
        return PromptReport(len(ids), self.limit, cut, unknown)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids B L, padded or cut to the encoder's length."""
        encoded: Any = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.limit, return_tensors="pt"
        )
        return encoded["input_ids"]

    def encode(self, model: Any, prompts: list[str], device: torch.device | str, frames: int | None = None) -> Tensor:
        """Embeddings of prompts, see `embeddings`. Padding is not masked, as published.

        model: a CLIP text model that runs on `device`; with sequential offloading its weights do not tell the device.
        """
        return embeddings(model, self.tokens(prompts).to(device), frames)

    @property
    def _has_closed_vocabulary(self) -> bool:
        """Whether the tokenizer has a token of its own for unknown words; CLIP's spells every word out instead."""
        return self.tokenizer.unk_token is not None and self.tokenizer.unk_token != self.tokenizer.eos_token


def frame_places(model: Any) -> int:
    """The number of places in a clip for which a CLIP text model has own positions; 0 for the published ones."""
    return int(getattr(model.config, "frame_places", 0))


def embeddings(model: Any, tokens: Tensor, frames: int | None = None) -> Tensor:
    """Embeddings of captions by a CLIP text model: tokens B L → B L C, or B F L C with a text for each frame.

    Temporal attention that only knows distances cannot tell the frames of pure noise apart. To let a small network
    learn motion, its text encoder may know `frame_places` in a clip: block 0 of its positions is for a caption alone,
    block 1 + p for a caption at place p.

    frames: of a clip that shows the caption from its beginning to its end, over which the places are spread; None for
    stills and frames without a place. It has no effect on a model without places.
    """
    places = frame_places(model)
    if not places or frames is None:
        read: Tensor = model(tokens).last_hidden_state
        return read
    spread = torch.linspace(0, places - 1, frames, device=tokens.device).round().long()
    return embeddings_at(model, tokens, spread.expand(len(tokens), -1))


def embeddings_at(model: Any, tokens: Tensor, places: Tensor) -> Tensor:
    """Embeddings B F L C of tokens B L at places B F of a clip, 0 … `frame_places` - 1."""
    (batch, length), frames = tokens.shape, places.shape[1]
    positions = length * (1 + places.flatten())[:, None] + torch.arange(length, device=tokens.device)
    read: Tensor = model(tokens.repeat_interleave(frames, 0), position_ids=positions).last_hidden_state
    return read.unflatten(0, (batch, frames))


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer in a folder, from local files only."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)


def unconditional_first(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """Both halves of classifier-free guidance as one batch: 2B L C, or 2B F L C."""
    return torch.cat([unconditional, conditional])
