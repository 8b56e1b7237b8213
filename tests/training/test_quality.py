"""The benchmark of quality counts what the judge says, asks the same of every bundle, and draws what it counted."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import BENCHES, bench
from bench import quality
from bench.plots import SERIES, bars, curves, smoothed

KINDS = ("prompts", "unseen", "two", "spinning", "hearts")


def test_each_group_of_prompts_is_what_it_says():
    for number in range(40):
        assert len(quality.scene_of(quality.ALL, number).subjects) == 1
        assert quality.scene_of(quality.UNSEEN, number).held_out
        assert len(quality.scene_of(quality.TWO, number).subjects) == 2
        assert all(subject.size is None for subject in quality.scene_of(quality.ALL, number).subjects)
        assert quality.scene_of(quality.SPINNING, number).subjects[0].motion == "spinning"
        assert quality.scene_of(quality.HEARTS, number).subjects[0].shape == "heart"
    assert quality.scene_of(quality.UNSEEN, 3) == quality.scene_of(quality.UNSEEN, 3)
    captions = {quality.scene_of(group, n).caption for group in (quality.ALL, quality.UNSEEN) for n in range(40)}
    assert len(captions) > 60


def test_shares_are_per_cent_of_what_was_judged():
    verdicts = [{"colour": True, "motion": False}, {"colour": True}, {"colour": False}]
    assert quality.shares(verdicts) == {"colour": 66.7, "motion": 0.0}


def test_values_are_told_apart():
    scenes = [quality.scene_of(quality.ALL, number) for number in range(60)]
    judged = [(scene, {"colour": scene.subjects[0].colour == "red", "background": True}) for scene in scenes]
    found = quality.by_value(judged)
    assert found["colour"].pop("red") == 100
    assert set(found["colour"].values()) == {0.0}
    assert set(found["background"].values()) == {100.0}
    assert "shape" not in found


def test_it_measures_a_bundle_and_leaves_figures_and_pictures(tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "results")
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"step": step, "loss": 1 / step} for step in (1, 2, 2, 3)]
    (run / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # A toy clip is too small to be judged: what is read from it does not matter here.
    monkeypatch.setattr(quality, "read", lambda frames: SimpleNamespace(frames=len(frames), wobble=0.25, fits=True))
    monkeypatch.setattr(quality, "drop_unfit_shapes", lambda seen: SimpleNamespace(frames=seen.frames, fits=False))
    monkeypatch.setattr(quality, "matches", lambda scene, seen: {"colour": seen.frames == 4, "all": seen.fits})
    counts = ["--prompts", "2", "--unseen", "1", "--two", "0", "--spinning", "1", "--hearts", "0", "--steps", "1"]
    quality.main(["--model", str(tiny_bundle), "--compare", f"again={tiny_bundle}", *counts, "--curves", str(run)])
    found = json.loads((tmp_path / "results/quality.json").read_text())["models"]
    assert found["model"]["groups"]["all prompts"]["prompts"] == 2
    of_all = found["model"]["groups"]["all prompts"]
    assert of_all["right"] == {"colour": 100.0, "all": 0.0}
    assert (of_all[quality.ANY_FIT], of_all["wobble"]) == (100.0, 0.25)
    assert "spinning" in found["model"]["groups"] and "hearts" not in found["model"]["groups"]
    assert "two subjects" not in found["again"]["groups"]
    assert "purple" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["quality.json", "quality.png", "quality_accuracy.png", "quality_curves.png"]


def test_a_step_that_was_done_twice_counts_once(tmp_path):
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert quality.losses(tmp_path) == [(1, 3.0), (2, 1.0)]


def test_a_bar_is_as_long_as_its_per_cent():
    def coloured(percent: float) -> int:
        return (np.asarray(bars({"group": {"name": percent}}, "title")) == SERIES[0]).all(-1).sum()

    assert coloured(50) == pytest.approx(coloured(100) / 2, rel=0.02)


def test_a_curve_falls_where_its_values_do():
    pixels = np.asarray(curves({"a": [(n, 2.0**-n) for n in range(1, 40)]}, "loss"))
    ys, xs = (pixels[60:, :800] == SERIES[0]).all(-1).nonzero()  # beside the legend
    assert np.corrcoef(xs, ys)[0, 1] > 0.99  # downwards, and straight on a logarithmic axis
    curves({"none": []}, "loss")
    assert smoothed([(0, 1.0), (1, 1.0)]) == [(0, 1.0), (1, 1.0)]


@pytest.mark.parametrize("name", ["quality", "render"])
def test_the_command_hands_everything_on_to_the_module(name):
    shown = CliRunner().invoke(bench, [name, "--help"])
    assert shown.exit_code == 0
    assert "--model" in shown.stdout and "usage:" in shown.stdout
    assert CliRunner().invoke(bench, [name, "--wrong"]).exit_code == 2


def test_every_bench_is_a_module_of_the_checkout():
    from tests.test_architecture import ROOT

    assert all((ROOT / "bench" / f"{name}.py").is_file() for name in BENCHES)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0, 0), (5, -1, 0, 0, 0)])
def test_nothing_to_ask_for_is_refused_and_overwrites_nothing(counts, capsys):
    with pytest.raises(SystemExit) as ended:
        quality.main([f"--{name}={count}" for name, count in zip(KINDS, counts, strict=True)])
    assert ended.value.code == 2 and "ask for at least one" in capsys.readouterr().err
