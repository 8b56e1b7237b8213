"""Long videos by a whole cascade at toy size, for the tests of `film`."""

from __future__ import annotations

import torch

from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import Segment, SegmentPlan
from extensions.long_video.resolve import resolve_plan
from lavie import Cascade, Request
from lavie.video import FrameHash
from tests.cascades import small

PROMPTS = ("a red star", "a red star", "a blue circle", "a blue circle", "a red star")
LATENTS = (4, 2, 4)  # C h w of the toy's base stage


class Memory(dict):
    """Kept parts, and how many were written."""

    written = 0

    def __setitem__(self, key, part):
        self.written += 1
        super().__setitem__(key, part)


def plan_of(count: int, **values) -> SegmentPlan:
    return SegmentPlan(tuple(Segment(PROMPTS[number % len(PROMPTS)]) for number in range(count)), **values)


def begun(frames: int) -> torch.Tensor:
    """Latents to continue, 1 C N h w."""
    return torch.randn(1, LATENTS[0], frames, *LATENTS[1:], generator=torch.Generator().manual_seed(3))


def film(cascade: Cascade, plan: SegmentPlan, kept=None, asked: Request | None = None, start=None) -> LongVideoPipeline:
    resolved = cascade.resolve(asked or small(True, True))
    kept = Memory() if kept is None else kept
    return LongVideoPipeline(cascade, resolved, resolve_plan(cascade, resolved, plan), start, kept, PROVENANCE)


PROVENANCE = {"weights": {}, "device": "cpu", "dtype": "float32", "attention": "sdpa", "versions": {}}


def frame_hash(made: LongVideoPipeline) -> str:
    digest = FrameHash(made.shape)
    for frame in made.frames():
        digest.add(frame)
    return digest.hexdigest()


def finished(made: LongVideoPipeline) -> str:
    """The frames' hash once everything is made."""
    for _ in made.make():
        pass
    return frame_hash(made)
