"""What a result depends on besides the request and the weights, as plain values: the device and the libraries."""

from __future__ import annotations

import platform

import diffusers
import torch
import transformers

from lavie.layers import attention_kernels
from lavie.residency import Residency


def runs_on(residency: Residency) -> dict[str, str | int]:
    """Where the networks run.

    threads, on a CPU: sums are split among them, and how they are split decides their last bits.
    """
    device = residency.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "dtype": str(residency.dtype).removeprefix("torch."),
        "attention": attention_kernels(),
        "offload": residency.offload,
        **({"threads": torch.get_num_threads()} if device.type == "cpu" else {}),
    }


def versions() -> dict[str, str]:
    """Of Python, and of the libraries that compute."""
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
