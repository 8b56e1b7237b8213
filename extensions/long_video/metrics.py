"""Measures seams and drift of a finished video frame by frame. Needs no torch; holds three frames.

Four signals judge a join, because each misses something: d is the difference of frames, a the difference of
differences, m what block matching leaves of d, s a step of colour or contrast. d, a and m are compared with the
frames near by, in both directions, since a repeated frame is a seam too. (Ratios over a whole video, such as the
flicker of VBench, arXiv 2311.17982, do not see one frame in twelve.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavie.values import Stored

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
BLOCK, REACH = 16, 6  # pixels of a block, and how far it is looked for
MATCHED_AT = 512  # pixels of the longer side: larger pictures are shrunk for block matching


def luma(frame: np.ndarray) -> np.ndarray:
    """uint8 H W 3 → float32 H W, 0 … 255."""
    return frame.astype(np.float32) @ LUMA


def measure_look(frame: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """Mean, RMS contrast, saturation (RMS distance from grey) and sharpness (mean absolute Laplacian) of a frame.

    frame: uint8 H W 3. grey: its luma.
    """
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return {
        "luma": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(np.sqrt(np.square(frame - grey[..., None]).mean())),
        "sharpness": float(np.abs(laplacian).mean()) if middle.size else 0.0,
    }


def mean_colour(frame: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of red, green and blue: six numbers."""
    pixels = frame.reshape(-1, 3).astype(np.float32)
    return np.concatenate([pixels.mean(0), pixels.std(0)])


def match_blocks(before: np.ndarray, after: np.ndarray) -> float:
    """The difference of two lumas H W that motion does not explain.

    Mean over blocks of the smallest mean absolute difference within `REACH` pixels. It ignores motion but not a redrawn
    or missing detail.
    """
    before, after = _shrink(before), _shrink(after)
    block = min(BLOCK, *after.shape)
    height, width = (size // block * block for size in after.shape)
    after = after[:height, :width]
    padded = np.pad(before, REACH, mode="edge")
    best = np.full((height // block, width // block), np.inf, np.float32)
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            difference = np.abs(after - padded[down : down + height, across : across + width])
            means = difference.reshape(height // block, block, width // block, block).mean((1, 3))
            best = np.minimum(best, means)
    return float(best.mean())


def _shrink(grey: np.ndarray) -> np.ndarray:
    """Average down by a whole factor, so that block matching takes no longer than a step of the network."""
    factor = -(-max(grey.shape) // MATCHED_AT)
    if factor == 1:
        return grey
    height, width = (size // factor * factor for size in grey.shape)
    return grey[:height, :width].reshape(height // factor, factor, width // factor, factor).mean((1, 3))


SIGNALS = ("d", "a", "m", "s")
NEAR = 8  # frames to either side that a join is read against
BEFORE, AFTER = NEAR, NEAR + 3  # frames needed for that; a value lies between two or three
FLOOR = 0.05  # grey levels; invisible, and keeps ratios of still pictures finite
LOWEST, HIGHEST = 0.5, 1.5  # of the ratios of d, a and m
COLOUR_RATIO, COLOUR_STEP = 2.5, 0.5  # s must be above both, the second in grey levels over its surroundings
ENDS = 0.15  # share of the video that drift compares, first to last
LUMA_LIMIT = 4.0  # grey levels
LIMITS = {"contrast": (0.90, 1.10), "saturation": (0.90, 1.10), "sharpness": (0.85, 1.20), "motion": (0.6, 1.6)}
DRIFT_CURES = {
    "luma": "switch anchoring on, or lower guidance",
    "contrast": "switch anchoring on, or use guidance with a rescale of 0.7",
    "saturation": "switch anchoring on, or use guidance with a rescale of 0.7",
    "sharpness": "start a new segment from a sharp frame, or use “conditioned” where such weights are there",
    "motion": "choose a larger overlap, or “conditioned” where such weights are there",
}
STANDSTILL_CURE = "switch guarding on, or choose an overlap of 1 or 2"


@dataclass(frozen=True)
class Signal:
    """One signal at a join in grey levels, and `near`, the median near by.

    z: the distance from near in robust standard deviations.
    """

    value: float
    near: float
    ratio: float
    z: float


@dataclass(frozen=True)
class Join:
    """The signals at the first frame of a segment, see the module."""

    segment: int
    frame: int
    d: Signal
    a: Signal
    m: Signal
    s: Signal

    @property
    def severity(self) -> float:
        """How visible the join is by its worst signal; above 1 there is a finding."""
        stepped = min(self.s.ratio / COLOUR_RATIO, (self.s.value - self.s.near) / COLOUR_STEP)
        jumps = (self.d.ratio, self.a.ratio, self.m.ratio)
        return max(stepped, LOWEST / self.d.ratio, *(ratio / HIGHEST for ratio in jumps))


@dataclass(frozen=True)
class Drift:
    """The drift of one measure, in grey levels.

    Args:
        first, last: means over the first and last 15 % of the video.
        slope: change per segment in percent of the first segment.
        segments: the mean of each.
    """

    measure: str
    first: float
    last: float
    slope: float
    segments: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """A fault that a person would see, and what may help. where: number of the segment; None for the whole video."""

    where: int | None
    what: str
    cure: str


@dataclass(frozen=True)
class Report(Stored):
    """The measurements of a video. `findings` is empty if there are neither seams nor drift."""

    stored_as = "a report"

    frames: int
    joins: tuple[Join, ...]
    drift: tuple[Drift, ...]
    findings: tuple[Finding, ...]


class Meter:
    """Measures a video frame by frame."""

    def __init__(self, joins: Sequence[int]) -> None:
        """joins: the first frame of each segment but the first, ascending (`plan.Layout.joins`)."""
        self.joins = list(joins)
        # Signal → the places of its values that span a join.
        self._touching = {
            name: {join - 1 - back for join in self.joins for back in range(2 if name == "a" else 1)}
            for name in SIGNALS
        }
        self._looks: list[dict[str, float]] = []
        self._signals: dict[str, list[float]] = {name: [] for name in SIGNALS}  # between frame i and i + 1
        self._lumas: list[np.ndarray] = []  # the last two
        self._colour: np.ndarray | None = None

    def add(self, frame: np.ndarray) -> None:
        """Add the next frame, uint8 H W 3."""
        grey, mean = luma(frame), mean_colour(frame)
        self._looks.append(measure_look(frame, grey))
        if self._lumas:
            before = self._lumas[-1]
            self._signals["d"].append(float(np.abs(grey - before).mean()))
            self._signals["m"].append(match_blocks(before, grey))
            self._signals["s"].append(float(np.abs(mean - self._colour).max()))
        if len(self._lumas) == 2:
            self._signals["a"].append(float(np.abs(grey - 2 * self._lumas[1] + self._lumas[0]).mean()))
        self._lumas, self._colour = [*self._lumas[-1:], grey], mean

    def report(self) -> Report:
        """The measurements so far."""
        joins = tuple(
            Join(number, frame, *(self._signal(name, frame) for name in SIGNALS))
            for number, frame in enumerate(self.joins, 1)
            if self._has(frame)
        )
        drift = tuple(self._drift(measure) for measure in ("luma", *LIMITS)) if self._looks else ()
        findings = [found for join in joins for found in _seam_findings(join)]
        findings += [found for measured in drift for found in _drift_findings(measured)]
        return Report(len(self._looks), joins, drift, tuple(findings))

    def _has(self, join: int) -> bool:
        return 0 < join < len(self._looks)

    def _signal(self, name: str, frame: int) -> Signal:
        """A signal at a join and its median near by. For `a` the mean of the two values that touch the join."""
        values, touching = self._signals[name], self._touching[name]
        here = [
            place for place in ((frame - 2, frame - 1) if name == "a" else (frame - 1,)) if 0 <= place < len(values)
        ]
        value = float(np.mean([values[place] for place in here])) if here else 0.0
        around = range(max(frame - NEAR, 0), min(frame + NEAR + 1, len(values)))
        near = [values[place] for place in around if place not in touching]
        if not near:
            return Signal(value, value, 1.0, 0.0)
        middle = float(np.median(near))
        spread = 1.4826 * float(np.median(np.abs(np.array(near) - middle)))  # of a normal distribution
        return Signal(value, middle, (value + FLOOR) / (middle + FLOOR), (value - middle) / (spread + FLOOR))

    def _drift(self, measure: str) -> Drift:
        values = np.array(self._signals["d"] if measure == "motion" else [look[measure] for look in self._looks])
        values = values if len(values) else np.zeros(1)
        ends = max(1, round(ENDS * len(values)))
        # A difference belongs to the frame after it, so the borders of motion lie one place earlier.
        borders = [join - (measure == "motion") for join in self.joins if self._has(join)]
        segments = [float(part.mean()) for part in np.split(values, borders) if len(part)]
        slope = float(np.polyfit(range(len(segments)), segments, 1)[0]) if len(segments) > 1 else 0.0
        percent = 100 * slope / (segments[0] + FLOOR)
        return Drift(measure, float(values[:ends].mean()), float(values[-ends:].mean()), percent, tuple(segments))


def join_between(before: Sequence[np.ndarray] | np.ndarray, after: Sequence[np.ndarray] | np.ndarray) -> Join:
    """The join between two runs of frames uint8 H W 3, at least one each."""
    meter = Meter([len(before)])
    for frame in (*before, *after):
        meter.add(frame)
    return meter.report().joins[0]


def _seam_findings(join: Join) -> list[Finding]:
    """The findings at a join: at most a step of colour, and a jump or a standstill."""
    found = []
    if join.s.ratio > COLOUR_RATIO and join.s.value - join.s.near > COLOUR_STEP:
        cure = "switch anchoring on, or make the segment again with another seed"
        found.append(Finding(join.segment, f"colour or contrast steps by {join.s.value:.1f} of 255", cure))
    if join.d.ratio < LOWEST:
        cure = "switch guarding on, or make the segment again with another seed"
        found.append(Finding(join.segment, "the picture stands still for a frame", cure))
    elif join.d.ratio > HIGHEST or (join.m.ratio > HIGHEST and not found):  # a step of colour is no motion
        cure = "choose a larger overlap, or “conditioned” where such weights are there"
        found.append(Finding(join.segment, f"the picture jumps, {join.d.ratio:.1f} times its usual change", cure))
    elif join.a.ratio > HIGHEST:
        cure = "choose an overlap of at least 2, or make the segment again with another seed"
        found.append(Finding(join.segment, f"motion breaks, {join.a.ratio:.1f} times its usual change", cure))
    return found


def _drift_findings(drift: Drift) -> list[Finding]:
    if drift.measure == "luma":
        change = drift.last - drift.first
        if abs(change) <= LUMA_LIMIT:
            return []
        what = f"the picture has become {'brighter' if change > 0 else 'darker'} by {abs(change):.1f} of 255"
        return [Finding(None, what, DRIFT_CURES["luma"])]
    low, high = LIMITS[drift.measure]
    ratio = (drift.last + FLOOR) / (drift.first + FLOOR)
    if low <= ratio <= high:
        return []
    what = f"{drift.measure} has become {ratio:.2f} times what it was"
    slower = drift.measure == "motion" and ratio < low
    return [Finding(None, what, STANDSTILL_CURE if slower else DRIFT_CURES[drift.measure])]
