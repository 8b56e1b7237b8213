"""Long videos of the procedural world by each way to join segments, and what is measured on their frames."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench.long_figures import Judged, of_videos
from bench.quality import ALL, scene_of
from extensions.long_video.metrics import Meter
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import CONDITIONED, CORRECTED, STRATEGIES, Layout, Segment, SegmentPlan
from extensions.long_video.resolve import resolve
from lavie import Cascade, Request, Sampling
from lavie.manifest import EXTENSION
from lavie.training.judge import matches, read
from lavie.training.media import COLUMNS
from lavie.training.world import Scene, stage

HARD, WORLD = "hard", "world"
WAYS = (*STRATEGIES, HARD, WORLD)
# Beside the strategies: the known frames put in place and nothing more, which must leave seams; and the world's own
# film of the same length, which shows what is no fault of a network: things that move and grow change the picture too.
VALUES = {HARD: {"strategy": CORRECTED, "strength": 0.0}, WORLD: {}}


def chosen(cascade: Cascade, wanted: Sequence[str] | None) -> list[str]:
    """The ways that are wanted, each once; without a wish all that the bundle has networks for.

    Raises BundleError where one is wanted whose network is missing.
    """
    if wanted is None:
        return [way for way in WAYS if way != CONDITIONED or not cascade.bundle.missing(EXTENSION)]
    if CONDITIONED in wanted:
        cascade.bundle.require(EXTENSION)
    return list(dict.fromkeys(wanted))


def measure(
    cascade: Cascade, way: str, numbers: Sequence[int], segments: int, steps: int | None
) -> tuple[dict, np.ndarray]:
    """The figures of a way over the prompts with these numbers, and frames around joins of the first.

    numbers: at least one. segments: of each video, at least two. steps: of denoising, None as the bundle says. Raises
    RequestError where the way cannot use the bundle's sampler.
    """
    provenance, judged, shown, seconds = cascade.provenance(), [], None, 0.0
    for count, number in enumerate(numbers, 1):
        scene, began = scene_of(ALL, number), time.monotonic()
        frames, joins, window = video(cascade, provenance, way, scene, number, segments, steps)
        seconds += time.monotonic() - began
        judged.append(judge(frames, joins, window, scene))
        shown = around(frames, joins) if shown is None else shown
        told = f"{way}: video {count} of {len(numbers)}, {seconds / count / segments:.1f} s a segment"
        print(told, file=sys.stderr, flush=True)
    facts = {
        "videos": len(judged),
        "joins": sum(len(one.report.joins) for one in judged),
        "seconds_a_segment": round(seconds / len(judged) / segments, 2),
        "figures": of_videos(judged),
    }
    return facts, shown


def video(
    cascade: Cascade, provenance: dict, way: str, scene: Scene, number: int, segments: int, steps: int | None
) -> tuple[np.ndarray, list[int], int]:
    """Frames F H W 3, the first of each segment that continues something, and how many frames a window has.

    number: the seed.
    """
    request = Request(scene.caption, seed=number, base=Sampling(steps=steps))
    values = VALUES.get(way, {"strategy": way})
    plan = SegmentPlan((Segment(scene.caption),) * segments, seed=number, **values)
    request, plan = resolve(cascade, request, plan)
    if way == WORLD:
        layout, size = Layout(plan), (request.height, request.width)
        staging = stage(scene, np.random.default_rng([2024, number]), request.width / request.height)
        # A training clip is a window, and lasts from 0 to 1.
        frames = staging.film(layout.frames, *size, until=(layout.frames - 1) / (plan.window - 1))
        return frames, layout.joins(), plan.window
    film = LongVideoPipeline(cascade, request, plan, None, {}, provenance)
    for _ in film.make():
        pass
    return np.stack(list(film.frames())), film.joins, plan.window


def judge(frames: np.ndarray, joins: list[int], window: int, scene: Scene) -> Judged:
    """What the meters and the judge say of a video, the judge of its first and of its last window."""
    middles = [(join + following) // 2 for join, following in itertools.pairwise([*joins, len(frames)])]
    meters = Meter(joins), Meter(middles)
    for frame in frames:
        for meter in meters:
            meter.add(frame)
    seen = (matches(scene, read(part)) for part in (frames[:window], frames[-window:]))
    return Judged(*(meter.report() for meter in meters), *seen)


def around(frames: np.ndarray, joins: list[int]) -> np.ndarray:
    """As many frames as a row of the contact sheet has, half of them about the first join, half about the last; of a
    single join, all."""
    ends = sorted({joins[0], joins[-1]})
    half = COLUMNS // len(ends) // 2
    places = [join + offset for join in ends for offset in range(-half, half)]
    return frames[np.clip(places, 0, len(frames) - 1)]
