"""A file looked at before it is let in: what it is, whether it fits, what is told of it."""

from __future__ import annotations

from pathlib import Path

from extensions.lora.adapter import safe_name
from extensions.lora.bases import UNKNOWN, guess_base, refuse_foreign
from extensions.lora.card import LISTED, AdapterCard
from extensions.lora.facts import MAX_WORD, cut, facts_of
from extensions.lora.formats import embedding_of, plan, words_of
from extensions.lora.header import read_header
from extensions.lora.names import Targets
from extensions.lora.read import changes_of, read_embedding
from lavie.files import file_hash

TEXTUAL_INVERSION = "textual inversion"


def inspect(path: Path | str, targets: Targets) -> AdapterCard:
    """The card of an adapter's file. Every number in it is looked at once; nothing is put on a network.

    Args:
        targets: the networks it is for, see `read.targets_in` and `read.targets_of`.

    Raises AdapterError with what keeps the file from being used: damage, a limit, a kind that is not supported, a
    model of other layers.
    """
    header = read_header(path)
    facts = facts_of(header)
    named = {"name": safe_name(header.path.stem) or "adapter", "size": header.size}
    if described := embedding_of(header):
        read_embedding(path, targets.text_width)
        word, (vectors, _) = described
        facts["trigger_words"] = facts["trigger_words"] or (cut(word, MAX_WORD) or header.path.stem,)
        said = {"family": TEXTUAL_INVERSION, "base_model": UNKNOWN, "vectors": vectors}
        return AdapterCard(file_hash(header.path), **named, **said, **facts)
    base = guess_base(header)
    refuse_foreign(header, base)
    planned = plan(header, targets, base)
    changes = changes_of(header, planned, targets)
    brought = (cut(word, MAX_WORD) for word in words_of(header))
    facts["trigger_words"] = tuple(dict.fromkeys((*facts["trigger_words"], *brought)))[:LISTED]
    every = [*changes.unet.values(), *changes.text.values()]
    return AdapterCard(
        file_hash(header.path),
        **named,
        family=planned.family,
        base_model=base,
        unet_layers=len(changes.unet),
        text_layers=len(changes.text),
        unmatched=len(planned.unmatched),
        unmatched_names=tuple(name[:200] for name in planned.unmatched[:LISTED]),
        ranks=tuple(sorted({change.rank for change in every if change.rank})),
        alphas=tuple(sorted({change.alpha for change in every if change.rank})),
        **facts,
    )
