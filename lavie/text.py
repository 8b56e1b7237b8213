"""From prompts to text embeddings, and what of a prompt the encoder did not see. Knows CLIP, no network or sampler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptReport:
    """How a prompt was read. tokens: how many it has, markers included; limit: how many the encoder takes.

    cut: the end of the prompt that did not fit, empty where all did. unknown: words the encoder has never seen.
    """

    tokens: int
    limit: int
    cut: str
    unknown: tuple[str, ...]

    def notices(self, what: str = "prompt") -> list[str]:
        """Sentences for a person; none where the whole prompt was understood."""
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
    """A tokenizer and a CLIP text model as one thing. The model is passed in where it is needed, on its device."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    @property
    def limit(self) -> int:
        """Tokens a prompt may have, both markers included."""
        return self.tokenizer.model_max_length

    def read(self, prompt: str) -> PromptReport:
        """How `prompt` is understood, without running any network."""
        encoded = self.tokenizer(prompt, return_offsets_mapping=True, truncation=False, verbose=False)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        cut = prompt[offsets[self.limit - 1][0] :].strip() if len(ids) > self.limit else ""
        unknown = ()
        if self._has_closed_vocabulary:
            spans = [span for token, span in zip(ids, offsets, strict=True) if token == self.tokenizer.unk_token_id]
            unknown = tuple(dict.fromkeys(prompt[a:b] for a, b in spans if prompt[a:b].strip()))
        return PromptReport(len(ids), self.limit, cut, unknown)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids B L, padded to the encoder's length and cut there."""
        encoded = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.limit, return_tensors="pt"
        )
        return encoded["input_ids"]

    def encode(self, model, prompts: list[str], device: torch.device | str, frames: int | None = None) -> Tensor:
        """Embeddings of `prompts` by `model`, a CLIP text model that runs on `device`; see `embeddings`.

        As published, padding is seen. The device is told: weights that are offloaded layer by layer are on none.
        """
        return embeddings(model, self.tokens(prompts).to(device), frames)

    @property
    def _has_closed_vocabulary(self) -> bool:
        """A word-level tokenizer has an unknown-word token of its own; CLIP's spells every word out instead."""
        return self.tokenizer.unk_token is not None and self.tokenizer.unk_token != self.tokenizer.eos_token


def frame_places(model) -> int:
    """For how many places in a clip a CLIP text model has positions of their own; 0 for the published ones."""
    return getattr(model.config, "frame_places", 0)


def embeddings(model, tokens: Tensor, frames: int | None = None) -> Tensor:
    """How a CLIP text model reads captions: tokens B L → B L C, or B F L C, a text for each frame.

    Temporal attention that knows distances alone makes the same of frames that are the same, and while there is nothing
    but noise they are. So that a small network moves a subject as told all the same, its text encoder may know
    `frame_places` in a clip: block 0 of its positions is for a caption by itself, block 1 + p for one at place p.

    frames: of a clip that begins and ends with what the caption says, over which the places are spread; None for
    stills and for frames that have no such place. Without places in the model it makes no difference.
    """
    places = frame_places(model)
    if not places or frames is None:
        return model(tokens).last_hidden_state
    spread = torch.linspace(0, places - 1, frames, device=tokens.device).round().long()
    return embeddings_at(model, tokens, spread.expand(len(tokens), -1))


def embeddings_at(model, tokens: Tensor, places: Tensor) -> Tensor:
    """How such a model reads captions B L in frames at these places B F of a clip, 0 … `frame_places` - 1: B F L C."""
    (batch, length), frames = tokens.shape, places.shape[1]
    positions = length * (1 + places.flatten())[:, None] + torch.arange(length, device=tokens.device)
    read = model(tokens.repeat_interleave(frames, 0), position_ids=positions)
    return read.last_hidden_state.unflatten(0, (batch, frames))


def load_tokenizer(folder):
    """The tokenizer in `folder`, from local files only."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)


def unconditional_first(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """Both halves of classifier-free guidance as one batch: 2B L C, or 2B F L C."""
    return torch.cat([unconditional, conditional])
