"""Trainings in the queue: real processes over the toy bundle, that end, are stopped, killed and crash."""

import json
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, PAUSED, RUNNING
from app.storage.training_folder import checkpoint_step, training_folder
from extensions.lora.files.header import read_header
from tests.app.studios import ended, until
from tests.app.training.conftest import TRIGGER, short

LONG = {"steps": 5000, "checkpoint_every": 5}  # no test waits for its end

# What a process runs before anything of ours, if PYTHONPATH leads here: it dies as one that has no memory left.
KILLED = """
import os, signal, sys
if "app.worker.training_process" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def serving(make_studio, tiny_bundle):
    return make_studio(model=str(tiny_bundle), device="cpu")


def children(of: int | None = None) -> list[psutil.Process]:
    """The processes that train for this one."""
    found = psutil.Process(of).children(recursive=True)
    return [one for one in found if "app.worker.training_process" in _command(one)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def far(studio, job_id: str, step: int) -> None:
    until(lambda: studio.job(job_id).row.step >= step or not studio.job(job_id).open)
    assert studio.job(job_id).state == RUNNING, studio.job(job_id).row.error


def learned(studio, job_id: str) -> tuple[dict, dict]:
    """Tensors and metadata of the adapter that a training has put into the library."""
    snapshot = ended(studio, job_id)
    assert snapshot.state == DONE, snapshot.row.error
    path = studio.adapters.require(json.loads(snapshot.row.result)["adapter"]).path
    return load_file(path), read_header(path).metadata


def same(one: tuple[dict, dict], other: tuple[dict, dict]) -> bool:
    tensors = one[0].keys() == other[0].keys() and all(torch.equal(one[0][key], other[0][key]) for key in one[0])
    return tensors and one[1] == other[1]


def test_it_trains_and_the_adapter_is_in_the_library(serving, pictures, clips):
    training = short(samples_every=2, prompts=(f"a {TRIGGER}",), name="My thing", keep=1)
    job_id = serving.training.start(training, [pictures, clips / "0.mp4"])
    snapshot = ended(serving, job_id)
    assert snapshot.state == DONE, snapshot.row.error
    (row,) = serving.adapters.all()
    assert json.loads(snapshot.row.result) == {"adapter": row.sha256, "name": "My thing", "trigger": TRIGGER}
    assert row.card.trigger_words == (TRIGGER,) and row.card.unmatched == 0 and row.preview.is_file()
    assert (snapshot.row.stage, snapshot.row.step, snapshot.row.steps) == ("training", 4, 4)
    assert snapshot.row.prompt == TRIGGER
    said = "\n".join(snapshot.row.notices)
    assert "all 3 media are usable" in said and "1 of 3 are videos: the frame in the middle" in said
    assert "GiB of memory" in said and str(serving.config.data) not in said
    found = serving.training.progress(job_id)
    assert [point.step for point in found.losses] == [1, 2, 3, 4]
    assert [(one.step, len(one.videos)) for one in found.samples] == [(0, 1), (2, 1), (4, 1)]
    assert [one.step for one in found.checkpoints] == [4] and found.eta_seconds is None
    folder, left = training_folder(serving.config.data, job_id), {"media", "samples", "checkpoints", "progress.jsonl"}
    until(lambda: not {path.name for path in folder.iterdir()} & {"checkpoint.safetensors", "latents", "adapter"})
    assert {path.name for path in folder.iterdir()} >= left
    taken = serving.training.take(job_id, 4)
    assert taken.name == "My thing-4" and len(serving.adapters.all()) == 2
    assert children() == []


@pytest.mark.slow
def test_paused_and_resumed_it_ends_with_the_same_bits(serving, pictures):
    training = short(steps=16, checkpoint_every=1000)
    first = serving.training.start(training, [pictures])
    whole = learned(serving, first)
    halved = serving.queue.duplicate(first)  # which learns from the same files
    far(serving, halved, 2)
    serving.queue.pause(halved)
    until(lambda: serving.job(halved).state != RUNNING)
    assert serving.job(halved).state == PAUSED and children() == []
    stored = checkpoint_step(training_folder(serving.config.data, halved))
    assert 2 <= stored < 16 and not (training_folder(serving.config.data, halved) / "media").exists()
    serving.queue.resume(halved)
    resumed = learned(serving, halved)
    assert "goes on from its last checkpoint" in "\n".join(serving.job(halved).row.notices)
    assert same(whole, resumed)


def test_cancelled_it_ends_and_goes_on_when_it_is_tried_again(serving, pictures):
    job_id = serving.training.start(short(**LONG), [pictures])
    far(serving, job_id, 6)
    assert len(children()) == 1
    serving.cancel(job_id)
    assert ended(serving, job_id).state == CANCELLED and children() == []
    stored = serving.training.progress(job_id).stored
    assert stored >= 5 and serving.adapters.all() == []
    serving.queue.retry(job_id)
    far(serving, job_id, stored + 1)
    assert serving.job(job_id).row.step <= LONG["steps"]
    serving.cancel(job_id)
    ended(serving, job_id)


@pytest.mark.slow
def test_what_fails_fails_alone(serving, pictures, tiny_bundle, tmp_path, monkeypatch):
    """A loss that is no number, a model that is not there, and a process that the system kills."""
    broken = shutil.copytree(tiny_bundle, tmp_path / "broken")
    (weights,) = (broken / "vae").glob("*.safetensors")
    save_file({key: value * float("nan") for key, value in load_file(weights).items()}, weights)
    failing = [serving.training.start(short(model=str(tmp_path / name)), [pictures]) for name in ("broken", "nowhere")]
    errors = [ended(serving, job_id).row.error for job_id in failing]
    assert "the loss is nan at step 0: lower the learning rate" in errors[0] and "nowhere" in errors[1]
    assert all("\n" not in error and str(serving.config.data) not in error for error in errors)
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    killed = serving.training.start(short(steps=1), [pictures])
    snapshot = ended(serving, killed)
    assert snapshot.state == FAILED and "the memory did not suffice" in snapshot.row.error
    monkeypatch.delenv("PYTHONPATH")
    serving.queue.retry(killed)  # nothing was stored: it begins at its first step
    assert ended(serving, killed).state == DONE


@pytest.mark.slow
def test_the_studio_is_killed_and_the_training_goes_on(studio, pictures, tiny_bundle):
    """By `kill -9`: its process does not outlive it, and the next studio goes on behind the last checkpoint."""
    job_id = studio.training.start(short(**LONG), [pictures])
    folder = training_folder(studio.config.data, job_id)
    command = [sys.executable, "-m", "tests.slow.faults.victim", str(studio.config.data), str(tiny_bundle)]
    stored = []
    for _ in range(2):
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with victim.stdout:
            assert victim.stdout.readline() == "serving\n"
        before = checkpoint_step(folder)
        until(lambda before=before: checkpoint_step(folder) > before)
        (child,) = children(victim.pid)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        child.wait(60)
        assert not child.is_running()
        stored.append(checkpoint_step(folder))
    assert stored[1] > stored[0] > 0
    assert WorkerQueue(studio.database).recover("resume") == [job_id] and studio.job(job_id).state == "queued"
    assert WorkerQueue(studio.database).take().attempts == 3
    assert WorkerQueue(studio.database).recover("resume") == [job_id]  # nothing was stored since
    assert studio.job(job_id).state == "interrupted"
