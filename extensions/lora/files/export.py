"""Writes trained adapters to a file with kohya's names and the metadata that other tools look for.

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

_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000  # the piece of a file that the old hash covers
_SPECIFICATION = "1.0.1"


def save_kohya(path: Path | str, state: AdapterDeltas, metadata: Mapping[str, object] | None = None) -> Path:
    """Write low-rank deltas. The file appears complete or not at all and replaces an older one.

    Args:
        state: `LowRank` deltas, with factors in the number type of the file; and words.
        metadata: `ss_…` and `modelspec.…` entries beside those known from the weights; values other than texts become
            JSON. Give `ss_base_model_version` and `modelspec.architecture` for bases other than full-size LaVie.

    Raises AdapterError for deltas of another kind, or if the file cannot be written.
    """
    path, deltas = Path(path), _low_rank_deltas(state)
    words = {f"{WORD_START}{word}{WORD_END}": vectors for word, vectors in state.words.items()}
    tensors = _tensors(deltas) | {key: vectors.detach().cpu().contiguous() for key, vectors in words.items()}
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (metadata or {}).items()}
    said = _describe(path.stem, list(deltas.values())) | given
    content = save(tensors, said | _hashes(tensors, said))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise AdapterError(f"{path} was not written ({error}): make room there, or give another place") from None
    return path


def _low_rank_deltas(state: AdapterDeltas) -> dict[str, LowRank]:
    """The deltas by kohya's names."""
    found = {}
    for part in PARTS:
        for layer, delta in state.of(part).items():
            if not isinstance(delta, LowRank):
                raise AdapterError(f"{layer} is changed by a {type(delta).__name__}: only low-rank ones can be written")
            found[kohya_name(part, layer)] = delta
    if not found:
        raise AdapterError("there is no change to write: train an adapter first")
    return found


def _tensors(deltas: Mapping[str, LowRank]) -> dict[str, Tensor]:
    found = {}
    for name, delta in deltas.items():
        down, up = delta.factors["down"], delta.factors["up"]
        up = up.reshape(*up.shape, *(1 for _ in down.shape[2:]))
        found[f"{name}.lora_down.weight"] = down.detach().cpu().contiguous()
        found[f"{name}.lora_up.weight"] = up.detach().cpu().contiguous()
        found[f"{name}.alpha"] = torch.tensor(float(delta.alpha))
    return found


def _describe(name: str, deltas: list[LowRank]) -> dict[str, str]:
    """The metadata known from the weights."""
    kernels = [delta for delta in deltas if any(n > 1 for n in delta.shape[2:])]
    largest = max(deltas, key=lambda delta: delta.rank)
    arguments = {}
    if kernels:
        widest = max(kernels, key=lambda delta: delta.rank)
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
    """Hashes of the weights alone, and of a piece of the file with its training metadata, as the other tools define
    them.
    """
    content = save(tensors, {name: value for name, value in metadata.items() if name.startswith("ss_")})
    weights = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    piece = content[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]
    return {
        "sshs_model_hash": weights,
        "sshs_legacy_hash": hashlib.sha256(piece).hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{weights}",
    }
