"""Long videos of the oracle's world, for the tests beside this file."""

from __future__ import annotations

import torch
from torch import Tensor

from extensions.long_video.base_frames import SegmentDone
from extensions.long_video.plan import Layout, Segment, SegmentPlan
from extensions.long_video.strategies.extend import extend
from extensions.long_video.strategies.window_model import Model
from lavie.manifest import StageDefaults
from lavie.request import Sampling
from tests.oracle import PIXELS, GaussianDenoiser

STEPS = 50


def embed(prompt: str, frames: int | None = None) -> Tensor:
    """1 L C, another one for each prompt."""
    return torch.full((1, 2, 3), float(len(prompt)))


def ideal_model(network=None, sampler: str = "ddim", steps: int = STEPS, guidance: float = 1.0, shape=PIXELS) -> Model:
    network = network or GaussianDenoiser()
    kind = getattr(network, "prediction_type", "epsilon")
    return Model(network, embed, Sampling(sampler, steps, guidance), StageDefaults(Sampling(), kind), shape)


def plan_of(count: int, strategy: str = "corrected", **values) -> SegmentPlan:
    """A plan of `count` segments with one prompt and seed 5."""
    return SegmentPlan((Segment("a"),) * count, **{"seed": 5, "strategy": strategy, **values})


def returned(generator):
    """What a generator returns in the end."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def segments(plan: SegmentPlan, model: Model | None = None, **begun) -> list[SegmentDone]:
    events = extend(model or ideal_model(), plan, **begun)
    return [event for event in events if isinstance(event, SegmentDone)]


def video(plan: SegmentPlan, model: Model | None = None, **begun) -> tuple[Tensor, list[int]]:
    """The whole of it, 1 C N h w, and its joins."""
    made = torch.cat([segment.latents for segment in segments(plan, model, **begun)], dim=2)
    return made, Layout(plan).joins()
