"""What is in memory while a video is made and read does not grow with its length."""

import gc
import itertools
import weakref

import pytest
import torch

from extensions.long_video.base_frames import Part
from lavie import Request
from tests.cascades import request
from tests.extensions.long_video.films import film, plan_of

EVERY = 15  # events or frames between two looks


class Disk(dict):
    """Keeps parts out of memory, as a folder does: what is read is new, and is counted for as long as it lives."""

    def __init__(self):
        super().__init__()
        self.alive: dict[int, int] = {}  # number of a reading → bytes
        self.peak = 0

    def __setitem__(self, key, part):
        super().__setitem__(key, (part.stage, part.number, part.latents.numpy().tobytes(), part.latents.shape))

    def __getitem__(self, key):
        stage, number, content, shape = super().__getitem__(key)
        latents = torch.frombuffer(bytearray(content), dtype=torch.float32).view(shape)
        reading = len(content), object()
        self.alive[id(reading)] = len(content)
        weakref.finalize(latents, lambda: self.alive.pop(id(reading)))
        self.peak = max(self.peak, sum(self.alive.values()))
        return Part(stage, number, latents)


def storage_alive() -> int:
    """Bytes of every tensor there is, but for networks'."""
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and type(thing) is not torch.nn.Parameter:
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def peaks(cascade, count: int, asked: Request) -> tuple[int, int]:
    """The most bytes of tensors at any event or frame, and the most of parts that were read."""
    made = film(cascade, plan_of(count), Disk(), asked)
    passing = itertools.chain(made.make(), made.frames())
    most = max(storage_alive() for number, _ in enumerate(passing) if number % EVERY == 0)
    return most, made.store.peak


@pytest.mark.slow
@pytest.mark.parametrize(("interpolate", "upscale", "short", "long"), [(True, False, 8, 40), (False, True, 8, 40)])
def test_memory_of_a_long_video_is_that_of_a_short_one(tiny_cascade, interpolate, upscale, short, long):
    asked = request(interpolate, upscale)
    peaks(tiny_cascade, 1, asked)  # networks are loaded, and whatever else is made once
    short, long = peaks(tiny_cascade, short, asked), peaks(tiny_cascade, long, asked)
    assert long[0] <= 1.05 * short[0]
    assert long[1] <= 1.05 * short[1]
