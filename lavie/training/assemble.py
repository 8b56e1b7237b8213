"""Networks in memory → a bundle on disk. The folder appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lavie.bundle import stored_type
from lavie.errors import TrainingError
from lavie.files import RECORD
from lavie.manifest import (
    FORMAT,
    MANIFEST,
    NETWORK_FILE,
    TEXT_ENCODER,
    TEXT_FILE,
    TOKENIZER,
    UPSCALER_TEXT,
    UPSCALER_TOKENIZER,
)


def write_bundle(
    folder: Path, components: Mapping[str, nn.Module], tokenizer: PreTrainedTokenizerBase, manifest: dict[str, Any]
) -> None:
    """Write a bundle that `lavie.bundle.Bundle` reads. It replaces one that is there once it is whole.

    Args:
        components: by their names in a bundle; weights are stored in float16, the modules stay as they are. Every text
            encoder gets the tokenizer beside it.
        manifest: the content of `cascade.json`, without the format.
    """
    check_output(folder)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    for name, module in components.items():
        _write_component(partial / name, module)
    for encoder, name in ((TEXT_ENCODER, TOKENIZER), (UPSCALER_TEXT, UPSCALER_TOKENIZER)):
        if encoder in components:
            tokenizer.save_pretrained(partial / name)
    _publish(partial, folder, {"format": FORMAT, **manifest})


def write_changed(folder: Path, source: Path, components: Mapping[str, nn.Module], manifest: dict[str, Any]) -> None:
    """Copy the bundle `source` with some components new, and with `manifest` as its `cascade.json`."""
    check_output(folder, source)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*components, RECORD))
        for name, module in components.items():
            _write_component(partial / name, module)
        _publish(partial, folder, manifest)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"the bundle could not be written to {folder} ({error}): make room there and run the same command again "
            "with --resume, nothing is trained twice"
        ) from None


def check_output(folder: Path, source: Path | None = None) -> None:
    """Raises TrainingError where a bundle at `folder` would take the place of something else, or of its own source."""
    if source is not None and folder.resolve() == source.resolve():
        raise TrainingError(f"{folder} is what the training starts from: give another folder for the result")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
        raise TrainingError(f"{folder} is there and is no bundle: give a new folder, or one that holds a bundle")


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _publish(partial: Path, folder: Path, manifest: dict[str, Any]) -> None:
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _write_component(folder: Path, module: nn.Module) -> None:
    """`config.json` and float16 weights, as diffusers (networks) and transformers (text models) lay them out."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(module, ConfigMixin):
        module.save_config(folder)
        file = NETWORK_FILE
    else:
        assert isinstance(module, PreTrainedModel)
        module.config.architectures = [type(module).__name__]
        module.config.save_pretrained(folder)
        file = TEXT_FILE
    weights = {
        name: tensor.to(stored_type(name, torch.float16)).contiguous() for name, tensor in module.state_dict().items()
    }
    save_file(weights, folder / file, metadata={"format": "pt"})
