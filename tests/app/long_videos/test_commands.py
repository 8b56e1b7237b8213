"""`render` with segments and `extend`, as a program calls them, over the model at toy size."""

import json

import pytest

from app.media import read_recipe
from app.recipes.recipe import Recipe
from tests.app.cli.test_cli import videos

CLIP = {"id", "path", "frames", "width", "height", "fps", "seed", "frame_hash", "seconds", "stages"}


@pytest.fixture
def lv(run, tiny_cascade, tiny_bundle):
    """A command with `--json` over the tiny bundle: what it printed, as a value."""
    run.cascade = tiny_cascade

    def call(*arguments):
        done = run(*arguments, "--model", tiny_bundle, "--steps", 1, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout), done.stderr

    return call


def recipe_of(made):
    return Recipe.from_json(read_recipe(made["path"]))


def prompts(made):
    return [segment.prompt for segment in recipe_of(made).plan.segments]


def test_a_long_video_has_the_same_json_as_a_clip(lv, tmp_path):
    options = ["--segments", 4, "--segment-prompt", "a blue heart", "--segment-prompt", "a green circle"]
    made, said = lv("render", "a red star", *options, "--seed", 7, "--interpolate", "--output", tmp_path / "a.mp4")
    assert set(made) == CLIP and made["path"] == str(tmp_path / "a.mp4")
    assert (made["frames"], made["width"], made["height"], made["fps"], made["seed"]) == (37, 32, 16, 32.0, 7)
    assert prompts(made) == ["a red star", "a blue heart", "a green circle", "a green circle"]
    assert "base: 4 steps" in said
    again, _ = lv("render", "a red star", *options, "--seed", 7, "--interpolate")
    assert again["frame_hash"] == made["frame_hash"] and set(again["stages"]) == {"interpolation"}


def test_segment_prompts_alone_make_a_long_video(lv):
    made, _ = lv("render", "a red star", "--segment-prompt", "a blue heart", "--strategy", "repaint")
    assert prompts(made) == ["a red star", "a blue heart"] and recipe_of(made).plan.strategy == "repaint"


def test_a_script_is_read_line_by_line_or_by_its_times(lv, tmp_path):
    script = tmp_path / "script.txt"
    script.write_text("a red star\n\na blue heart\n", encoding="utf-8-sig")
    made, _ = lv("render", "--script", script)
    assert prompts(made) == ["a red star", "a blue heart"]
    script.write_text("0s-0.5s: a red star\n0.5s-0.9s: a blue heart\n")
    made, said = lv("render", "--script", script)
    assert prompts(made) == ["a red star", "a blue heart", "a blue heart"]
    assert "note: line 2: 0.5–0.9 s became 0.5–1 s" in said


def test_a_clip_is_extended_by_its_id(lv, run, tmp_path):
    short, _ = lv("render", "a red star", "--seed", 7)
    longer, _ = lv("extend", short["id"], "--segments", 2)
    assert set(longer) == CLIP and longer["frames"] == 8 and prompts(longer) == ["a red star"] * 2
    again, _ = lv("extend", longer["id"], "--prompt", "a blue heart", "--seed", 3, "--output", tmp_path / "b.mp4")
    assert again["frames"] == 10 and prompts(again) == ["a red star", "a red star", "a blue heart"]
    assert [segment.seed for segment in recipe_of(again).plan.segments] == [None, None, 3]
    shown = json.loads(run("regenerate", again["id"], "--json").stdout)
    assert shown["identical"]


def test_a_file_is_extended_with_what_is_to_come(lv, run, tmp_path):
    lv("render", "a red star", "--seed", 7, "--output", tmp_path / "a.mp4")
    made, _ = lv("extend", tmp_path / "a.mp4", "--prompt", "a blue heart", "--seed", 5, "--fit", "letterbox")
    assert (made["frames"], made["seed"]) == (6, 5)
    start = recipe_of(made).start
    assert (start.kind, start.name, start.frames) == ("file", "a.mp4", 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "x", "--segments", "0"], "a video of 0 segments cannot be made: give 1 to 1000"),
        (["render", "x", "--segments", "10000"], "a video of 10000 segments cannot be made: give 1 to 1000"),
        (["render", "x", "--segments", "many"], "--segments"),
        (["render", "x", "--strategy", "magic"], "strategy is 'magic': choose one of conditioned, corrected"),
        (["render", "x", "--strategy", "corrected"], "--strategy says how segments are joined: give --segments too"),
        (["render", "x", "--script", "a.txt"], "--script stands in place of PROMPT"),
        (["render", "--segments", "3"], "Missing argument 'PROMPT'"),
        (["extend"], "CLIP_ID|VIDEO_FILE|IMAGE_FILE"),
        (["extend", "x", "--fit", "stretch"], "fit is 'stretch': choose crop or letterbox"),
    ],
)
def test_wrong_usage_exits_2(run, tmp_path, arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2 and words in done.stderr.splitlines()[-1] and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extend", "nothing"], "'nothing' is neither a clip nor a file: `gallery list` shows the clips"),
        (["extend", "empty.txt"], "nothing says what empty.txt goes on with: give --prompt"),
        (["extend", "empty.txt", "--prompt", "x"], "empty.txt"),
        (["render", "--script", "empty.txt"], "the script is empty"),
        (["render", "--script", "gone.txt"], "the script gone.txt cannot be read (No such file or directory)"),
        (["render", "--script", "binary.txt"], "the script binary.txt is no text in UTF-8"),
        (["render", "a", "--segments", "1", "--segment-prompt", "b"], "there are 2 prompts for 1 segments"),
        (["render", "x", "--segments", "2", "--strategy", "conditioned"], "extension"),
    ],
)
def test_failures_exit_1_with_one_line(run, tiny_cascade, tiny_bundle, tmp_path, arguments, words):
    run.cascade = tiny_cascade
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    done = run(*arguments, "--model", tiny_bundle)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.exit_code == 1 and done.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]
    assert videos(tmp_path) == []
