"""Cascades whose device runs out of memory where a test wants it to, for tests of the memory fallback."""

from __future__ import annotations

import weakref

import torch

from lavie import Cascade
from lavie.bundle import Bundle
from lavie.events import MemoryModeChanged
from lavie.memory_mode import OFFLOADED, MemoryMode
from lavie.residency import Residency


class Short(Residency):
    """A residency whose device runs out of memory wherever `fits` says no, as CUDA does: inside a network.

    fits: component, clips in the batch, height and width of what it is called with, offload → bool. budget: what `free`
    says, None as on a CPU.
    """

    def __init__(self, bundle, fits=lambda *call: True, offload="none", budget=None):
        super().__init__(bundle, torch.device("cpu"), torch.float32, offload)
        self.fits, self.budget, self.failed = fits, budget, []
        if budget is not None:
            self.choices = OFFLOADED

    def free(self):
        return self.budget

    def _ready(self, component):
        fresh = component not in self._loaded
        module = super()._ready(component)
        if fresh:
            called = module.decoder if hasattr(module, "decoder") else module
            called.register_forward_pre_hook(lambda _, given: self._weigh(component, given[0]))
        return module

    def _weigh(self, component, sample):
        if sample.ndim >= 4 and not self.fits(component, sample.shape[0], *sample.shape[-2:], self._now):
            lost = torch.zeros(1000)
            self.failed.append(weakref.ref(lost))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")


def short(folder, fits, **options) -> Cascade:
    bundle = Bundle(folder)
    residency = Short(bundle, fits, **options)
    residency.choices = OFFLOADED
    return Cascade(bundle, residency)


def told(events) -> list[tuple[str, MemoryMode]]:
    return [(event.stage, event.mode) for event in events if isinstance(event, MemoryModeChanged)]
