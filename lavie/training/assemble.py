"""Networks in memory → a bundle on disk. The folder appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import ConfigMixin
from safetensors.torch import save_file
from torch import nn

from lavie.bundle import (
    FORMAT,
    MANIFEST,
    NETWORK_FILE,
    TEXT_ENCODER,
    TEXT_FILE,
    TOKENIZER,
    UPSCALER_TEXT,
    UPSCALER_TOKENIZER,
    stored_type,
)


def write_bundle(folder: Path, components: dict[str, nn.Module], tokenizer, manifest: dict) -> None:
    """Write a bundle that `lavie.bundle.Bundle` reads; one that was there is replaced once the new one is whole.

    Args:
        components: by their names in a bundle; weights are stored in float16, the modules stay as they are. Every text
            encoder gets the tokenizer beside it.
        manifest: what `cascade.json` says, without the format.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, module in components.items():
        _write_component(partial / name, module)
    for encoder, name in ((TEXT_ENCODER, TOKENIZER), (UPSCALER_TEXT, UPSCALER_TOKENIZER)):
        if encoder in components:
            tokenizer.save_pretrained(partial / name)
    (partial / MANIFEST).write_text(json.dumps({"format": FORMAT, **manifest}, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _write_component(folder: Path, module: nn.Module) -> None:
    """`config.json` and float16 weights, as diffusers (networks) and transformers (text models) lay them out."""
    folder.mkdir(parents=True)
    ours = isinstance(module, ConfigMixin)
    if ours:
        module.save_config(folder)
    else:
        module.config.architectures = [type(module).__name__]
        module.config.save_pretrained(folder)
    weights = {
        name: tensor.to(stored_type(name, torch.float16)).contiguous() for name, tensor in module.state_dict().items()
    }
    save_file(weights, folder / (NETWORK_FILE if ours else TEXT_FILE), metadata={"format": "pt"})
