"""A cascade without weights, for tests of what is around it: flat frames, steps as slow as asked.

Keeps the contract of `lavie.Cascade`, nothing more. Imports torch only when a stage is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lavie.errors import RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, Finished, Notice, StageDone, StageStarted, Step
from lavie.memory_mode import MemoryPlan
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from lavie.video import Video


class FakeCascade:
    """A prompt that begins with "endless" has a last stage of a thousand steps.

    step_seconds: how long a step takes. at_step: called with the stage and the index before each step.
    weights, attention: hashes and kernels as `provenance` tells them. shade: added to every pixel, as other weights
    would.
    active: how many generators run now; most: how many ever did at once. ran: the stages that were begun, in order.
    """

    def __init__(
        self,
        step_seconds: float = 0.0,
        steps: int = 3,
        *,
        at_step: Callable[[str, int], object] = lambda stage, index: None,
        weights: str = "1",
        shade: int = 0,
        attention: str = "sdpa",
    ):
        self.step_seconds, self.steps, self.at_step = step_seconds, steps, at_step
        self.weights, self.shade, self.attention = weights, shade, attention
        self.active = self.most = self.started = self.closed = 0
        self.ran: list[str] = []
        self._lock = threading.Lock()

    def resolve(self, request: Request) -> Request:
        if request.prompt == "refused":
            raise RequestError("prompt is 'refused': say something else")
        seed = 123456789 if request.seed is None else request.seed
        kinds = {INTERPOLATION: Interpolation, SUPER_RESOLUTION: SuperResolution}
        stages = {name: kind(self._filled(request, name)) for name, kind in kinds.items() if name in request.stages}
        size = {"width": 96, "height": 64, "frames": 4, "fps": 8.0}
        return replace(request, seed=seed, base=self._filled(request, BASE), **size, **stages)

    def read(self, prompt: str):
        return None

    def plan(self, request: Request) -> MemoryPlan:
        return MemoryPlan("float32", {}, {})

    @property
    def loaded(self) -> tuple[str, ...]:
        return ("base",)

    def runs_on(self) -> dict:
        return {"device": "cpu", "dtype": "float32", "attention": self.attention, "offload": "none"}

    def provenance(self) -> dict:
        weights = {"base/weights.safetensors": self.weights}
        return {"bundle": "fake", "weights": weights, **self.runs_on(), "versions": {}}

    def generate(self, request: Request, source: Video | None = None, done: dict | None = None, memory=None):
        self._begin()
        try:
            if request.prompt == "broken":
                raise ZeroDivisionError("inside the network")
            request = self.resolve(request)
            yield Notice("the word <b>flurb</b> is not known")
            stages = request.stages
            reached = max((number for number, stage in enumerate(stages, 1) if stage in (done or {})), default=0)
            latents = done[stages[reached - 1]] if reached else None
            for stage in stages[reached:]:
                latents = yield from self._stage(stage, request.sampling(stage).steps, request.seed, latents)
            yield Finished(self._video(request, latents), request, 0.25)
        finally:
            with self._lock:
                self.active -= 1
                self.closed += 1

    def _filled(self, request: Request, stage: str) -> Sampling:
        sampling = request.sampling(stage)
        endless = request.prompt.startswith("endless") and stage == request.stages[-1]
        return replace(sampling, steps=sampling.steps or (1000 if endless else self.steps))

    def _begin(self):
        with self._lock:
            self.started += 1
            self.active += 1
            self.most = max(self.most, self.active)

    def _stage(self, stage: str, steps: int, seed: int, latents):
        import torch

        self.ran.append(stage)
        yield StageStarted(stage, steps)
        for index in range(1, steps + 1):
            self.at_step(stage, index)
            time.sleep(self.step_seconds)
            yield Step(stage, index, steps, np.full((4, 8, 12, 3), 40 * index % 256, np.uint8))
        # Each stage leaves its trace, so that the frames tell which latents they were made from.
        latents = torch.full((1, 4, 4, 8, 12), float(seed % 200)) if latents is None else latents + 10
        yield StageDone(stage, 0.125, latents)
        return latents

    def _video(self, request: Request, latents) -> Video:
        shade = int(latents.max()) + self.shade
        frames = np.full((request.frames, request.height, request.width, 3), shade, np.uint8)
        return Video(frames, request.fps)
