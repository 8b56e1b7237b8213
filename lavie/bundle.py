"""Reads the weights of a bundle (see `manifest`) and reports damage. Runs no network."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from lavie import vae as vae_module
from lavie.errors import BundleError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.files import read_record, unchanged_hash
from lavie.manifest import (
    EXTENSION,
    HOW_TO_GET,
    TEXT_ENCODER,
    UPSCALER_TEXT,
    UPSCALER_VAE,
    VAE,
    Manifest,
    first_line,
)
from lavie.text import TextEncoder, load_tokenizer
from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet

CLASSES: dict[str, Any] = {
    BASE: BaseUNet,
    EXTENSION: BaseUNet,
    INTERPOLATION: InterpolationUNet,
    SUPER_RESOLUTION: SuperResolutionUNet,
    VAE: AutoencoderKL,
    UPSCALER_VAE: AutoencoderKL,
    TEXT_ENCODER: CLIPTextModel,
    UPSCALER_TEXT: CLIPTextModel,
}


class Bundle(Manifest):
    """A folder of weights. Opening it reads the manifest alone; `load` reads weights."""

    def text_encoder(self, stage: str) -> TextEncoder:
        """The tokenizer of a stage, read once."""
        component = self.text_components(stage)[1]
        if component not in self._tokenizers:
            try:
                self._tokenizers[component] = TextEncoder(load_tokenizer(self.folder / component))
            except Exception as error:  # the library's parser raises bare exceptions
                raise BundleError(
                    f"{self.folder / component} is no tokenizer ({first_line(error)}): {HOW_TO_GET}"
                ) from None
        return self._tokenizers[component]

    @cached_property
    def _tokenizers(self) -> dict[str, TextEncoder]:
        return {}

    def load(self, component: str, dtype: torch.dtype) -> torch.nn.Module:
        """A component on the CPU, with its weights. Raises BundleError with the file's name."""
        network = self._build(component)
        with _weights(self.file(component)) as weights:
            _check_shapes(self.file(component), weights, network)
            state = {name: _load_tensor(weights.get_tensor(name), stored_type(name, dtype)) for name in weights.keys()}
        network.load_state_dict(state, strict=True, assign=True)
        network.requires_grad_(False).eval()
        if isinstance(network, AutoencoderKL):
            vae_module.prepare(network)
        return network

    def check(self, component: str) -> None:
        """Raises BundleError if names or shapes in a component's file do not fit its network. Reads no weights."""
        with _weights(self.file(component)) as weights:
            _check_shapes(self.file(component), weights, self._build(component))

    def shapes(self, component: str) -> dict[str, list[int]]:
        """Parameter name → shape, by the component's config. Needs no weights."""
        return _shapes(self._build(component))

    def hashes(self) -> dict[str, str]:
        """sha256 of every weight file by its path in the bundle, from the record where the file is unchanged."""
        record, files = read_record(self.folder), sorted(self.folder.rglob("*.safetensors"))
        names = [file.relative_to(self.folder).as_posix() for file in files]
        return {name: unchanged_hash(self.folder, name, record) for name in names}

    def parameters(self, component: str) -> int:
        """The number of a component's parameters, 0 where its weights are not there."""
        file = self.file(component)
        return _count_parameters(file, file.stat().st_mtime_ns) if file.is_file() else 0

    def _build(self, component: str) -> torch.nn.Module:
        """The component's network: parameters on the meta device, buffers that no file holds on the CPU."""
        expected, config = CLASSES[component], self.config(component)
        named = config.get("_class_name") or config.get("architectures")
        if named not in (expected.__name__, [expected.__name__]):
            raise BundleError(
                f"{self.folder / component / 'config.json'} describes a {named!r}, {component} needs a "
                f"{expected.__name__!r}: put the right folder there"
            )
        try:
            with init_empty_weights(include_buffers=False):
                if expected is CLIPTextModel:
                    return CLIPTextModel(CLIPTextConfig.from_dict(config))
                network: torch.nn.Module = expected.from_config(config)
                return network
        except Exception as error:  # whatever a layer or a library raises at a value it cannot use
            raise BundleError(
                f"{self.folder / component / 'config.json'} builds no {component} ({first_line(error)}): {HOW_TO_GET}"
            ) from None


def stored_type(name: str, dtype: torch.dtype) -> torch.dtype:
    """The number type of a parameter. Rotary frequencies stay in float32, since frame numbers multiply their errors."""
    return torch.float32 if name.endswith("rotary_emb.freqs") else dtype


def _load_tensor(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mapped tensor in memory; weights of 2-D convolutions in channels-last, like the activations."""
    return tensor.to(dtype=dtype, memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format)


def _weights(file: Path) -> Any:
    """An open safetensors file. Raises BundleError in place of the library's errors."""
    if not file.is_file():
        raise BundleError(f"{file} is missing: {HOW_TO_GET}")
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{file} is damaged or cut short at {file.stat().st_size} bytes ({first_line(error)}): {HOW_TO_GET}"
        ) from None


@lru_cache(64)
def _count_parameters(file: Path, changed: int) -> int:
    with _weights(file) as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())


def _shapes(network: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def _check_shapes(file: Path, weights: Any, network: torch.nn.Module) -> None:
    """Raises BundleError where an open weight file does not hold the network's parameters."""
    found = {name: weights.get_slice(name).get_shape() for name in weights.keys()}
    expected, kind = _shapes(network), type(network).__name__
    if absent := sorted(expected.keys() - found.keys()):
        raise BundleError(f"{file} lacks {absent[0]} and {len(absent) - 1} more of a {kind}: {HOW_TO_GET}")
    if extra := sorted(found.keys() - expected.keys()):
        raise BundleError(f"{file} holds {extra[0]} and {len(extra) - 1} more that a {kind} has not: {HOW_TO_GET}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise BundleError(f"{file}: {name} has shape {found[name]}, this {kind} expects {shape}: {HOW_TO_GET}")
