"""The commands from outside: what they print where, how they end, and what they leave behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.config import ROOT
from app.media import is_partial, probe, read_recipe, read_video
from app.queue.queue import JobQueue
from app.recipes.job_row import CANCELLED
from app.recipes.recipe import Recipe
from app.storage.database import Database
from tests.app.studios import PATIENCE
from tests.fakes import FakeCascade

# The command in a process of its own, over a cascade whose steps take as long as a test needs.
SLOW = """
import signal, sys
sys.path.insert(0, {root!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background hands on that it is ignored
from app.models import loaded
from tests.fakes import FakeCascade
loaded.load_cascade = lambda config: FakeCascade(step_seconds=0.5, steps=1000)
from app.cli.main import main
sys.argv = ["app.py", *sys.argv[1:]]
main()
"""


def app(*arguments, **environ):
    """Runs `python app.py …` as a person does."""
    command = [sys.executable, ROOT / "app.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=120)


def run_real(*arguments):
    """Runs a command in this process, over real networks."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def videos(folder):
    """Every video below a folder, whole or not."""
    return [path.name for path in folder.rglob("*") if path.suffix == ".mp4" or is_partial(path.name)]


def jobs(folder):
    """All jobs of a data folder."""
    with contextlib.closing(Database(folder)) as database:
        return [*JobQueue(database).line(), *JobQueue(database).recent(100)]


def test_json_is_the_last_line_and_progress_is_elsewhere(run, tmp_path):
    done = run("render", "a red star", "--seed", 7, "--output", tmp_path / "a.mp4", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["path"] == str(tmp_path / "a.mp4")
    assert (result["frames"], result["width"], result["height"], result["fps"], result["seed"]) == (4, 96, 64, 8.0, 7)
    assert result["seconds"] == 0.25 and result["stages"] == {"base": 0.125}
    assert set(result) >= {"id", "frame_hash"}
    assert "base: 3 steps" in done.stderr and "note: the word" in done.stderr
    assert videos(tmp_path) == ["a.mp4"]


def test_the_file_carries_the_recipe_of_every_option(run, tmp_path):
    options = ["--seed", 3, "--steps", 5, "--sampler", "euler", "--guidance", 2.5, "--negative", "blur", "--upscale"]
    done = run("render", "a red star", *options, "--model", "some/folder", "--output", tmp_path / "a.mp4", "--json")
    assert done.exit_code == 0, done.output
    recipe = Recipe.from_json(read_recipe(tmp_path / "a.mp4"))
    request = recipe.request
    assert (request.base.steps, request.base.sampler, request.base.guidance) == (5, "euler", 2.5)
    assert request.super_resolution.sampling.steps == 5 and request.super_resolution.sampling.sampler is None
    assert (request.negative_prompt, request.interpolation) == ("blur", None)
    assert recipe.model == str(tmp_path / "some" / "folder")
    assert recipe.frame_hash == json.loads(done.stdout)["frame_hash"]


def test_without_an_output_the_clip_goes_to_the_data_folder(run, tmp_path):
    done = run("render", "a red star", "--data", tmp_path / "new" / "data", "--json")
    result = json.loads(done.stdout)
    assert videos(tmp_path / "new" / "data" / "clips") == [f"{result['id']}.mp4"]
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
        (["finish", "x"], "nothing to add: give --interpolate, --upscale or both"),
        (["regenerate"], "CLIP_ID"),
        (["nonsense"], "nonsense"),
        (["--port", "0"], "port is 0: give a number from 1 to 65535"),
        (["--data", "here", "render", "x"], "--data stands before 'render': put options after the command"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_value(run, tmp_path, arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr.splitlines()[-1] and done.stdout == ""
    assert os.listdir(tmp_path) == []


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
        (["render", "broken"], "something went wrong inside (ZeroDivisionError: inside the network)"),
        (["render", "x", "--data", "file"], "studio.db cannot be used (File exists): choose another data folder"),
        (["finish", "nothing", "--upscale"], "no clip has the id 'nothing': `gallery list` shows those that are there"),
        (["regenerate", "nothing"], "no clip has the id 'nothing': `gallery list` shows those that are there"),
        (["--auth", "me"], "user:password"),
    ],
)
def test_failures_exit_1_with_one_line(run, tmp_path, monkeypatch, arguments, words):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.delenv("LAVIE_DEBUG", raising=False)
    done = run(*arguments)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.exit_code == 1 and done.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]
    assert videos(tmp_path) == []


@pytest.mark.parametrize("debug", ["", "1"])
def test_what_went_wrong_inside_shows_its_place_only_when_debugging(tmp_path, debug):
    script = SLOW.format(root=str(ROOT))
    command = [sys.executable, "-c", script, "render", "broken", "--data", tmp_path / "data"]
    environ = {**os.environ, "LAVIE_DEBUG": debug}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: something went wrong inside")
    assert ("ZeroDivisionError: inside the network\n" in done.stderr) == bool(debug)
    assert ("Traceback" in done.stderr) == bool(debug)


def test_the_output_is_checked_before_a_job_is_stored_for_it(run, tmp_path):
    assert run("render", "x", "--output", tmp_path / "no" / "a.mp4").exit_code == 1
    assert jobs(tmp_path / "data") == []


def test_a_command_beside_a_running_studio_has_its_job_made_there(run, make_studio):
    cascade = FakeCascade()
    studio = make_studio(cascade)
    run.cascade = None
    done = run("render", "a red star", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    job = studio.job(result["id"])
    assert job.clip.result(job.stage_seconds) == result
    assert cascade.started == 1
    failed = run("render", "refused")
    assert (failed.exit_code, failed.stderr) == (1, "error: prompt is 'refused': say something else\n")


def test_a_job_that_another_cancels_is_told(run, make_studio):
    cascade = FakeCascade(at_step=lambda stage, index: studio.cancel(studio.queue.line()[0].id))
    studio = make_studio(cascade)
    done = run("render", "a red star")
    (row,) = studio.queue.recent(9)
    assert done.exit_code == 1
    assert f"the job {row.id} was cancelled from elsewhere: `jobs retry {row.id}` goes on" in done.stderr


def test_a_draft_is_finished(run):
    draft = json.loads(run("render", "a red star", "--seed", 7, "--json").stdout)
    done = run("finish", draft["id"], "--upscale", "--json")
    assert done.exit_code == 0, done.output
    clip = json.loads(done.stdout)
    assert list(clip["stages"]) == ["super_resolution"] and clip["id"] != draft["id"]
    assert json.loads(run("gallery", "show", clip["id"], "--json").stdout)["parents"] == [draft["id"]]
    again = run("finish", draft["id"], "--interpolate")
    assert again.stdout.endswith("4 frames, 96×64, 8 fps, seed 7, made in 0.2 s\n")
    assert "has these stages already: ask for one that it lacks" in run("finish", clip["id"], "--upscale").stderr


def test_a_remix_has_another_seed_and_all_else_as_it_was(run):
    first = json.loads(run("render", "a red star", "--seed", 7, "--steps", 2, "--json").stdout)
    second = json.loads(run("remix", first["id"], "--json").stdout)
    assert second["seed"] != 7 and second["id"] != first["id"]
    shown = json.loads(run("gallery", "compare", first["id"], second["id"], "--json").stdout)
    assert {each[0] if isinstance(each, list) else each["name"] for each in shown["differences"]} == {"seed"}


def test_regenerate_says_that_it_is_identical_or_what_differs(run):
    clip = json.loads(run("render", "a red star", "--json").stdout)
    assert run("regenerate", clip["id"]).stdout == "bit-identical\n"
    done = run("regenerate", clip["id"], "--json")
    assert json.loads(done.stdout) == {"identical": True, "psnr": None, "differences": []}
    run.cascade = FakeCascade(weights="2", shade=5)
    done = run("regenerate", clip["id"])
    assert done.exit_code == 0 and done.stdout.startswith("differs: PSNR ")
    assert done.stdout.endswith(" dB; weights.base/weights.safetensors was 1, is 2\n")
    assert json.loads(run("regenerate", clip["id"], "--json").stdout)["identical"] is False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_within_a_step_and_leaves_a_cancelled_job(tmp_path, number, code):
    arguments = ["render", "a red star", "--output", tmp_path / "a.mp4", "--data", tmp_path / "data"]
    command = [sys.executable, "-c", SLOW.format(root=str(ROOT)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        seen = ""
        while "base: 1000 steps" not in seen:
            seen = process.stderr.readline()
            assert seen, "it ended by itself"
        process.send_signal(number)
        out, errors = process.communicate(timeout=PATIENCE)  # of the 500 seconds that all steps would take
    assert (process.returncode, out) == (code, "")
    assert errors.splitlines()[-1].endswith("no unfinished file is left") and "Traceback" not in errors
    assert videos(tmp_path) == []
    assert [row.state for row in jobs(tmp_path / "data")] == [CANCELLED]


def test_help_needs_neither_torch_nor_gradio():
    script = (
        "import sys; from typer.testing import CliRunner; from app.cli.main import cli\n"
        "for command in ('render', 'finish', 'regenerate', 'jobs', 'gallery'):\n"
        "    assert CliRunner().invoke(cli, [command, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'gradio', 'av', 'moviepy', 'diffusers', 'sqlite_utils'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    done = app("--help")
    assert done.returncode == 0 and "render" in done.stdout and "--port" in done.stdout


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    done = run_real("render", "x", "--model", tmp_path, "--output", tmp_path / "a.mp4", "--data", tmp_path / "data")
    assert done.exit_code == 1 and str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr and videos(tmp_path) == []


def test_the_whole_cascade_from_the_command_line(tiny_bundle, tmp_path):
    output, data = tmp_path / "star.mp4", ["--device", "cpu", "--data", tmp_path / "data", "--json"]
    options = ["--seed", 7, "--interpolate", "--upscale", "--model", tiny_bundle, "--output", output]
    done = run_real("render", "a red star spinning on a navy background", *options, *data)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    video = read_video(output)
    assert (len(video), video.width, video.height, video.fps) == (13, 128, 64, 32.0)
    assert (result["frames"], result["width"], result["height"], result["fps"], result["seed"]) == (13, 128, 64, 32, 7)
    assert list(result["stages"]) == ["base", "interpolation", "super_resolution"]
