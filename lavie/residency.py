"""Which network is on the device now: loaded when first needed, moved for as long as a `with` block lasts.

Knows devices, number types and offloading; knows neither stages nor samplers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lavie.bundle import UPSCALER_VAE, Bundle
from lavie.errors import DeviceError

DEVICES = ("auto", "cpu", "cuda", "mps")
OFFLOADS = ("auto", "none", "model", "sequential")
HEADROOM = 2.0  # free memory is enough for weights times this: activations of a stage are about as large as they are


def pick_device(name: str) -> torch.device:
    """`auto`: CUDA, then MPS, then the CPU. Raises DeviceError where the device asked for is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind = name.split(":")[0]
    if kind not in available:
        raise DeviceError(f"device is {name!r}: choose one of {', '.join(DEVICES)}")
    if not available[kind]:
        there = ", ".join(kind for kind, there in available.items() if there)
        raise DeviceError(f"device {name!r} is not available here: choose one of {there}, or auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device is {name!r}: give {kind}, or {kind}:0 for the first of several") from None


def pick_dtype(device: torch.device) -> torch.dtype:
    """float32 on a CPU; on a GPU bfloat16 where it is native, else float16."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16 if device.type == "cuda" else torch.float16


class Residency:
    """Hands out the components of a bundle, each on the device while its `with` block lasts.

    offload: `none` keeps what was loaded on the device; `model` moves a component there for its block and back after
    it; `sequential` moves it layer by layer (accelerate's hooks: slowest, smallest). `auto` takes the first of these
    that free device memory allows for. On a CPU there is nothing to offload from.
    """

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype, offload: str = "auto"):
        if offload not in OFFLOADS:
            raise DeviceError(f"offload is {offload!r}: choose one of {', '.join(OFFLOADS)}")
        self.bundle, self.device, self.dtype = bundle, device, dtype
        self.offload = self._choose_offload() if offload == "auto" else offload
        self._loaded: dict[str, nn.Module] = {}

    @contextmanager
    def on_device(self, component: str) -> Iterator[nn.Module]:
        """The component, ready to run; released however the block ends. Memory that runs out is a DeviceError."""
        try:
            module = self._ready(component)
            if self.offload != "sequential":
                module.to(self.device)
            yield module
        except torch.OutOfMemoryError as error:
            said = str(error).partition("\n")[0] or "no more is known"
            raise DeviceError(
                f"{self.device} ran out of memory in {component} ({said}): make the video "
                "smaller or shorter, close what else uses the device, or run on the CPU"
            ) from None
        finally:
            self._release(component)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The components whose weights were read, in that order."""
        return tuple(self._loaded)

    def forget(self) -> None:
        """Drop everything that was loaded, here and on the device."""
        self._loaded.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def dtype_of(self, component: str) -> torch.dtype:
        """The published ×4 autoencoder overflows in float16: it stays in float32 there."""
        return torch.float32 if component == UPSCALER_VAE and self.dtype == torch.float16 else self.dtype

    def _ready(self, component: str) -> nn.Module:
        if component not in self._loaded:
            module = self.bundle.load(component, self.dtype_of(component))
            if self.offload == "sequential":
                from accelerate import cpu_offload

                # A transformer goes there whole: inside it weights are looked at before their layers are called.
                module = cpu_offload(module, self.device, preload_module_classes=["Transformer"])
            self._loaded[component] = module
        return self._loaded[component]

    def _release(self, component: str) -> None:
        if self.offload == "model" and component in self._loaded:
            self._loaded[component].to("cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _choose_offload(self) -> str:
        if self.device.type != "cuda":
            return "none"
        free = torch.cuda.mem_get_info(self.device)[0]
        sizes = [self.bundle.size(component) for component in self.bundle.components()]
        if sum(sizes) * HEADROOM <= free:
            return "none"
        return "model" if max(sizes, default=0) * HEADROOM <= free else "sequential"
