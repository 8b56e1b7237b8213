"""How much memory there is and was needed: of the machine, or of a CUDA device, which stands in here."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from app.config import ROOT
from app.device import Memory, memory, peak_memory

KNOWN = """
import sys
from app.device import memory
print(memory().total > 0, "torch" in sys.modules)
"""


def cuda(*devices, initialized=True):
    """torch as it is with these devices, each (free, total, peak)."""
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: bool(devices),
            is_initialized=lambda: initialized,
            device_count=lambda: len(devices),
            mem_get_info=lambda index: devices[index][:2],
            max_memory_allocated=lambda index: devices[index][2],
        )
    )


def test_of_the_machine(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", cuda())
    now = memory()
    assert 0 < now.free <= now.total
    assert 10 * 2**20 < now.peak < now.total


def test_the_peak_never_falls():
    before = peak_memory()
    block = bytearray(before + 64 * 2**20)
    after = peak_memory()
    del block
    assert peak_memory() >= after > before


def test_of_a_cuda_device_that_was_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", cuda((3, 10, 0), (2, 10, 7)))
    assert memory() == Memory(2, 10, 7)
    assert peak_memory() == 7


def test_a_device_that_nothing_was_put_on_does_not_count(monkeypatch):
    own = memory().total
    for torch in (cuda((3, 10, 0)), cuda((3, 10, 5), initialized=False), SimpleNamespace(), None):
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert memory().total == own and peak_memory() > 10


def test_torch_is_not_imported_for_it():
    done = subprocess.run([sys.executable, "-c", KNOWN], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False"], done.stderr
