"""An adapter's file → the changes of the layers, each checked, in the number type of the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from extensions.lora.deltas import Hadamard, Kronecker, LayerDelta, LowRank
from extensions.lora.files.alphas import Alphas
from extensions.lora.files.bases import guess_base, refuse_foreign
from extensions.lora.files.formats import (
    ALPHA,
    EMBEDDING_KEY,
    LOHA,
    LOW_RANK,
    Plan,
    Planned,
    embedding_of,
    plan,
    words_of,
)
from extensions.lora.files.header import FETCH_AGAIN, Header, read_header
from extensions.lora.names import TEXT, UNET, Shapes, Targets
from lavie.bundle import HOW_TO_GET, NETWORK_FILE, TEXT_ENCODER, TEXT_FILE, Bundle
from lavie.errors import AdapterError, BundleError, short
from lavie.events import BASE
from lavie.files import file_hash

_NO_LAYERS = ("_embedding", "relative_attention_bias")  # matrices in a file of weights that are tables


@dataclass(frozen=True)
class AdapterDeltas:
    """What a file changes: layer → change, of each part. unmatched: what it names and these networks do not have.

    words: what it brings for the prompt, word → vectors N C, see `embeddings.known_words`.
    """

    unet: dict[str, LayerDelta]
    text: dict[str, LayerDelta]
    unmatched: tuple[str, ...] = ()
    words: dict[str, Tensor] = field(default_factory=dict)

    def of(self, part: str) -> dict[str, LayerDelta]:
        return self.unet if part == UNET else self.text


def targets_of(unet: nn.Module | None = None, text: nn.Module | None = None) -> Targets:
    """The layers of networks in memory, on whatever device; parameters on the meta device will do."""
    return Targets(_layers(unet), _layers(text))


def targets_in(bundle: Bundle) -> Targets:
    """The layers of a bundle's base network and text encoder, from the headers of its files: nothing is loaded.

    Raises BundleError where these files are missing or damaged.
    """
    bundle.require(BASE)
    files = (Path(BASE) / NETWORK_FILE, Path(TEXT_ENCODER) / TEXT_FILE)
    return Targets(*(_stored_layers(bundle.folder / file) for file in files))


def read_deltas(path: Path | str, targets: Targets, sha256: str | None = None) -> AdapterDeltas:
    """Everything that a file changes in these networks.

    Args:
        sha256: what the file must have; None to take it as it is.

    Raises AdapterError for another file than was asked for, and for all that `read_header`, `plan` and the numbers in
    it may be wrong about.
    """
    header = read_header(path)
    if sha256 is not None and file_hash(header.path) != sha256:
        raise AdapterError(f"{path} is not the file that was asked for (sha256 {sha256[:12]}…): import that one again")
    if embedding_of(header) is not None:
        raise AdapterError(f"{path} is an embedding and changes no layer: use its word in the prompt")
    base = guess_base(header)
    refuse_foreign(header, base)
    return deltas_of(header, plan(header, targets, base), targets)


def deltas_of(header: Header, planned: Plan, targets: Targets) -> AdapterDeltas:
    """The changes that a plan of a file promises. Raises AdapterError for numbers that are none."""
    alphas = Alphas(header)
    found: dict[str, dict[str, LayerDelta]] = {UNET: {}, TEXT: {}}
    with _opened(header) as file:
        for layer in planned.layers:
            shape = targets.shapes(layer.part)[layer.layer]
            factors = {role: _tensor(header, file, key) for role, key in layer.keys.items()}
            alpha = factors.pop(ALPHA, None)
            number = alphas.of(layer.part, layer.layer, layer.rank) if alpha is None else alpha.double().item()
            found[layer.part][layer.layer] = _change(layer, number, shape, factors)
        words = {word: _vectors(header, file, key, targets.text_width) for word, key in words_of(header).items()}
    return AdapterDeltas(found[UNET], found[TEXT], planned.unmatched, words)


def read_embedding(path: Path | str, width: int) -> Tensor:
    """The vectors of a textual inversion: N C in float32.

    Args:
        width: C of the text encoder they are for.

    Raises AdapterError for another kind of file, another width, and numbers that are none.
    """
    header = read_header(path)
    described = embedding_of(header)
    if described is None:
        raise AdapterError(f"{path} is no embedding but an adapter: put it on the networks instead")
    with _opened(header) as file:
        return _vectors(header, file, described[0] or EMBEDDING_KEY, width)


def _vectors(header: Header, file, key: str, width: int) -> Tensor:
    """A word's vectors, N C in float32."""
    shape = (1, *header.shapes[key])[-2:]
    if shape[1] != width:
        raise AdapterError(
            f"{header.path} has vectors of {shape[1]} channels, the text encoder reads {width}: bring one made for "
            "this model"
        )
    return _tensor(header, file, key).float().reshape(shape)


def _change(layer: Planned, alpha: float, shape: tuple[int, ...], factors: dict[str, Tensor]) -> LayerDelta:
    if layer.kind == LOW_RANK:
        return LowRank.read(alpha, shape, factors)
    kind = Hadamard if layer.kind == LOHA else Kronecker
    return kind(alpha, layer.rank, shape, factors)


def _layers(network: nn.Module | None) -> Shapes:
    found = network.named_modules() if network is not None else ()
    return {name: tuple(layer.weight.shape) for name, layer in found if isinstance(layer, (nn.Linear, nn.Conv2d))}


def _stored_layers(file: Path) -> Shapes:
    try:
        with safe_open(file, "pt") as weights:
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{file} is damaged or cut short ({_first_line(error)}): {HOW_TO_GET}") from None
    names = (name.removesuffix(".weight") for name in shapes if name.endswith(".weight"))
    return {
        name: shape
        for name in names
        if len(shape := shapes[f"{name}.weight"]) in (2, 4) and not name.endswith(_NO_LAYERS)
    }


def _opened(header: Header):
    try:
        return safe_open(header.path, "pt")
    except (SafetensorError, OSError) as error:
        said = _first_line(error)
        raise AdapterError(f"{header.path.name} is damaged or cut short ({said}): {FETCH_AGAIN}") from None


def _tensor(header: Header, file, key: str) -> Tensor:
    tensor = file.get_tensor(key)
    if not torch.isfinite(tensor).all():
        raise AdapterError(
            f"{header.path.name} holds numbers that are none (NaN or infinite) in {short(key)}: {FETCH_AGAIN}"
        )
    return tensor


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
