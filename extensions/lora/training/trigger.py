"""The word that calls what is learned: what the model makes of it, and a vector of its own where it knows none.

A CLIP vocabulary spells out any word, so that a rare one works as it is. A closed vocabulary reads all that it does not
know as one and the same word: there the trigger gets vectors, which are trained beside the factors (textual inversion,
Gal et al., arXiv 2208.01618) and go into the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lavie.text import TextEncoder

VECTORS = 2  # of a trigger: a thing has a look and a kind
FREQUENT = 40_000  # CLIP's vocabulary is in order of frequency: what stands before this is a word that people use


class TriggerWord(nn.Module):
    """A trigger with vectors of its own."""

    def __init__(self, word: str, encoder: TextEncoder, table: nn.Module):
        """table: the text model's embeddings. The vectors begin as the mean of all words that it knows."""
        super().__init__()
        self.word, self._encoder, self._table = word, encoder, (table,)  # a tuple: the table is no part of this
        mean = table.weight[self._known()].mean(0).float()
        self.embeddings = nn.ParameterDict({"vectors": mean.repeat(VECTORS, 1)})

    @torch.no_grad()
    def begin_as(self, phrases: Sequence[str], loss: Callable[[], Tensor]) -> str | None:
        """Begin as the one of `phrases` that explains the media best, and say which; None where there is none to try.

        A trigger that begins as words which stand where it stands in captions is read as one of their kind from the
        first step. phrases: of as many tokens as there are vectors; others are left out. loss: of the media as the
        vectors are now, with the same noise each time.
        """
        numbers = {phrase: self._numbers(phrase) for phrase in phrases}
        tried = {phrase: found for phrase, found in numbers.items() if len(found) == VECTORS}
        losses = {}
        for phrase in tried:
            self._copy(tried[phrase])
            losses[phrase] = loss().item()
        if not losses:
            return None
        best = min(losses, key=losses.__getitem__)
        self._copy(tried[best])
        return best

    def _numbers(self, phrase: str) -> list[int]:
        return self._encoder.tokenizer(phrase, add_special_tokens=False)["input_ids"]

    def _copy(self, numbers: list[int]) -> None:
        self.embeddings["vectors"].copy_(self._table[0].weight[torch.tensor(numbers)])

    def _known(self) -> list[int]:
        """The numbers of the words that the text model was trained on."""
        special = set(self._encoder.tokenizer.all_special_ids)
        return [number for number in range(len(self._table[0].weight)) if number not in special]

    def words(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """As `embeddings.known_words` takes them; with `dtype`, copies in that number type."""
        vectors = self.embeddings["vectors"]
        return {self.word: vectors if dtype is None else vectors.detach().to(dtype)}


def needs_vector(encoder: TextEncoder, word: str) -> bool:
    """Whether the model would read the word as any other that it does not know."""
    return bool(encoder.read(word).unknown)


def ordinary_word(encoder: TextEncoder, word: str) -> str | None:
    """A sentence for a person where the trigger is a word that the model knows already; None for a rare one."""
    tokenizer = encoder.tokenizer
    numbers = tokenizer(word, add_special_tokens=False)["input_ids"]
    closed = tokenizer.unk_token_id not in (None, tokenizer.eos_token_id)
    known = len(numbers) == 1 and (numbers[0] != tokenizer.unk_token_id if closed else numbers[0] < FREQUENT)
    if not known:
        return None
    return (
        f"“{word}” is an ordinary word of this model: prompts that use it will change too, and what it knows of the "
        "word mixes with what it learns; a made-up one, such as “zkw”, keeps both apart"
    )
