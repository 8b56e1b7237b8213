"""Devices, number types and offloading: loads components when they are first needed and moves them to the device."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lavie.bundle import Bundle
from lavie.errors import DeviceError, OutOfMemory
from lavie.manifest import UPSCALER_VAE
from lavie.memory_mode import MODEL, NONE, OFFLOADED, SEQUENTIAL

DEVICES = ("auto", "cpu", "cuda", "mps")
AUTO = "auto"
OFFLOADS = (AUTO, *OFFLOADED)
HEADROOM = 2.0  # times the weights: the activations of a stage are about as large


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU. Raises DeviceError for a device that is not there."""
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
    """Loads the components of a bundle and keeps each on the device during its `with` block.

    offload: `none` keeps loaded components on the device; `model` moves a component there for its block and back after
    it; `sequential` moves it layer by layer with accelerate's hooks (slowest, smallest). `auto` takes the first of
    these that fits into free device memory, and each stage of a request may `use` another. On a CPU nothing is moved.
    """

    def __init__(self, bundle: Bundle, device: torch.device, dtype: torch.dtype, offload: str = "auto"):
        if offload not in OFFLOADS:
            raise DeviceError(f"offload is {offload!r}: choose one of {', '.join(OFFLOADS)}")
        self.bundle, self.device, self.dtype = bundle, device, dtype
        self.choices = OFFLOADED if offload == AUTO else (offload,)
        self.offload = self._choose_offload() if offload == AUTO else offload
        self._now = self.offload
        self._loaded: dict[str, nn.Module] = {}

    @contextmanager
    def on_device(self, component: str) -> Iterator[Any]:
        """The component, ready to run. Raises OutOfMemory where the device runs out of memory within the block."""
        try:
            module = self._ready(component)
            if self._now != SEQUENTIAL:
                module.to(self.device)
            yield module
        except torch.OutOfMemoryError as error:
            said = str(error).partition("\n")[0] or "no more is known"
            raise OutOfMemory(
                f"{self.device} ran out of memory in {component} ({said}): make the video "
                "smaller or shorter, close what else uses the device, or run on the CPU"
            ) from None
        finally:
            self._release(component)

    def use(self, offload: str) -> None:
        """Change the offloading. No component may be in use."""
        if offload == self._now:
            return
        if SEQUENTIAL in (offload, self._now):  # the hooks cannot be removed from a network
            self.forget()
        elif offload == MODEL:
            for module in self._loaded.values():
                module.to("cpu")
        self._now = offload

    def free(self) -> int | None:
        """Bytes of device memory for this process, including those that it holds; None where memory is not planned."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)

    def clear(self) -> None:
        """Free device memory that nothing uses, as after running out of memory."""
        gc.collect()  # tensors of a failed call may be in cycles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The components whose weights are in memory, in the order in which they were loaded."""
        return tuple(self._loaded)

    def forget(self) -> None:
        """Drop all loaded components from memory and from the device."""
        self._loaded.clear()
        self.clear()

    def dtype_of(self, component: str) -> torch.dtype:
        """The number type of a component. The published ×4 autoencoder overflows in float16, so it stays in float32."""
        return torch.float32 if component == UPSCALER_VAE and self.dtype == torch.float16 else self.dtype

    def _ready(self, component: str) -> nn.Module:
        if component not in self._loaded:
            module = self.bundle.load(component, self.dtype_of(component))
            if self._now == SEQUENTIAL:
                from accelerate import cpu_offload

                # A transformer goes there whole, since it reads weights before it calls their layers.
                module = cpu_offload(module, self.device, preload_module_classes=["Transformer"])
            self._loaded[component] = module
        return self._loaded[component]

    def _release(self, component: str) -> None:
        if self._now == MODEL and component in self._loaded:
            self._loaded[component].to("cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _choose_offload(self) -> str:
        if self.device.type != "cuda":
            return NONE
        sizes = [self.bundle.size(component) for component in self.bundle.components()]
        return choose_offload(sizes, torch.cuda.mem_get_info(self.device)[0])


def choose_offload(sizes: Sequence[int], free: int) -> str:
    """Where to keep weights of these sizes before any request is known."""
    if sum(sizes) * HEADROOM <= free:
        return NONE
    return MODEL if max(sizes, default=0) * HEADROOM <= free else SEQUENTIAL
