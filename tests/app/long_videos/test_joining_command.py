"""`join`, as a program calls it, over the model at toy size."""

import json

import pytest

from tests.app.cli.test_cli import videos
from tests.app.long_videos.test_commands import CLIP, lv, recipe_of
from tests.app.long_videos.test_joining import film_file, picture

__all__ = ["lv"]


def test_pictures_clips_and_videos_are_joined(lv, run, tmp_path):
    short, _ = lv("render", "a red star", "--seed", 7)
    sources = [picture(tmp_path, "a.png"), short["id"], film_file(tmp_path, "b.mp4", 3)]
    made, said = lv("join", *sources, "--prompt", "x", "--prompt", "y", "--seed", 5, "--output", tmp_path / "out.mp4")
    assert set(made) == CLIP and made["path"] == str(tmp_path / "out.mp4")
    assert (made["frames"], made["seed"], made["fps"]) == (1 + 2 + 4 + 2 + 3, 5, 8.0)
    reel = recipe_of(made).reel
    assert [(one.prompt, one.frames) for one in reel.transitions] == [("x", 2), ("y", 2)]
    assert "note: a.png: The picture was taken as one frame." in said and "base: 2 steps" in said
    assert json.loads(run("regenerate", made["id"], "--json").stdout)["identical"]
    assert recipe_of(made).shots[1].name == short["id"]


def test_a_clip_needs_no_prompt_and_a_cut_no_frames(lv):
    first, second = (lv("render", prompt)[0]["id"] for prompt in ("a red star", "a blue heart"))
    made, _ = lv("join", first, second, "--frames", 1, "--interpolate", "--strategy", "repaint")
    reel = recipe_of(made).reel
    assert [one.prompt for one in reel.transitions] == ["a blue heart"] and reel.strategy == "repaint"
    assert (made["frames"], made["fps"]) == (4 * (9 - 1) + 1, 32.0)
    made, _ = lv("join", first, second, "--frames", 0, "--fit", "letterbox")
    assert made["frames"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["join"], "Missing argument 'SOURCE"),
        (["join", "a"], "there is nothing to lead to: give at least two SOURCEs"),
        (["join", "a", "b", "--fit", "stretch"], "fit is 'stretch': choose crop or letterbox"),
        (["join", "a", "b", "--frames", "-1"], "a transition's frames is -1"),
        (["join", "a", "b", "--frames", "100"], "a transition's frames is 100: give a whole number from 0 to 64"),
        (["join", "a", "b", "--strategy", "codenoise"], "strategy is 'codenoise': choose one of conditioned"),
    ],
)
def test_wrong_usage_exits_2(run, tmp_path, arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2 and words in done.stderr.splitlines()[-1] and done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["right.png", "nothing", "--prompt", "x"], "'nothing' is neither a clip nor a file: `gallery list` shows"),
        (["right.png", "right.png"], "nothing says what leads to right.png: give a prompt"),
        (["right.png", "empty.gif", "--prompt", "x"], "empty.gif is empty, 0 bytes"),
        (["right.png", "right.png", "--prompt", "x", "--frames", "3"], "cannot be made at once: give 1 to 2"),
        (["right.png", "right.png", "--prompt", "x", "--prompt", "y"], "there are 2 prompts for 1 transitions"),
        (["right.png", "right.png", "--prompt", "x", "--strategy", "conditioned"], "extension"),
    ],
)
def test_failures_exit_1_with_one_line(run, tiny_cascade, tiny_bundle, tmp_path, arguments, words):
    run.cascade = tiny_cascade
    picture(tmp_path, "right.png")
    (tmp_path / "empty.gif").write_bytes(b"")
    done = run("join", *arguments, "--model", tiny_bundle)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert done.exit_code == 1 and done.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]
    assert videos(tmp_path) == []


def test_the_help_tells_it_from_joining_files(run):
    assert "`gallery join` only puts files one behind the other" in run("join", "--help").stdout
    assert "`join` makes what leads over" in run("gallery", "join", "--help").stdout
