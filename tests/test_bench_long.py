"""The benchmark of long videos measures each way to join segments and what length costs, and says what is reached."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli.main import bench
from bench import long, long_videos
from bench.long_figures import Judged, figure, of_costs, of_videos, rows
from extensions.long_video.metrics import SIGNALS, Drift, Join, Report, Signal
from lavie import Cascade
from lavie.errors import BundleError
from tests.cascades import with_extension

RIGHT, WRONG = {"colour": True, "shape": True}, {"colour": True, "shape": False}
MEASURES = ("luma", "contrast", "saturation", "sharpness", "motion")


def join(ratio: float, frame: int = 16) -> Join:
    return Join(1, frame, **{name: Signal(2 * ratio, 2.0, ratio, 0.0) for name in SIGNALS})


def judged(ratios=(1.0,), first=RIGHT, last=RIGHT, between=(1.0,), **ends: float) -> Judged:
    """A video with such joins and such places between them; ends: measure → its value at the end, all begin at 100."""
    drift = tuple(Drift(measure, 100.0, ends.get(measure, 100.0), 0.0, ()) for measure in MEASURES)
    reports = (Report(28, tuple(map(join, each)), drift, ()) for each in (ratios, between))
    return Judged(*reports, first, last)


def run(length: int, peak: float, times: list[float]) -> dict:
    seconds = sum(times) + 1.0
    known = {"segments": length, "frames": 12 * length, "video_seconds": 1.5 * length, "peak_memory_mib": peak}
    return {**known, "seconds": seconds, "writing": 1.0, "segment_seconds": times}


def names(figures: dict) -> list[str]:
    return [" ".join(path) for path, _ in rows(figures)]


def test_a_figure_says_whether_it_reaches_what_is_asked():
    assert [figure(value, (0.8, 1.25))["reached"] for value in (0.79, 0.8, 1.25, 1.26)] == [False, True, True, False]
    assert figure(1.7, (None, 1.6))["reached"] is False and figure(85.0, (85.0, None))["reached"] is True
    assert figure(3.14159) == {"value": 3.1416, "asked": None, "reached": None}
    assert figure(None, (None, 1.6)) == {"value": None, "asked": [None, 1.6], "reached": None}


def test_joins_count_alike_whichever_video_they_are_of():
    found = of_videos([judged([1.0] * 9), judged([1.2] * 9 + [2.0, 2.0])])["joins"]
    assert found["d"]["median"]["value"] == pytest.approx(1.2) and found["d"]["median"]["reached"]
    assert found["m"]["p95"]["value"] == pytest.approx(2.0) and found["m"]["p95"]["reached"] is False
    assert found["s, grey levels"]["median"] == figure(0.4)


def test_what_is_between_joins_is_told_beside_them_and_asked_nothing():
    found = of_videos([judged([1.0] * 9, between=[1.5] * 9)])
    assert found["between joins"]["d"] == {"p95": figure(1.5)} and found["joins"]["d"]["p95"]["value"] == 1.0
    assert found["between joins"]["s, grey levels"]["p95"]["value"] == pytest.approx(1.0)


def test_a_frame_that_comes_twice_is_no_success():
    assert of_videos([judged([0.1] * 5)])["joins"]["d"]["median"]["reached"] is False


def test_a_video_without_joins_adds_none():
    assert of_videos([judged([1.1]), judged([])])["joins"]["a"]["median"]["value"] == pytest.approx(1.1)
    alone = of_videos([judged([])])["joins"]
    assert all(one["value"] is None and one["reached"] is None for _, one in rows(alone))


def test_drift_is_told_by_the_median_and_the_worst():
    videos = [judged(luma=last, contrast=last) for last in (94.0, 101.0, 103.0)]
    drift = of_videos(videos)["drift"]
    assert drift["luma"]["median"] == figure(3.0, (None, 4.0)) and drift["luma"]["worst"] == figure(6.0, (None, 4.0))
    assert drift["luma"]["% within"]["value"] == pytest.approx(66.6667)
    assert (
        drift["contrast"]["worst"]["value"] == pytest.approx(0.94, abs=1e-3) and drift["contrast"]["worst"]["reached"]
    )
    assert drift["motion"]["median"]["value"] == 1


@pytest.mark.parametrize(("last", "worst"), [((60.0, 150.0), 0.6), ((80.0, 150.0), 1.5)])
def test_the_worst_ratio_is_furthest_from_one_either_way(last, worst):
    drift = of_videos([judged(motion=value) for value in last])["drift"]
    assert drift["motion"]["worst"]["value"] == pytest.approx(worst, abs=1e-3)


def test_only_what_began_right_can_be_kept():
    videos = [judged(), judged(last=WRONG), judged(first=WRONG, last=WRONG), judged(first=WRONG)]
    found = of_videos(videos)["judge"]
    both = found["colour and shape"]
    assert (both["% first"]["value"], both["% last"]["value"]) == (50, 50)
    assert both["% kept"] == figure(50.0, (85.0, None)) and both["% kept"]["reached"] is False
    assert found["colour"]["% kept"] == figure(100.0)


def test_where_no_video_began_right_nothing_is_said_of_what_is_kept():
    found = of_videos([judged(first=WRONG), judged(first=WRONG)])["judge"]
    assert found["shape"]["% kept"] == figure(None)
    assert found["colour and shape"]["% kept"]["reached"] is None and found["shape"]["% last"]["value"] == 100


def test_length_costs_neither_memory_nor_speed():
    short, steady = run(4, 500, [1.0] * 4), run(10, 520, [9.0] + [1.0] * 8 + [7.0])
    found = of_costs(short, steady)
    assert found["peak memory"]["ratio"] == figure(1.04, (None, 1.05)) and found["peak memory"]["ratio"]["reached"]
    assert found["seconds a segment"]["ratio"] == figure(1.0, (0.9, 1.1))
    slower = of_costs(short, run(10, 530, [1.0] * 5 + [1.2] * 5))
    assert slower["peak memory"]["ratio"]["reached"] is False
    assert slower["seconds a segment"]["ratio"] == figure(1.2, (0.9, 1.1))
    assert slower["seconds"]["an added second of video"]["value"] == pytest.approx((12 - 5) / 9, abs=1e-4)
    assert names(found) == names(slower)


def test_a_single_segment_has_no_halves():
    found = of_costs(run(1, 500, [1.0]), run(2, 500, []))["seconds a segment"]
    assert found["ratio"]["value"] is None and found["ratio"]["reached"] is None


def test_the_sheet_shows_both_sides_of_the_first_and_the_last_join():
    frames = np.arange(100)
    assert long_videos.around(frames, [16, 28, 88]).tolist() == [14, 15, 16, 17, 86, 87, 88, 89]
    assert long_videos.around(frames, [2]).tolist() == [0, 0, 0, 1, 2, 3, 4, 5]


def test_the_world_itself_goes_on_behind_its_first_clip(tiny_cascade):
    scene = long_videos.scene_of(long_videos.ALL, 3)
    frames, joins, window = long_videos.video(tiny_cascade, {}, long_videos.WORLD, scene, 3, 3, None)
    longer, *_ = long_videos.video(tiny_cascade, {}, long_videos.WORLD, scene, 3, 4, None)
    assert (window, joins, frames.shape) == (4, [4, 6], (8, 16, 32, 3))
    assert (longer[:8] == frames).all() and (frames[0] != frames[3]).any()


@pytest.mark.slow
def test_it_measures_all_ways_of_a_bundle_and_what_length_costs(tiny_bundle, tmp_path, monkeypatch, capsys):
    # A toy clip is too small to be judged: what is read from it does not matter here.
    monkeypatch.setattr(long_videos, "read", lambda frames: frames)
    monkeypatch.setattr(long_videos, "matches", lambda scene, frames: RIGHT if len(frames) == 4 else WRONG)
    bundle = str(with_extension(tiny_bundle, tmp_path / "bundle"))
    results = ["--results", str(tmp_path / "results")]
    little = ["--prompts", "2", "--segments", "2", "--memory-steps", "1"]
    long.main(["--model", bundle, *little, *results, "--memory", "2", "3"])
    found = json.loads((tmp_path / "results/long.json").read_text())
    assert list(found["strategies"]) == list(long_videos.WAYS)
    for strategy in found["strategies"].values():
        assert (strategy["videos"], strategy["joins"]) == (2, 2)
        assert list(strategy["figures"]) == ["joins", "between joins", "drift", "judge"]
        assert strategy["figures"]["judge"]["colour and shape"]["% kept"]["reached"] is True
    short, longer = found["cost"]["runs"]
    assert (short["segments"], longer["segments"], len(longer["segment_seconds"])) == (2, 3, 3)
    assert longer["frames"] == 8 and min(short["peak_memory_mib"], short["writing"]) > 0
    assert found["cost"]["figures"]["peak memory"]["ratio"]["value"] == pytest.approx(1, abs=0.2)
    with Image.open(tmp_path / "results/long.png") as sheet:
        assert sheet.size == (8 * 32, 6 * 16)
    shown = capsys.readouterr()
    assert "codenoise" in shown.out and "≤ 1.05" in shown.out and "world: video 2 of 2" in shown.err

    long.main(["--model", bundle, *little, *results, "--no-memory", "--strategies", "hard", "corrected", "hard"])
    again = json.loads((tmp_path / "results/long.json").read_text())
    assert again["cost"] is None and list(again["strategies"]) == ["hard", "corrected"]
    for way, strategy in again["strategies"].items():  # the same seeds give the same figures
        assert strategy["figures"] == found["strategies"][way]["figures"]
    corrected, hard = (again["strategies"][way]["figures"]["joins"] for way in ("corrected", "hard"))
    assert corrected != hard


def test_a_bundle_without_the_network_leaves_conditioned_out(tiny_bundle, tmp_path, monkeypatch):
    results = ["--results", str(tmp_path / "results")]
    assert "conditioned" not in long_videos.chosen(Cascade.from_bundle(tiny_bundle), None)
    with pytest.raises(BundleError, match="extension"):
        long.main(["--model", str(tiny_bundle), *results, "--strategies", "hard", "conditioned"])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--prompts 0", "--prompts is 0"),
        ("--first -1", "--first is -1"),
        ("--segments 1", "--segments is 1"),
        ("--segments 1001", "1000 or less"),
        ("--steps 0", "--steps is 0"),
        ("--memory-steps 0", "--memory-steps is 0"),
        ("--memory 100 4", "the shorter one first"),
        ("--memory 4 1001", "the shorter one first"),
        ("--strategies magic", "invalid choice: 'magic'"),
        ("--stages some", "invalid choice: 'some'"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_overwrites_nothing(options, said, capsys):
    with pytest.raises(SystemExit) as ended:
        long.main(options.split())
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_the_command_hands_everything_on_to_the_module():
    shown = CliRunner().invoke(bench, ["long", "--help"])
    assert shown.exit_code == 0 and "--no-memory" in shown.stdout
