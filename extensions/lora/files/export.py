"""Adapters that we trained → a file that other tools read: kohya's names, with the metadata that they look for.

Sources: kohya-ss/sd-scripts (`ss_…`, and `sshs_…`, the hashes of sd-webui-additional-networks), Stability-AI/ModelSpec
1.0.1 (`modelspec.…`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from extensions.lora.deltas import LowRank
from extensions.lora.files.formats import WORD_END, WORD_START
from extensions.lora.files.read import AdapterDeltas
from extensions.lora.names import PARTS, kohya_name
from lavie.errors import AdapterError

_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000  # the piece of a file that the old hash was taken of
_SPECIFICATION = "1.0.1"


def save_kohya(path: Path | str, state: AdapterDeltas, metadata: Mapping[str, object] | None = None) -> Path:
    """Write low-rank changes; the file appears whole or not at all, and replaces one that was there.

    Args:
        state: only `LowRank` changes, their factors in the number type that the file shall have; and words.
        metadata: what is known beside what the weights tell, `ss_…` and `modelspec.…`; texts as they are, other values
            as JSON. Say `ss_base_model_version` and `modelspec.architecture` for another base than full-size LaVie.

    Raises AdapterError for changes of another kind, and where the file cannot be written.
    """
    path = Path(path)
    tensors = _tensors(state)
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (metadata or {}).items()}
    said = _described(path.stem, state) | told
    content = save(tensors, said | _hashes(tensors, said))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise AdapterError(f"{path} was not written ({error}): make room there, or give another place") from None
    return path


def _tensors(state: AdapterDeltas) -> dict[str, Tensor]:
    found = {}
    for part in PARTS:
        for layer, change in state.of(part).items():
            if not isinstance(change, LowRank):
                raise AdapterError(
                    f"{layer} is changed by a {type(change).__name__}: only low-rank ones can be written"
                )
            name, down, up = kohya_name(part, layer), change.factors["down"], change.factors["up"]
            up = up.reshape(*up.shape, *(1 for _ in down.shape[2:]))
            found[f"{name}.lora_down.weight"] = down.detach().cpu().contiguous()
            found[f"{name}.lora_up.weight"] = up.detach().cpu().contiguous()
            found[f"{name}.alpha"] = torch.tensor(float(change.alpha))
    if not found:
        raise AdapterError("there is no change to write: train an adapter first")
    words = {f"{WORD_START}{word}{WORD_END}": vectors for word, vectors in state.words.items()}
    return found | {key: vectors.detach().cpu().contiguous() for key, vectors in words.items()}


def _described(name: str, state: AdapterDeltas) -> dict[str, str]:
    """What the weights themselves tell."""
    every = [change for part in PARTS for change in state.of(part).values()]
    kernels = [change for change in every if any(n > 1 for n in change.shape[2:])]
    largest = max(every, key=lambda change: change.rank)
    arguments = {}
    if kernels:
        widest = max(kernels, key=lambda change: change.rank)
        arguments = {"conv_dim": str(widest.rank), "conv_alpha": str(widest.alpha)}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(largest.rank),
        "ss_network_alpha": str(largest.alpha),
        "ss_network_args": json.dumps(arguments),
        "ss_base_model_version": "lavie_v1",
        "ss_v2": "False",
        "ss_output_name": name,
        "modelspec.sai_model_spec": _SPECIFICATION,
        "modelspec.architecture": "lavie-v1/lora",
        "modelspec.implementation": "https://github.com/Vchitect/LaVie",
        "modelspec.title": name,
    }


def _hashes(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Of the weights alone, and of a piece of the file with what training said of it: the tools' own definitions."""
    content = save(tensors, {name: value for name, value in metadata.items() if name.startswith("ss_")})
    weights = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    piece = content[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]
    return {
        "sshs_model_hash": weights,
        "sshs_legacy_hash": hashlib.sha256(piece).hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{weights}",
    }
