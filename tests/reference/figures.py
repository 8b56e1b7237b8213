"""Reads the recorded figures; knows their format and, where it is there, the folder they were cut from."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent
OUTPUTS = HERE / "unet_outputs.json"  # case → config, inputs and the figures of the output
NAMES = HERE / "published_names.json.gz"  # network → parameter name → shape
FOLDER = HERE.parents[2] / "shared" / "reference"  # beside the repository; only where whole tensors are at hand
SAMPLES = 24  # values kept of each output, evenly spaced


def figures(output: Tensor) -> dict:
    """What is kept of a tensor: its shape, its norm and mean, and evenly spaced values."""
    flat = output.detach().double().flatten()
    picked = torch.linspace(0, len(flat) - 1, SAMPLES, dtype=torch.float64).round().long()
    return {
        "shape": list(output.shape),
        "norm": flat.norm().item(),
        "mean": flat.mean().item(),
        "values": [round(value, 7) for value in flat[picked].tolist()],
    }


@cache
def cases() -> dict[str, dict]:
    return json.loads(OUTPUTS.read_text())


@cache
def published_names() -> dict[str, dict[str, list[int]]]:
    return json.loads(gzip.decompress(NAMES.read_bytes()))


@cache
def whole_outputs() -> dict[str, Tensor] | None:
    """The whole outputs of the published networks, or None where their folder is not there."""
    path = FOLDER / "unet_outputs.safetensors"
    return load_file(path) if path.exists() else None
