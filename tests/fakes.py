"""A cascade without weights, for tests of what is around it: flat frames, steps as slow as asked.

Keeps the contract of `lavie.Cascade`, nothing more. Imports no torch.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np

from lavie.errors import RequestError
from lavie.events import Finished, Notice, StageDone, StageStarted, Step
from lavie.request import Request
from lavie.video import Video


class FakeCascade:
    """step_seconds: how long a step takes. active: how many generators run now; most: how many ever did at once."""

    def __init__(self, step_seconds: float = 0.0, steps: int = 3):
        self.step_seconds = step_seconds
        self.steps = steps
        self.active = self.most = self.started = self.closed = 0
        self._lock = threading.Lock()

    def resolve(self, request: Request) -> Request:
        if request.prompt == "refused":
            raise RequestError("prompt is 'refused': say something else")
        seed = 123456789 if request.seed is None else request.seed
        return replace(request, seed=seed, width=96, height=64, frames=4, fps=8.0)

    def provenance(self) -> dict:
        return {"bundle": "fake", "weights": {}, "device": "cpu", "dtype": "float32", "offload": "none", "versions": {}}

    def generate(self, request: Request, source: Video | None = None):
        self._begin()
        try:
            if request.prompt == "broken":
                raise ZeroDivisionError("inside the network")
            yield Notice("the word <b>flurb</b> is not known")
            stages = ["base"]
            stages += ["interpolation"] if request.interpolation else []
            stages += ["super_resolution"] if request.super_resolution else []
            for stage in stages:
                yield from self._stage(stage, request.base.steps or self.steps)
            yield Finished(self._video(request), request, 0.25)
        finally:
            with self._lock:
                self.active -= 1
                self.closed += 1

    def _begin(self):
        with self._lock:
            self.started += 1
            self.active += 1
            self.most = max(self.most, self.active)

    def _stage(self, stage: str, steps: int):
        yield StageStarted(stage, steps)
        for index in range(1, steps + 1):
            time.sleep(self.step_seconds)
            yield Step(stage, index, steps, np.full((4, 8, 12, 3), 40 * index % 256, np.uint8))
        yield StageDone(stage, 0.125, None)

    def _video(self, request: Request) -> Video:
        frames = np.full((request.frames, request.height, request.width, 3), request.seed % 200, np.uint8)
        return Video(frames, request.fps)
