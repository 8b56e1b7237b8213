"""From what was measured on long videos to figures, each beside what is asked of it. Runs nothing; needs no torch.

A figure is {"value", "asked": [least, most] or null, "reached": true, false or null}. A value is null where there was
nothing to measure, `reached` is null there and where nothing is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from extensions.long_video.metrics import FLOOR, LIMITS, LUMA_LIMIT, SIGNALS, Drift, Report

Bounds = tuple[float | None, float | None]  # least and most
JOIN_MEDIAN, JOIN_P95 = (0.8, 1.25), (None, 1.6)  # of each signal's ratio, over all joins
KEPT = (85.0, None)  # per cent of the videos that begin right
MEMORY = (None, 1.05)  # the long video's peak over the short one's
STEADY = (0.9, 1.1)  # seconds a segment in the second half over those in the first
BOTH = "colour and shape"
ATTRIBUTES = {"colour": ("colour",), "shape": ("shape",), BOTH: ("colour", "shape")}


@dataclass(frozen=True)
class Judged:
    """One video. report: of the meters. between: of the same frames, as if each segment had a join in its middle.
    first, last: what is right in its first and its last window, by attribute (`lavie.training.judge.matches`)."""

    report: Report
    between: Report
    first: dict[str, bool]
    last: dict[str, bool]


def figure(value: float | None, asked: Bounds = (None, None)) -> dict:
    """A value beside what is asked of it, see above."""
    told = None if asked == (None, None) else list(asked)
    if value is None:
        return {"value": None, "asked": told, "reached": None}
    least, most = asked
    value = float(value)  # numpy's numbers would give answers that are no JSON
    reached = (least is None or value >= least) and (most is None or value <= most)
    return {"value": round(value, 4), "asked": told, "reached": reached if told else None}


def rows(figures: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """The figures of nested dicts with their names, outermost first."""
    for name, inner in figures.items():
        if "reached" in inner:
            yield (*path, name), inner
        else:
            yield from rows(inner, (*path, name))


def of_videos(videos: Sequence[Judged]) -> dict:
    """All figures of a strategy's videos, for `rows`."""
    reports = [video.report for video in videos]
    between = _joins([video.between for video in videos])
    middles = {name: {"p95": figure(found["p95"]["value"])} for name, found in between.items()}
    return {"joins": _joins(reports), "between joins": middles, "drift": _drift(reports), "judge": _judge(videos)}


def of_costs(short: dict, long: dict) -> dict:
    """What length costs, from `bench.long_cost.measure` of two lengths, for `rows`."""
    times = long["segment_seconds"]
    half = len(times) // 2
    first, second = (median(part) if part else None for part in (times[:half], times[len(times) - half :]))
    more = long["video_seconds"] - short["video_seconds"]
    return {
        "peak memory": {
            f"{short['segments']} segments, MiB": figure(short["peak_memory_mib"]),
            f"{long['segments']} segments, MiB": figure(long["peak_memory_mib"]),
            "ratio": figure(_ratio(long["peak_memory_mib"], short["peak_memory_mib"]), MEMORY),
        },
        "seconds a segment": {
            "median of the first half": figure(first),
            "median of the second half": figure(second),
            "ratio": figure(_ratio(second, first), STEADY),
        },
        "seconds of writing a frame": {
            f"{run['segments']} segments": figure(_ratio(run["writing"], run["frames"])) for run in (short, long)
        },
        "seconds": {"an added second of video": figure(_ratio(long["seconds"] - short["seconds"], more))},
    }


def _ratio(upper: float | None, lower: float | None) -> float | None:
    return None if upper is None or not lower else upper / lower


def _over(values: Sequence[float], summary: Callable[[Sequence[float]], float], asked: Bounds = (None, None)) -> dict:
    return figure(summary(values) if values else None, asked)


def _p95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))


def _joins(reports: Sequence[Report]) -> dict:
    """Of each signal its ratio to the frames near by; of a step of colour also by how much it stands out."""
    joins = [join for report in reports for join in report.joins]
    ratios = {name: [getattr(join, name).ratio for join in joins] for name in SIGNALS}
    found = {
        name: {"median": _over(values, median, JOIN_MEDIAN), "p95": _over(values, _p95, JOIN_P95)}
        for name, values in ratios.items()
    }
    steps = [join.s.value - join.s.near for join in joins]
    return {**found, "s, grey levels": {"median": _over(steps, median), "p95": _over(steps, _p95)}}


def _drift(reports: Sequence[Report]) -> dict:
    """How the end of a video differs from its beginning: luma by grey levels, without sign; the rest by their ratio."""
    found = {}
    for measure, asked in {"luma": (None, LUMA_LIMIT), **LIMITS}.items():
        changes = [_change(drift) for report in reports for drift in report.drift if drift.measure == measure]
        worst = max if measure == "luma" else _furthest_from_one
        inside = [100.0 * bool(figure(change, asked)["reached"]) for change in changes]
        found[measure] = {
            "median": _over(changes, median, asked),
            "worst": _over(changes, worst, asked),
            "% within": _over(inside, np.mean),
        }
    return found


def _change(drift: Drift) -> float:
    if drift.measure == "luma":
        return abs(drift.last - drift.first)
    return (drift.last + FLOOR) / (drift.first + FLOOR)


def _furthest_from_one(ratios: Sequence[float]) -> float:
    return max(ratios, key=lambda ratio: abs(math.log(ratio)))


def _judge(videos: Sequence[Judged]) -> dict:
    """Per cent that are right at the beginning, at the end, and at the end of those that are at the beginning."""
    found = {}
    for label, names in ATTRIBUTES.items():
        right = [tuple(100.0 * all(seen[name] for name in names) for seen in (one.first, one.last)) for one in videos]
        asked = KEPT if label == BOTH else (None, None)
        found[label] = {
            "% first": _over([first for first, _ in right], np.mean),
            "% last": _over([last for _, last in right], np.mean),
            "% kept": _over([last for first, last in right if first], np.mean, asked),
        }
    return found
