"""The timeline as HTML: the segments to scale, the joins' signals and the drift under them. Pure functions."""

from __future__ import annotations

import html
import itertools
import typing
from collections.abc import Iterator

from app.ui.i18n import Words
from app.ui.long_video.seams import SOON, drift_level, findings, levels, seam_marks, worst
from app.ui.long_video.view_model import ViewModel, hues
from app.ui.panels import answered
from extensions.long_video import metrics
from extensions.long_video.plan import Layout

if typing.TYPE_CHECKING:
    from extensions.long_video.metrics import Drift, Report

_LANE = 40  # units of height of a drift curve; its width is 1000


def timeline(scene: ViewModel, say: Words) -> str:
    """Everything under the table."""
    heading = f'<div class="lv-head"><h2>{html.escape(say("long_timeline"))}</h2>{_legend(scene, say)}</div>'
    inside = _blocks(scene, say)
    below = ""
    if scene.report is not None:
        made = scene.made or scene.layout
        inside += _joins(scene.report, say) + "".join(_lane(drift, made, say) for drift in scene.report.drift)
        below = _below(scene, say)
    count = len(scene.project.plan.segments)
    name = html.escape(say("long_timeline"))
    # Each segment stays wide enough for its number and its marks; where there are many, this part alone is scrolled.
    track = f'<div class="lv-track" style="min-width: {count * 3.4:.1f}rem">{inside}<i class="lv-playhead"></i></div>'
    scrolled = f'<div class="lv-timeline" role="group" aria-label="{name}" tabindex="0">{track}</div>'
    return answered(scene.view.refused, heading + scrolled + below)


def _blocks(scene: ViewModel, say: Words) -> str:
    """A button for each segment, as wide as it is long."""
    layout, plan = scene.layout, scene.project.plan
    colours = hues([segment.prompt for segment in plan.segments])
    blocks = []
    if layout.start:
        words = html.escape(say("long_start_frames", frames=layout.start))
        blocks.append(
            f'<button type="button" class="lv-block lv-block-start" style="flex-grow: {layout.start}" data-act="seek" '
            f'data-seek="0" title="{words}" aria-label="{words}">▸</button>'
        )
    for number, segment in enumerate(plan.segments):
        frames, state = layout.frames_of(number), scene.state_of(number)
        words = say("long_segment", number=number + 1)
        seek = f"{frames.start / layout.frames:.5f}"
        told = html.escape(f"{words}, {say(f'long_state_{state}')}: {segment.prompt[:200]}")
        here = ' aria-current="true"' if scene.view.chosen == number else ""
        blocks.append(
            f'<button type="button" class="lv-block lv-hue-{colours[number]} lv-is-{state}" '
            f'style="flex-grow: {len(frames)}" data-act="select" data-n="{number}" data-seek="{seek}" '
            f'title="{told}" aria-label="{told}"{here}>{number + 1}</button>'
        )
    return f'<div class="lv-blocks">{"".join(blocks)}</div>'


def _joins(report: Report, say: Words) -> str:
    """Under each border the four signals of the join."""
    marks = []
    for join in report.joins:
        left = 100 * join.frame / max(report.frames, 1)
        marks.append(f'<span class="lv-join" style="left: {left:.3f}%">{seam_marks(join, say)}</span>')
    label = html.escape(say("long_joins"))
    return f'<div class="lv-joins" role="group" aria-label="{label}">{"".join(marks)}</div>' if marks else ""


def _lane(drift: Drift, made: Layout, say: Words) -> str:
    """One measure over the video: a point for each segment, the limits as a band around where it began."""
    found = drift_level(drift)
    name = say(f"measure_{drift.measure}")
    words = say("long_drift", name=name, first=f"{drift.first:.1f}", last=f"{drift.last:.1f}")
    low, high = _limits(drift)
    values = drift.segments
    floor, top = min(low, *values), max(high, *values)
    span = (top - floor) * 1.15 or 1.0
    points = list(
        zip(_middles(made, len(values)), (_LANE * (1 - (value - floor) / span - 0.07) for value in values), strict=True)
    )
    upper, lower = (_LANE * (1 - (value - floor) / span - 0.07) for value in (high, low))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<path d="M{x:.1f} {y:.1f}h.01" class="lv-dot"/>' for x, y in points)
    return (
        f'<figure class="lv-lane lv-lane-{found}"><figcaption>{html.escape(words)}</figcaption>'
        f'<svg viewBox="0 0 1000 {_LANE}" preserveAspectRatio="none" role="img" aria-label="{html.escape(words)}">'
        f'<rect x="0" y="{upper:.1f}" width="1000" height="{max(lower - upper, 1):.1f}" class="lv-band"/>'
        f'<polyline points="{line}" class="lv-curve"/>{dots}</svg></figure>'
    )


def _limits(drift: Drift) -> tuple[float, float]:
    """Between which values a measure may be, in its own units."""
    if drift.measure == "luma":
        return drift.first - metrics.LUMA_LIMIT, drift.first + metrics.LUMA_LIMIT
    low, high = metrics.LIMITS[drift.measure]
    return drift.first * low, drift.first * high


def _middles(made: Layout, count: int) -> Iterator[float]:
    """Where the middle of each measured part lies, 0 … 1000."""
    borders = [0, *made.joins(), made.frames]
    if len(borders) != count + 1:  # the report of a plan that is not known any more
        borders = [place * made.frames / count for place in range(count + 1)]
    for begin, end in itertools.pairwise(borders):
        yield 500 * (begin + end) / max(made.frames, 1)


def _below(scene: ViewModel, say: Words) -> str:
    """What the meters found, in sentences."""
    changed = f'<p class="lv-quiet">{html.escape(say("long_report_old"))}</p>' if scene.stale else ""
    heading = f"<h3>{html.escape(say('long_findings'))}</h3>"
    before = 1 if scene.made and scene.made.start else 0  # what was there already is the meters' first segment
    return f'<div class="lv-found-all">{heading}{findings(scene.report.findings, say, before)}{changed}</div>'


def _legend(scene: ViewModel, say: Words) -> str:
    """How the video stands in one mark, before anybody reads the curves."""
    report = scene.report
    if report is None:
        return f'<span class="lv-quiet">{html.escape(say("long_no_report"))}</span>'
    seams = worst([found for join in report.joins for found, _ in levels(join).values()])
    drift = worst([drift_level(one) for one in report.drift])
    found = worst([seams, drift])
    word = {"good": "long_meters_good", SOON: "long_meters_soon"}.get(found, "long_meters_bad")
    return f'<span class="lv-chip lv-mete-chip lv-mete-{found}">{html.escape(say(word))}</span>'
