"""Reads a script of segments: one prompt a line, or lines with times that are rounded to segments. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from extensions.long_video.plan import MAX_SEGMENTS, Segment
from lavie.errors import RequestError, short

_TIME = r"(\d+(?:\.\d+)?(?::\d{1,2}(?:\.\d+)?)?)\s*s?"
_TIMED = re.compile(rf"\s*{_TIME}\s*[-–]\s*{_TIME}\s*:\s+(.*\S)\s*$")


@dataclass(frozen=True)
class Script:
    """The segments of a script, and sentences that tell a person how times were rounded."""

    segments: tuple[Segment, ...]
    said: tuple[str, ...] = ()


def parse_script(text: str, fps: float, window: int = 16, overlap: int = 4, start: int = 0) -> Script:
    """Read a script.

    Args:
        text: one prompt a line, or `0s-2s: prompt` in every line (`0:30-1:05: prompt` with minutes). Blank lines are
            skipped.
        fps: of the base stage.
        window, overlap: of the plan.
        start: frames that exist already; times count from the frame after them.

    Raises RequestError that names the line.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise RequestError("the script is empty: write one line for each segment")
    timed = {number: match for number, line in lines if (match := _TIMED.match(line))}
    if not timed:
        return Script(_check_count([Segment(line) for _, line in lines]))
    for number, line in lines:
        if number not in timed:
            raise RequestError(f"line {number} has no times, others have: write `0s-2s: …` before {short(line)} too")
    spans = [(number, match[1], match[2], match[3]) for number, match in timed.items()]
    return _snap(spans, fps, window - (overlap if start else 0), window - overlap)


def _snap(lines: list[tuple[int, str, str, str]], fps: float, first: int, more: int) -> Script:
    """Round the end of each span to the nearest border of segments.

    first, more: frames of the first segment and of each other one.
    """
    segments, said, count, before = [], [], 0, 0.0
    for number, begin, end, prompt in lines:
        begins, ends = _parse_seconds(begin), _parse_seconds(end)
        if ends <= begins:
            raise RequestError(f"line {number} ends at {end} and begins at {begin}: give a later end")
        if begins < before:
            raise RequestError(f"line {number} begins at {begin}, before the line above has ended: put them in order")
        wanted = max(count + 1, 1 + round((ends * fps - first) / more))
        span = [first + (place - 1) * more if place else 0 for place in (count, wanted)]
        if wanted > MAX_SEGMENTS:
            raise RequestError(f"line {number} ends at {end}, behind {MAX_SEGMENTS} segments: shorten the script")
        segments += [Segment(prompt)] * (wanted - count)
        if [begins * fps, ends * fps] != span:
            which = f"segment {wanted}" if wanted == count + 1 else f"segments {count + 1} to {wanted}"
            said.append(f"line {number}: {begins:g}–{ends:g} s became {span[0] / fps:g}–{span[1] / fps:g} s, {which}")
        count, before = wanted, ends
    return Script(_check_count(segments), tuple(said))


def _parse_seconds(time: str) -> float:
    """Reads `1.5` or `0:30`."""
    minutes, _, seconds = time.rpartition(":")
    return 60 * float(minutes or 0) + float(seconds)


def _check_count(segments: list[Segment]) -> tuple[Segment, ...]:
    if len(segments) > MAX_SEGMENTS:
        raise RequestError(f"the script has {len(segments)} segments: shorten it to {MAX_SEGMENTS}")
    return tuple(segments)
