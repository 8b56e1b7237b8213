"""Textual inversions: words with vectors of their own (Gal et al., arXiv 2208.01618), known within a block.

The tokenizer in use is a copy, and the text model's table of embeddings stays unchanged.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor, nn

from lavie.errors import RequestError, short
from lavie.text import TextEncoder

_WORD = re.compile(r"[^\s<>:,]+|<[^\s<>:,]+>")


def spell(prompt: str, words: Mapping[str, Tensor]) -> str:
    """The prompt with one token for each vector of a word: `toy` with two vectors becomes `toy toy_1`."""
    for word in sorted(words, key=len, reverse=True):
        tokens = " ".join(_tokens(word, words[word]))
        prompt = tokens.join(re.split(rf"(?<!\w){re.escape(word)}(?!\w)", prompt))
    return prompt


@contextmanager
def extend_vocabulary(encoder: TextEncoder, model: Any, words: Mapping[str, Tensor]) -> Iterator[None]:
    """Let an encoder and its text model read words by vectors of their own.

    Args:
        encoder: gets another tokenizer within the block.
        model: the CLIP text model on any device, offloaded or not.
        words: word → N C. Prompts must pass through `spell`. The vectors may need gradients.

    Raises RequestError for a word that is malformed or already in the vocabulary.
    """
    tokenizer, plain = copy.deepcopy(encoder.tokenizer), encoder.tokenizer
    added = [_add(tokenizer, token) for word, rows in words.items() for token in _tokens(word, rows)]
    table = model.get_input_embeddings()
    numbers = torch.tensor(added, dtype=torch.long)
    seen = threading.local()  # the ids of the current call, per thread

    def hide(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        seen.ids = inputs[0]
        return (inputs[0].masked_fill(torch.isin(inputs[0], numbers.to(inputs[0].device)), 0),)

    def put_in(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        rows = (row for vectors in words.values() for row in vectors)
        for number, row in zip(added, rows, strict=True):
            output = torch.where((seen.ids == number)[..., None], row.to(output), output)
        return output

    hooks = [table.register_forward_pre_hook(hide), table.register_forward_hook(put_in)]
    encoder.tokenizer = tokenizer
    try:
        yield
    finally:
        encoder.tokenizer = plain
        for hook in hooks:
            hook.remove()


def _tokens(word: str, rows: Tensor) -> list[str]:
    return [word, *(f"{word}_{number}" for number in range(1, len(rows)))]


def _add(tokenizer: Any, token: str) -> int:
    if not _WORD.fullmatch(token):
        raise RequestError(f"an embedding is called {short(token)}: give a word without spaces, commas and colons")
    if token in tokenizer.get_vocab():
        raise RequestError(f"{short(token)} is a word of this model already: give the embedding another one")
    tokenizer.add_tokens(AddedToken(token, single_word=True, normalized=True))
    return tokenizer.convert_tokens_to_ids(token)
