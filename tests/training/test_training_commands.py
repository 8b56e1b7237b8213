"""`python app.py train …` from outside: what it prints where, how it ends, and what it leaves behind."""

import json

import pytest
from typer.testing import CliRunner

from app.cli.train import train
from app.media import probe
from lavie.bundle import Bundle
from tests.training.folders import own_folder


@pytest.fixture
def command(tmp_path, tiny_bundle):
    """Runs a training of the base network over a folder of media at toy size."""
    data = own_folder(tmp_path / "data", clips=2, pictures=1)

    def call(*options, network="base", folder=data):
        arguments = [network, "--data", folder, "--work", tmp_path / "work", "--output", tmp_path / "out"]
        arguments += ["--model", tiny_bundle, "--precision", "no", "--device", "cpu", *options]
        return CliRunner().invoke(train, [str(argument) for argument in arguments])

    return call


def test_it_trains_and_says_where_the_bundle_is(command, tmp_path):
    done = command("--steps", "2", "--samples-every", "2", "--validate-every", "1", "--size", "32x16")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out'}\n"
    said = done.stderr.splitlines()
    assert [line.split()[1] for line in said if line.startswith("base") and " a step" in line] == ["1/2", "2/2"]
    assert sum("validation loss" in line for line in said) == 2
    assert any("s left" in line for line in said)
    assert Bundle(tmp_path / "out").missing("base") == []
    samples = sorted(path.name for path in (tmp_path / "work/samples").iterdir())
    assert samples == ["step_000002.png", "step_000002_1.mp4", "step_000002_2.mp4"]
    assert probe(tmp_path / "work/samples/step_000002_1.mp4").frames == 4


def test_a_second_run_needs_to_be_told_to_go_on(command, tmp_path):
    assert command("--steps", "1").exit_code == 0
    refused = command("--steps", "2")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ") and "give --resume to go on" in refused.stderr
    assert command("--steps", "2", "--resume").exit_code == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "work/progress.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "large"], "size is 'large': give width and height as 512x320"),
        (["--mode", "both"], "mode is 'both': choose one of"),
        (["--precision", "fp16"], "mixed precision is 'fp16'"),
        (["--from", "nothing"], "origin is 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(command, options, said):
    done = command(*options)
    assert done.exit_code == 1
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_folder_with_nothing_in_it_is_one_line_too(command, tmp_path):
    (tmp_path / "empty").mkdir()
    done = command("--steps", "1", folder=tmp_path / "empty")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "no file that is a picture, a video or a shard" in done.stderr


@pytest.mark.parametrize("network", ["base", "interpolation", "super-resolution", "extension"])
def test_every_network_has_a_command(network):
    shown = CliRunner().invoke(train, [network, "--help"])
    assert shown.exit_code == 0 and "--freeze-spatial" in shown.stdout
