"""Reads an adapter's file into checked deltas of layers, in the file's number type.

Alphas come from the file's tensors or from peft's configuration: diffusers writes it into the header with a prefix for
each part, peft into `adapter_config.json` beside the file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from extensions.lora.deltas import Hadamard, Kronecker, LayerDelta, LowRank
from extensions.lora.files.formats import (
    ALPHA,
    EMBEDDING_KEY,
    LOHA,
    LOW_RANK,
    Plan,
    Planned,
    embedding_of,
    guess_base,
    plan,
    refuse_foreign,
    words_of,
)
from extensions.lora.files.header import FETCH_AGAIN, Header, read_header
from extensions.lora.names import TEXT, UNET, Shapes, Targets
from lavie.bundle import Bundle
from lavie.errors import AdapterError, BundleError, short
from lavie.events import BASE
from lavie.files import file_hash
from lavie.manifest import HOW_TO_GET, NETWORK_FILE, TEXT_ENCODER, TEXT_FILE, first_line
from lavie.values import parse_object

IN_HEADER, _BESIDE = "lora_adapter_metadata", "adapter_config.json"
_MAX_TEXT = 2**20  # bytes
_PREFIXES = {UNET: "unet.", "text": "text_encoder."}


class Alphas:
    """The alphas in a file's configuration, if it has one. Raises AdapterError for one that cannot be read.

    Without them the file would be applied too strongly.
    """

    def __init__(self, header: Header) -> None:
        self.name, text = header.path.name, header.metadata.get(IN_HEADER)
        text = config_beside(header) if text is None else text
        try:
            self._config = {} if text is None else parse_object(text, _MAX_TEXT)
        except ValueError:
            raise self._error("a configuration", text) from None

    def of(self, part: str, layer: str, rank: int | None) -> float:
        """The alpha of a layer; `rank` if nothing is said, which is a scale of 1."""
        rank, prefix = rank or 1, _PREFIXES[part]
        own = {key.removeprefix(prefix): value for key, value in self._config.items() if key.startswith(prefix)}
        config = own or self._config
        alpha = config.get("lora_alpha", config.get("alpha"))
        pattern = config.get("alpha_pattern") or {}
        if not isinstance(pattern, dict):
            raise self._error("alpha_pattern", pattern)
        alpha = next((value for name, value in pattern.items() if self._matches(name, layer)), alpha)
        if alpha is None:
            return rank
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not math.isfinite(alpha):
            raise self._error("lora_alpha", alpha)
        return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha

    def _matches(self, pattern: str, layer: str) -> bool:
        """Whether a pattern means a layer. Only names are read, with an optional ^; a stranger's regular expressions
        are not run.
        """
        name = pattern.replace("\\.", ".")
        if not re.fullmatch(r"\^?[\w.]+", name):
            raise self._error("alpha_pattern", pattern)
        return layer == name.removeprefix("^") or (not name.startswith("^") and layer.endswith(f".{name}"))

    def _error(self, what: str, value: Any) -> AdapterError:
        return AdapterError(f"{self.name}: peft says {what} {short(value)}, which is not understood: {FETCH_AGAIN}")


def config_beside(header: Header) -> str | None:
    """The configuration beside a file; None if the file has alphas or a configuration of its own."""
    if IN_HEADER in header.metadata or any(key.endswith(".alpha") for key in header.shapes):
        return None
    try:
        with header.path.with_name(_BESIDE).open("rb") as stream:
            return stream.read(_MAX_TEXT + 1).decode("utf-8", "replace")
    except OSError:
        return None


_NO_LAYERS = ("_embedding", "relative_attention_bias")  # tables, not layers


@dataclass(frozen=True)
class AdapterDeltas:
    """What a file changes.

    unmatched: the file's names of layers that the networks lack. words: word → vectors N C.
    """

    unet: dict[str, LayerDelta]
    text: dict[str, LayerDelta]
    unmatched: tuple[str, ...] = ()
    words: dict[str, Tensor] = field(default_factory=dict)

    def of(self, part: str) -> dict[str, LayerDelta]:
        return self.unet if part == UNET else self.text


def targets_of(unet: nn.Module | None = None, text: nn.Module | None = None) -> Targets:
    """The layers of networks in memory, on any device, the meta device included."""
    return Targets(_layers(unet), _layers(text))


def targets_in(bundle: Bundle) -> Targets:
    """The layers of a bundle's base network and text encoder, from the headers of its files.

    Raises BundleError if these files are missing or damaged.
    """
    bundle.require(BASE)
    files = (Path(BASE) / NETWORK_FILE, Path(TEXT_ENCODER) / TEXT_FILE)
    return Targets(*(_stored_layers(bundle.folder / file) for file in files))


def read_deltas(path: Path | str, targets: Targets, sha256: str | None = None) -> AdapterDeltas:
    """Read all deltas of a file for these networks. sha256: the expected hash; None to accept any file.

    Raises AdapterError for another file than expected and for whatever `read_header`, `plan` and the numbers get wrong.
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
    """The deltas of a planned file. Raises AdapterError for NaN or infinite numbers."""
    alphas = Alphas(header)
    found: dict[str, dict[str, LayerDelta]] = {UNET: {}, TEXT: {}}
    with _open(header) as file:
        for layer in planned.layers:
            shape = targets.shapes(layer.part)[layer.layer]
            factors = {role: _tensor(header, file, key) for role, key in layer.keys.items()}
            alpha = factors.pop(ALPHA, None)
            number = alphas.of(layer.part, layer.layer, layer.rank) if alpha is None else alpha.double().item()
            found[layer.part][layer.layer] = _make_delta(layer, number, shape, factors)
        words = {word: _vectors(header, file, key, targets.text_width) for word, key in words_of(header).items()}
    return AdapterDeltas(found[UNET], found[TEXT], planned.unmatched, words)


def read_embedding(path: Path | str, width: int) -> Tensor:
    """The vectors of a textual inversion: N C in float32. width: C of the text encoder.

    Raises AdapterError for another kind of file, another width, and NaN or infinite numbers.
    """
    header = read_header(path)
    described = embedding_of(header)
    if described is None:
        raise AdapterError(f"{path} is no embedding but an adapter: put it on the networks instead")
    with _open(header) as file:
        return _vectors(header, file, described[0] or EMBEDDING_KEY, width)


def _vectors(header: Header, file: Any, key: str, width: int) -> Tensor:
    """A word's vectors, N C in float32."""
    shape = (1, *header.shapes[key])[-2:]
    if shape[1] != width:
        raise AdapterError(
            f"{header.path} has vectors of {shape[1]} channels, the text encoder reads {width}: bring one made for "
            "this model"
        )
    return _tensor(header, file, key).float().reshape(shape)


def _make_delta(layer: Planned, alpha: float, shape: tuple[int, ...], factors: dict[str, Tensor]) -> LayerDelta:
    if layer.kind == LOW_RANK:
        return LowRank.from_factors(alpha, shape, factors)
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
        raise BundleError(f"{file} is damaged or cut short ({first_line(error)}): {HOW_TO_GET}") from None
    names = (name.removesuffix(".weight") for name in shapes if name.endswith(".weight"))
    return {
        name: shape
        for name in names
        if len(shape := shapes[f"{name}.weight"]) in (2, 4) and not name.endswith(_NO_LAYERS)
    }


def _open(header: Header) -> Any:
    try:
        return safe_open(header.path, "pt")
    except (SafetensorError, OSError) as error:
        said = first_line(error)
        raise AdapterError(f"{header.path.name} is damaged or cut short ({said}): {FETCH_AGAIN}") from None


def _tensor(header: Header, file: Any, key: str) -> Tensor:
    tensor = file.get_tensor(key)
    if not torch.isfinite(tensor).all():
        raise AdapterError(
            f"{header.path.name} holds numbers that are none (NaN or infinite) in {short(key)}: {FETCH_AGAIN}"
        )
    return tensor
