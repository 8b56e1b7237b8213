"""How the companions' files name their tensors, and what those are called now. Needs no torch.

The libraries that wrote them have since renamed the attention of autoencoders and unwrapped the CLIP text model.
"""

from __future__ import annotations

from collections.abc import Container

_TEXT_PREFIX = "text_model."
_POSITIONS = "embeddings.position_ids"  # 0 … 76, kept by old versions; the model counts itself
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_COMPANIONS = ("vae", "text_encoder")  # with these a component's name ends, whichever stage it serves


def our_name(component: str, name: str, expected: Container[str]) -> str | None:
    """The name that a tensor has in our bundle; None for one that is not needed there.

    expected: the names that the component has now. The networks of the cascade are called as they were published.
    """
    if name in expected or not component.endswith(_COMPANIONS):
        return name
    bare = name.removeprefix(_TEXT_PREFIX)
    if bare == _POSITIONS:
        return None
    owner, _, kind = bare.rpartition(".")
    above, _, layer = owner.rpartition(".")
    renamed = f"{above}.{_ATTENTION[layer]}.{kind}" if layer in _ATTENTION else bare
    return next((known for known in (renamed, _TEXT_PREFIX + name) if known in expected), name)
