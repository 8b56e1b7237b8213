"""The commands from outside: what they print where, how they end, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from app import clip
from app.cli import cli
from app.config import ROOT
from app.media import probe, read_recipe, read_video
from app.recipe import Recipe
from tests.fakes import FakeCascade

# The command in a process of its own, over a cascade whose steps take as long as a test needs.
SLOW = """
import signal, sys
sys.path.insert(0, {root!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background hands on that it is ignored
from app import clip
from tests.fakes import FakeCascade
clip.load_cascade = lambda config: FakeCascade(step_seconds=0.05, steps=1000)
from app.cli import main
sys.argv = ["app.py", *sys.argv[1:]]
main()
"""


@pytest.fixture
def run(monkeypatch):
    """Runs the command line in this process over a fake cascade."""
    monkeypatch.setattr(clip, "load_cascade", lambda config: FakeCascade())
    return lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])


def app(*arguments, **environ):
    """Runs `python app.py …` as a person does."""
    command = [sys.executable, ROOT / "app.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=120)


def test_json_is_the_last_line_and_progress_is_elsewhere(run, tmp_path):
    done = run("render", "a red star", "--seed", 7, "--interpolate", "--output", tmp_path / "a.mp4", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["path"] == str(tmp_path / "a.mp4")
    assert (result["frames"], result["width"], result["height"], result["fps"], result["seed"]) == (4, 96, 64, 8.0, 7)
    assert result["seconds"] == 0.25 and result["stages"] == {"base": 0.125, "interpolation": 0.125}
    assert set(result) >= {"id", "frame_hash"}
    assert "base: 3 steps" in done.stderr and "note: the word" in done.stderr
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_the_file_carries_the_recipe_of_every_option(run, tmp_path):
    options = ["--seed", 3, "--steps", 5, "--sampler", "euler", "--guidance", 2.5, "--negative", "blur", "--upscale"]
    done = run("render", "a red star", *options, "--model", "some/folder", "--output", tmp_path / "a.mp4", "--json")
    assert done.exit_code == 0, done.output
    recipe = Recipe.from_json(read_recipe(tmp_path / "a.mp4"))
    request = recipe.request
    assert (request.base.steps, request.base.sampler, request.base.guidance) == (5, "euler", 2.5)
    assert request.super_resolution.sampling.steps == 5 and request.super_resolution.sampling.sampler is None
    assert (request.negative_prompt, request.interpolation, recipe.model) == ("blur", None, "some/folder")
    assert recipe.frame_hash == json.loads(done.stdout)["frame_hash"]


def test_without_an_output_the_clip_goes_to_the_data_folder(run, tmp_path):
    done = run("render", "a red star", "--data", tmp_path / "new" / "data", "--json")
    result = json.loads(done.stdout)
    assert os.listdir(tmp_path / "new" / "data" / "clips") == [f"{result['id']}.mp4"]
    assert probe(result["path"]).frames == result["frames"]


def test_a_person_gets_a_summary(run, tmp_path):
    done = run("render", "a red star", "--output", tmp_path / "a.mp4")
    assert done.stdout == f"{tmp_path / 'a.mp4'}\n4 frames, 96×64, 8 fps, seed 123456789, made in 0.2 s\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "x", "--steps", "-1"], "steps is -1: give a whole number from 1 to 1000"),
        (["render", "x", "--sampler", "magic"], "sampler is 'magic': choose one of ddpm, ddim, euler, dpm++, unipc"),
        (["render", "x", "--width", "12"], "width is 12: give a multiple of 8"),
        (["render", "x", "--seed", "-1"], "seed is -1"),
        (["render", "x", "--fps", "nan"], "fps is nan"),
        (["render", "x", "--seed", "seven"], "--seed"),
        (["render"], "PROMPT"),
        (["render", "x", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["--port", "0"], "port is 0: give a number from 1 to 65535"),
        (["--data", "here", "render", "x"], "--data stands before 'render': put options after the command"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_value(run, arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr.splitlines()[-1] and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "   "], "prompt is empty: say what"),
        (["render", "refused"], "prompt is 'refused': say something else"),
        (
            ["render", "x", "--sampler", "ddpm", "--output", "nowhere/a.mp4"],
            "nowhere of the output a.mp4 does not exist",
        ),
        (["render", "x", "--output", "a.avi"], "a.avi does not end in .mp4"),
        (["render", "broken"], "something unexpected happened (ZeroDivisionError: inside the network); LAVIE_DEBUG=1"),
        (["--auth", "me"], "user:password"),
    ],
)
def test_failures_exit_1_with_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAVIE_DEBUG", raising=False)
    done = run(*arguments)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.exit_code == 1 and done.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []


def test_debugging_shows_the_traceback(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LAVIE_DEBUG", "1")
    done = run("render", "broken", "--output", tmp_path / "a.mp4")
    assert isinstance(done.exception, ZeroDivisionError)


def test_the_output_is_checked_before_the_model_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "load_cascade", lambda config: pytest.fail("loaded a model for nothing"))
    assert run("render", "x", "--output", tmp_path / "no" / "a.mp4").exit_code == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_within_a_step_and_leaves_nothing(tmp_path, number, code):
    output = tmp_path / "a.mp4"
    command = [sys.executable, "-c", SLOW.format(root=str(ROOT)), "render", "a red star", "--output", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        seen = ""
        while "base: 1000 steps" not in seen:
            seen = process.stderr.readline()
            assert seen, "it ended by itself"
        began = time.monotonic()
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 20  # of the 50 seconds that all steps would take
    assert (process.returncode, out) == (code, "")
    assert errors.splitlines()[-1].endswith("no unfinished file is left") and "Traceback" not in errors
    assert os.listdir(tmp_path) == []


def test_help_needs_neither_torch_nor_gradio():
    script = (
        "import sys; from typer.testing import CliRunner; from app.cli import cli\n"
        "assert CliRunner().invoke(cli, ['render', '--help']).exit_code == 0\n"
        "heavy = {'torch', 'gradio', 'av', 'moviepy', 'diffusers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    done = app("--help")
    assert done.returncode == 0 and "render" in done.stdout and "--port" in done.stdout


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    done = app("render", "x", "--model", tmp_path, "--output", tmp_path / "a.mp4")
    assert done.returncode == 1 and str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr and os.listdir(tmp_path) == []


def test_the_whole_cascade_from_the_command_line(tiny_bundle, tmp_path):
    output = tmp_path / "star.mp4"
    options = ["--seed", 7, "--interpolate", "--upscale", "--model", tiny_bundle, "--device", "cpu", "--json"]
    done = app("render", "a red star spinning on a navy background", *options, "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    video = read_video(output)
    assert (len(video), video.width, video.height, video.fps) == (13, 128, 64, 32.0)
    assert (result["frames"], result["width"], result["height"], result["fps"], result["seed"]) == (13, 128, 64, 32, 7)
    assert list(result["stages"]) == ["base", "interpolation", "super_resolution"]
