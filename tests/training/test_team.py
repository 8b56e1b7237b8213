"""Several processes train one network, really launched: the loss falls, weights agree, a resumed run ends the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavie.errors import TrainingError
from lavie.training import team as team_module
from lavie.training.team import autocast_of, join_team

STEPS = 40


def launch(folder: Path, steps: int) -> list[dict]:
    """`team_run` in two processes on the CPU, as `accelerate launch` starts them; what each of them found."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["-m", "tests.training.team_run", str(folder), str(steps)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    return folder, launch(folder, STEPS)


def test_two_processes_learn_together_and_hold_the_same_weights(whole):
    _, (main, other) = whole
    assert (main["size"], other["size"]) == (2, 2)
    assert main["losses"][-1] < 0.5 * main["losses"][0]
    assert main["weights"] == other["weights"]


def test_only_the_main_process_tells_and_writes(whole):
    folder, (_, other) = whole
    assert other["losses"] == []
    steps = [json.loads(line)["step"] for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert steps == list(range(5, STEPS + 1, 5))


@pytest.mark.slow
def test_a_team_goes_on_from_its_checkpoint_to_the_same_weights(whole, tmp_path):
    """The first launch is the same plan cut off behind a checkpoint, as a kill at step 20 leaves it."""
    folder, (main, _) = whole
    os.environ["TEAM_STOP_AT"] = "20"
    try:
        with pytest.raises(AssertionError):
            launch(tmp_path, STEPS)
    finally:
        del os.environ["TEAM_STOP_AT"]
    again = launch(tmp_path, STEPS)
    assert again[0]["weights"] == again[1]["weights"] == main["weights"]
    one, other = (load_file(where / "checkpoint.safetensors") for where in (folder, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_process_that_is_alone_is_no_team(monkeypatch):
    for name in (*team_module.SIZES, "MASTER_ADDR", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    assert join_team() is None


def test_a_launch_that_started_one_process_of_several_is_refused(monkeypatch):
    """What `accelerate launch --cpu --num_processes 2` sets without MPI."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(TrainingError, match="launch with --multi_gpu"):
        join_team()


@pytest.mark.parametrize("name", team_module.SHARDING)
def test_a_launch_that_shards_the_network_is_refused(monkeypatch, name):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "true")
    with pytest.raises(TrainingError, match=name):
        join_team()


def test_precision_is_as_told_then_as_launched_then_bfloat16(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    assert autocast_of(None) is True
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert autocast_of(None) is False
    assert autocast_of("bf16") is True
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(TrainingError, match="'fp16': choose bf16 or no"):
        autocast_of(None)


def test_gradients_are_sent_in_buckets_that_keep_their_order(monkeypatch):
    monkeypatch.setattr(team_module, "BUCKET", 10)
    sizes = [3, 8, 2, 20, 1]
    buckets = list(team_module._buckets(torch.zeros(size) for size in sizes))
    assert [[tensor.numel() for tensor in bucket] for bucket in buckets] == [[3], [8, 2], [20], [1]]
