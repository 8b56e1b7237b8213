"""HTML of the timeline: the segments to scale, the measured joins and drift, and the findings. Pure functions.

A mark is bad where `extensions.long_video.metrics` reports a finding; its limits are used here.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from app.ui.html import action_button, named, quiet
from app.ui.i18n import Words
from app.ui.long_video.view_model import ViewModel, assign_hues
from app.ui.panels import panel_content
from extensions.long_video import metrics
from extensions.long_video.metrics import Drift, Finding, Join, Report
from extensions.long_video.plan import Layout

GOOD, SOON, BAD = "good", "soon", "bad"
_NEAR = (0.8, 1.25)  # of d, a and m: outside of it a mark is yellow, before anybody would see it
_SIGNS = {GOOD: "●", SOON: "▲", BAD: "✖"}  # shapes, for who cannot tell the colours apart
_LANE = 40  # units of height of a drift curve; its width is 1000
# Sentences of the metrics → language key; groups are filled in.
_SENTENCES = (
    (r"colour or contrast steps by (?P<value>\S+) of 255", "finding_step"),
    (r"the picture stands still for a frame", "finding_still"),
    (r"the picture jumps, (?P<value>\S+) times its usual change", "finding_jump"),
    (r"motion breaks, (?P<value>\S+) times its usual change", "finding_break"),
    (r"the picture has become brighter by (?P<value>\S+) of 255", "finding_brighter"),
    (r"the picture has become darker by (?P<value>\S+) of 255", "finding_darker"),
    (r"contrast has become (?P<value>\S+) times what it was", "finding_contrast"),
    (r"saturation has become (?P<value>\S+) times what it was", "finding_saturation"),
    (r"sharpness has become (?P<value>\S+) times what it was", "finding_sharpness"),
    (r"motion has become (?P<value>\S+) times what it was", "finding_motion"),
    (r"switch anchoring on, or make the segment again with another seed", "cure_anchor_seed"),
    (r"switch guarding on, or make the segment again with another seed", "cure_guard_seed"),
    (r"choose a larger overlap, or “conditioned” where such weights are there", "cure_overlap"),
    (r"choose an overlap of at least 2, or make the segment again with another seed", "cure_overlap_seed"),
    (r"switch anchoring on, or lower guidance", "cure_anchor_guidance"),
    (r"switch anchoring on, or use guidance with a rescale of 0\.7", "cure_anchor_rescale"),
    (r"start a new segment from a sharp frame, or use “conditioned” where such weights are there", "cure_sharp"),
    (r"switch guarding on, or choose an overlap of 1 or 2", "cure_guard_overlap"),
)


def render_timeline(video: ViewModel, say: Words) -> str:
    name = html.escape(say("long_timeline"))
    heading = f'<div class="lv-head"><h2>{name}</h2>{_verdict(video.report, say)}</div>'
    inside = _blocks(video, say)
    below = ""
    if video.report is not None:
        layout = video.clip_layout or video.layout
        inside += _joins(video.report, say) + "".join(_lane(drift, layout, say) for drift in video.report.drift)
        below = _findings_section(video, video.report, say)
    # Each segment is wide enough for its number and marks; where there are many, this part alone scrolls.
    width = f"{len(video.project.plan.segments) * 3.4:.1f}rem"
    track = f'<div class="lv-track" style="min-width: {width}">{inside}<i class="lv-playhead"></i></div>'
    scrolled = f'<div class="lv-timeline" role="group" aria-label="{name}" tabindex="0">{track}</div>'
    return panel_content(video.view.refused, heading + scrolled + below)


def _verdict(report: Report | None, say: Words) -> str:
    """One mark for all joins and drifts."""
    if report is None:
        return f'<span class="lv-quiet">{html.escape(say("long_no_report"))}</span>'
    signals = [level for join in report.joins for level, _ in join_levels(join).values()]
    level = max((*signals, *map(drift_level, report.drift)), key=(GOOD, SOON, BAD).index, default=GOOD)
    word = {GOOD: "long_meters_good", SOON: "long_meters_soon"}.get(level, "long_meters_bad")
    return f'<span class="lv-chip lv-mete-chip lv-mete-{level}">{html.escape(say(word))}</span>'


def _blocks(video: ViewModel, say: Words) -> str:
    layout, plan = video.layout, video.project.plan
    hues = assign_hues([segment.prompt for segment in plan.segments])
    blocks = []
    if layout.start:
        more = f'style="flex-grow: {layout.start}" {named(say("long_start_frames", frames=layout.start))}'
        blocks.append(action_button("seek", "▸", "lv-block lv-block-start", more, seek=0))
    for number, segment in enumerate(plan.segments):
        frames, state = layout.frames_of(number), video.state_of(number)
        seek = f"{frames.start / layout.frames:.5f}"
        words = f"{say('long_segment', number=number + 1)}, {say(f'long_state_{state}')}: {segment.prompt[:200]}"
        here = ' aria-current="true"' if video.view.chosen == number else ""
        more, style = f'style="flex-grow: {len(frames)}" {named(words)}{here}', f"lv-hue-{hues[number]} lv-is-{state}"
        blocks.append(action_button("select", str(number + 1), f"lv-block {style}", more, n=number, seek=seek))
    return f'<div class="lv-blocks">{"".join(blocks)}</div>'


def _joins(report: Report, say: Words) -> str:
    """The four signals of each join under its border."""
    marks = []
    for join in report.joins:
        left = 100 * join.frame / max(report.frames, 1)
        marks.append(f'<span class="lv-join" style="left: {left:.3f}%">{seam_marks(join, say)}</span>')
    label = html.escape(say("long_joins"))
    return f'<div class="lv-joins" role="group" aria-label="{label}">{"".join(marks)}</div>' if marks else ""


def seam_marks(seam: Mapping[str, float] | Join, say: Words) -> str:
    """A mark for each signal of a join, with its name and ratio."""
    if isinstance(seam, Mapping):
        levels = {name: (signal_level(name, seam[name]), seam[name]) for name in metrics.SIGNALS if name in seam}
    else:
        levels = join_levels(seam)
    marks = ""
    for name, (level, ratio) in levels.items():
        words = named(f"{say(f'signal_{name}')}: × {ratio:.2f}")
        marks += f'<span class="lv-mete lv-mete-{level}" role="img" {words}>{_SIGNS[level]}</span>'
    return f'<span class="lv-seam">{marks}</span>' if marks else ""


def join_levels(join: Join) -> dict[str, tuple[str, float]]:
    """Signal → its level and its ratio."""
    signals = {name: getattr(join, name) for name in metrics.SIGNALS}
    return {name: (signal_level(name, one.ratio, one.value - one.near), one.ratio) for name, one in signals.items()}


def signal_level(name: str, ratio: float, step: float | None = None) -> str:
    """Level of a signal of a join. step: grey levels over the surroundings, for signal s, if known."""
    if name == "s":
        step = metrics.COLOUR_STEP + 1 if step is None else step
        if ratio > metrics.COLOUR_RATIO and step > metrics.COLOUR_STEP:
            return BAD
        return SOON if ratio > metrics.COLOUR_RATIO * 0.6 and step > metrics.COLOUR_STEP / 2 else GOOD
    low = metrics.LOWEST if name == "d" else 0.0  # d alone reports a standstill
    if not low <= ratio <= metrics.HIGHEST:
        return BAD
    return GOOD if ratio <= _NEAR[1] and (ratio >= _NEAR[0] or name != "d") else SOON


def drift_level(drift: Drift) -> str:
    """Level of a measure over the whole video: `SOON` from 60 % of the way to its limit."""
    if drift.measure == "luma":
        share = abs(drift.last - drift.first) / metrics.LUMA_LIMIT
    else:
        low, high = metrics.LIMITS[drift.measure]
        ratio = (drift.last + metrics.FLOOR) / (drift.first + metrics.FLOOR)
        share = (1 - ratio) / (1 - low) if ratio < 1 else (ratio - 1) / (high - 1)
    return BAD if share > 1 else SOON if share > 0.6 else GOOD


def _lane(drift: Drift, layout: Layout, say: Words) -> str:
    """The curve of one measure: a point for each segment, and a band for its limits."""
    words = say(
        "long_drift", name=say(f"measure_{drift.measure}"), first=f"{drift.first:.1f}", last=f"{drift.last:.1f}"
    )
    low, high = _limits(drift)
    values = drift.segments
    floor, top = min(low, *values), max(high, *values)
    span = (top - floor) * 1.15 or 1.0

    def height(value: float) -> float:
        return _LANE * (1 - (value - floor) / span - 0.07)

    points = list(zip(_middles(layout, len(values)), map(height, values), strict=True))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<path d="M{x:.1f} {y:.1f}h.01" class="lv-dot"/>' for x, y in points)
    upper, lower = height(high), height(low)
    return (
        f'<figure class="lv-lane lv-lane-{drift_level(drift)}"><figcaption>{html.escape(words)}</figcaption>'
        f'<svg viewBox="0 0 1000 {_LANE}" preserveAspectRatio="none" role="img" aria-label="{html.escape(words)}">'
        f'<rect x="0" y="{upper:.1f}" width="1000" height="{max(lower - upper, 1):.1f}" class="lv-band"/>'
        f'<polyline points="{line}" class="lv-curve"/>{dots}</svg></figure>'
    )


def _limits(drift: Drift) -> tuple[float, float]:
    """The lowest and the highest good value of a measure, in its own units."""
    if drift.measure == "luma":
        return drift.first - metrics.LUMA_LIMIT, drift.first + metrics.LUMA_LIMIT
    low, high = metrics.LIMITS[drift.measure]
    return drift.first * low, drift.first * high


def _middles(layout: Layout, count: int) -> Iterator[float]:
    """Middle of each measured part, 0 … 1000."""
    borders: list[float] = [0, *layout.joins(), layout.frames]
    if len(borders) != count + 1:  # the report belongs to another plan
        borders = [place * layout.frames / count for place in range(count + 1)]
    for begin, end in itertools.pairwise(borders):
        yield 500 * (begin + end) / max(layout.frames, 1)


def _findings_section(video: ViewModel, report: Report, say: Words) -> str:
    outdated = quiet(say("long_report_old")) if video.outdated else ""
    heading = f"<h3>{html.escape(say('long_findings'))}</h3>"
    before = 1 if video.clip_layout and video.clip_layout.start else 0  # the metrics count the start as a segment
    return f'<div class="lv-found-all">{heading}{render_findings(report.findings, say, before)}{outdated}</div>'


def render_findings(findings: Sequence[Finding], say: Words, before: int = 0) -> str:
    """Visible faults with what may help, each with a button to its segment.

    before: parts that the metrics count before the first segment: 1 where the video continues something.
    """
    if not findings:
        return f'<p class="lv-proof">{_SIGNS[GOOD]} {html.escape(say("long_no_findings"))}</p>'
    rows = "".join(_finding(one, before, say) for one in findings)
    return f'<ul class="lv-findings">{rows}</ul>'


def _finding(finding: Finding, before: int, say: Words) -> str:
    what, cure = html.escape(translate(finding.what, say)), html.escape(translate(finding.cure, say))
    where = f"<strong>{html.escape(say('long_whole'))}</strong>"
    if finding.where is not None:
        number = max(finding.where - before, 0)
        where = action_button("select", html.escape(say("long_segment", number=number + 1)), "lv-link", n=number)
    return (
        f'<li><span class="lv-mete lv-mete-bad" aria-hidden="true">{_SIGNS[BAD]}</span> {where}: {what}. {cure}.</li>'
    )


def translate(text: str, say: Words) -> str:
    """A sentence of the metrics in the page's language; an unknown one stays as it is."""
    for pattern, word in _SENTENCES:
        if match := re.fullmatch(pattern, text):
            return say(word, **match.groupdict())
    return text
