"""The meters see each kind of seam and of drift that was put in, and nothing in a video without one."""

import gc
import json
import weakref

import numpy as np
import pytest

from extensions.long_video.metrics import AFTER, BEFORE, LUMA, SIGNALS, Meter, Report, join_between, match_blocks

JOINS = [16, 28, 40, 52]
FRAMES, HEIGHT, WIDTH = 64, 64, 96


def _scene() -> np.ndarray:
    """A camera that moves over a soft pattern, and a disc that circles: float F H W 3."""
    pattern = np.kron(np.random.default_rng(0).uniform(40, 200, (40, 60, 3)), np.ones((4, 4, 1)))
    for axis in (0, 1):
        pattern = np.apply_along_axis(lambda line: np.convolve(line, np.ones(5) / 5, "same"), axis, pattern)
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for number in range(FRAMES):
        place, part = divmod(1.2 * number, 1)
        views = [pattern[4 : 4 + HEIGHT, 4 + int(place) + more :][:, :WIDTH] for more in (0, 1)]
        view = (1 - part) * views[0] + part * views[1]
        distance = np.hypot(down - 32 - 12 * np.cos(number / 7), across - 30 - 20 * np.sin(number / 9))
        disc = np.clip(9 - distance, 0, 1)[..., None]
        frames.append(view * (1 - disc) + disc * np.array([220, 60, 40]))
    return np.array(frames)


SCENE = _scene()
SEGMENT = np.searchsorted(JOINS, np.arange(FRAMES), side="right")  # of each frame
GREY = (SCENE @ LUMA)[..., None]
REDRAWN = np.random.default_rng(1).normal(0, 9, (5, HEIGHT, WIDTH, 3))


def report(frames: np.ndarray, joins=JOINS) -> Report:
    meter = Meter(joins)
    for frame in frames:
        meter.add(np.clip(np.round(frame), 0, 255).astype(np.uint8))
    return meter.report()


def ratio(measured: Report, signal: str) -> float:
    """The median over the joins."""
    return float(np.median([getattr(join, signal).ratio for join in measured.joins]))


def _each(change) -> np.ndarray:
    return np.array([change(frame, number) for frame, number in zip(SCENE, SEGMENT, strict=True)])


def _doubled() -> np.ndarray:
    order = np.arange(FRAMES)
    order[JOINS] -= 1
    return SCENE[order]


def test_a_video_without_seams_has_none():
    measured = report(SCENE)
    assert measured.findings == ()
    assert [join.frame for join in measured.joins] == JOINS
    assert [join.segment for join in measured.joins] == [1, 2, 3, 4]
    assert all(0.9 <= ratio(measured, signal) <= 1.2 for signal in "dam")


@pytest.mark.parametrize(
    ("defect", "signal", "word"),
    [
        (_each(lambda frame, number: frame + 3 * number), "s", "colour"),
        (GREY + (SCENE - GREY) * 1.05 ** SEGMENT[:, None, None, None], "s", "colour"),
        (_each(lambda frame, number: (frame - frame.mean()) * 1.05**number + frame.mean()), "s", "contrast"),
        (_each(lambda frame, number: np.roll(frame, 4 * number, 1)), "a", "jumps"),
        (_each(lambda frame, number: frame + REDRAWN[number]), "a", "jumps"),
    ],
    ids=["brightness", "saturation", "contrast", "jump", "redrawn"],
)
def test_each_defect_is_seen_by_the_signal_that_is_made_for_it(defect, signal, word):
    measured = report(defect)
    assert ratio(measured, signal) > 1.9
    assert {finding.where for finding in measured.findings if word in finding.what} >= {1, 2, 3, 4} - {1}
    assert all(finding.cure for finding in measured.findings)


def test_a_frame_that_comes_twice_is_a_seam_too():
    measured = report(_doubled())
    assert ratio(measured, "d") < 0.1 and ratio(measured, "m") < 0.2
    assert [finding.where for finding in measured.findings] == [1, 2, 3, 4]
    assert all("stands still" in finding.what for finding in measured.findings)


def test_flicker_over_the_whole_video_would_not_have_seen_it():
    """Why there are four signals at joins: VBench's formula is the same with and without the seams."""

    def flicker(frames):
        return 1 - np.abs(np.diff(frames, axis=0)).mean() / 255

    seamed = _each(lambda frame, number: frame + 3 * number)
    assert abs(flicker(SCENE) - flicker(seamed)) < 0.002


@pytest.mark.parametrize(
    ("drifting", "measure", "word"),
    [
        (lambda frame, t: frame + 12 * t, "luma", "brighter"),
        (lambda frame, t: (frame - 110) * (1 - 0.3 * t) + 110, "contrast", "0.7"),
        (lambda frame, t: frame @ LUMA[:, None] + (frame - frame @ LUMA[:, None]) * (1 + 0.5 * t), "saturation", "1."),
    ],
)
def test_a_slow_change_is_drift_and_no_seam(drifting, measure, word):
    times = np.linspace(0, 1, FRAMES)
    measured = report(np.array([drifting(frame, t) for frame, t in zip(SCENE, times, strict=True)]))
    (found,) = [finding for finding in measured.findings if finding.what.startswith((measure, "the picture has"))]
    assert found.where is None and word in found.what and found.cure
    assert not [finding for finding in measured.findings if finding.where is not None]
    (drift,) = [drift for drift in measured.drift if drift.measure == measure]
    assert len(drift.segments) == 5
    assert (drift.slope > 0) == (drift.last > drift.first)


def test_motion_that_stops_is_drift():
    stopping = SCENE[[int(FRAMES * (1 - (1 - t) ** 2) / 2) for t in np.linspace(0, 1, FRAMES)]]
    assert any(finding.what.startswith("motion") for finding in report(stopping, [30]).findings)


def test_a_still_picture_is_no_defect():
    measured = report(np.repeat(SCENE[:1], 40, 0), [16, 28])
    assert measured.findings == ()
    assert all(getattr(join, signal).ratio == 1 for join in measured.joins for signal in "dams")


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 17])
def test_any_length_is_measured(frames):
    measured = report(SCENE[:frames])
    assert measured.frames == frames
    assert Report.from_json(measured.to_json()) == measured


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 15), (40, 1500)])
def test_any_size_is_measured(size):
    frames = np.random.default_rng(0).uniform(0, 255, (20, *size, 3))
    assert np.isfinite(json.loads(report(frames, [10]).to_json())["joins"][0]["m"]["ratio"])


def test_a_report_survives_json():
    measured = report(_doubled())
    assert Report.from_json(measured.to_json()) == measured
    assert "\n" not in measured.to_json()


def test_frames_are_not_kept():
    meter, alive = Meter(JOINS), []
    for frame in SCENE.astype(np.uint8):
        copy = frame.copy()
        alive.append(weakref.ref(copy))
        meter.add(copy)
        del copy
    gc.collect()
    assert sum(reference() is not None for reference in alive) == 0


def test_block_matching_forgives_motion_within_its_reach():
    grey = SCENE[0] @ LUMA
    moved = np.roll(grey, (3, -5), (0, 1))
    still = np.abs(moved - grey).mean()
    assert match_blocks(grey, moved) < 0.3 * still
    assert match_blocks(grey, grey) == 0


@pytest.mark.parametrize("change", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("kind", ["nothing", "colour", "jump", "doubled"])
def test_a_join_is_severe_exactly_where_there_is_a_finding(kind, change):
    frames = {
        "nothing": lambda: SCENE,
        "colour": lambda: _each(lambda frame, number: frame + change * number),
        "jump": lambda: _each(lambda frame, number: np.roll(frame, round(3 * change * number), axis=1)),
        "doubled": _doubled,
    }[kind]()
    measured = report(frames)
    severe = {join.segment for join in measured.joins if join.severity > 1}
    assert severe == {finding.where for finding in measured.findings if finding.where is not None}


def test_a_join_alone_is_the_same_as_in_its_video():
    frames = np.clip(np.round(_doubled()), 0, 255).astype(np.uint8)
    near = slice(JOINS[1] - BEFORE, JOINS[1]), slice(JOINS[1], JOINS[1] + AFTER)
    alone, inside = join_between(*(frames[part] for part in near)), report(_doubled()).joins[1]
    for name in SIGNALS:
        assert getattr(alone, name) == getattr(inside, name), name
