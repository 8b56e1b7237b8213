"""A training as a value and as a folder: limits, JSON both ways, what is read of a run, what is swept."""

import json
import math
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.recipes.job_row import DONE, TRAIN
from app.recipes.training import MAX_JSON, Medium, Training
from app.storage.training_folder import Loss, checkpoint_step, checkpoints, losses, sweep_trainings, training_folder
from lavie.errors import RequestError
from tests.app.queue.lines import bring
from tests.app.studios import ended
from tests.app.training.conftest import TRIGGER, short


def test_json_both_ways():
    media = (Medium("0000-a.png", "ä/a.png", "a zkw"), Medium("0001-b.png", "b.png"))
    training = short(preset="motion", name="My thing 2.0", media=media, folder="x", prompts=("a zkw",), seed=2**40)
    assert Training.from_json(training.to_json()) == training
    assert Training.from_json(Training(TRIGGER).to_json()) == Training(TRIGGER)
    for text in ("[]", "nothing", '{"schema": 1}', '{"schema": 2, "trigger": "zkw"}', '{"schema": 1, "trigger": 5}'):
        with pytest.raises(RequestError):
            Training.from_json(text)
    many = tuple(Medium(f"{number}.png", "x", "y" * 4000) for number in range(MAX_JSON // 4000))
    with pytest.raises(RequestError, match="shorten them"):
        short(media=many).to_json()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trigger": "two words"}, "the trigger is 'two words': give one word"),
        ({"trigger": ""}, "the trigger is ''"),
        ({"preset": "portrait"}, "preset is 'portrait': choose one of subject, style, motion"),
        ({"steps": 0}, "steps is 0: give a whole number from 1"),
        ({"steps": "4"}, "steps is '4'"),
        ({"rank": 10_000}, "rank is 10000: give a whole number from 1 to 512"),
        ({"learning_rate": math.nan}, "the learning rate is nan"),
        ({"learning_rate": 0}, "the learning rate is 0: give one above 0"),
        ({"prior": -1.0}, "the prior's weight is -1.0"),
        ({"seed": None}, "seed is None"),
        ({"samples_every": -1}, "samples_every is -1"),
        ({"keep": True}, "keep is True"),
        ({"threads": 0}, "threads is 0"),
        ({"name": "a/b"}, "the adapter's name is 'a/b'"),
        ({"name": "x" * 61}, "the adapter's name is 'xxx"),
        ({"folder": "../x"}, "folder is"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing is 1"),
        ({"prompts": "a zkw"}, "prompts: give at most 8 texts"),
        ({"media": ("a.png",)}, "media are no list"),
    ],
)
def test_what_is_none_is_refused_in_words(values, said):
    with pytest.raises(RequestError) as refused:
        Training(**{"trigger": TRIGGER, **values})
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "../a.png", "a/b.png", ".hidden"])
def test_a_medium_lies_in_its_folder(name):
    with pytest.raises(RequestError, match="the file of a medium"):
        Medium(name, "a.png")


def test_a_name_is_made_from_the_trigger():
    assert short().adapter_name == TRIGGER and short(name="My thing").adapter_name == "My thing"
    assert Training("§§").adapter_name == "__" and Training("...").adapter_name == "adapter"
    assert short(name="a 2.0").output(Path("w")) == Path("w/adapter/a 2.0.safetensors")


def test_a_curve_goes_on_where_a_kill_took_it_back(tmp_path):
    def line(step: int, loss: float) -> str:
        return json.dumps({"step": step, "steps": 9, "loss": loss, "learning_rate": 1, "seconds_a_step": 0.5}) + "\n"

    assert losses(tmp_path) == ()
    text = line(1, 5.0) + line(2, 4.0) + line(3, 3.0) + '{"step": 4, "lo\n' + line(2, 4.5) + line(3, math.nan)
    (tmp_path / "progress.jsonl").write_text(text + line(4, 2.5) + '{"ste')
    assert losses(tmp_path) == (Loss(1, 5.0, 0.5), Loss(2, 4.5, 0.5), Loss(4, 2.5, 0.5))


def test_a_checkpoint_tells_its_step(tmp_path):
    assert checkpoint_step(tmp_path) == 0
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", metadata={"step": "57"})
    assert checkpoint_step(tmp_path) == 57
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    assert checkpoint_step(tmp_path) == 0
    (tmp_path / "checkpoints").mkdir()
    for step in (1000, 90):
        (tmp_path / f"checkpoints/my-thing-{step:06}.safetensors").touch()
    assert [one.step for one in checkpoints(tmp_path)] == [90, 1000]


def test_what_is_of_no_use_is_swept(studio, pictures):
    jobs, data = studio.queue, studio.config.data
    done, cancelled, open_one, shared = (studio.training.start(short(), [pictures]) for _ in range(4))
    bring(jobs, done, DONE)
    jobs.duplicate(shared)  # waits, and learns from the media of what is cancelled
    for job_id in (cancelled, shared):
        jobs.cancel(job_id)
    begun, left = (studio.training.collect([pictures]).id for _ in range(2))
    old = time.time() - 2 * 24 * 3600
    os.utime(training_folder(data, left), (old, old))
    for job_id in (done, open_one):
        (training_folder(data, job_id) / "checkpoint.safetensors").touch()
    sweep_trainings(studio.database, data, keep_days=0)
    kept = {path.name for path in training_folder(data, "any").parent.iterdir()}
    assert kept == {done, open_one, shared, begun}
    there = [(training_folder(data, job_id) / "checkpoint.safetensors").exists() for job_id in (done, open_one)]
    assert there == [False, True]
    assert (training_folder(data, done) / "media").is_dir()


def test_a_training_that_is_over_can_be_forgotten(studio, pictures):
    job_id = studio.training.start(short(), [pictures])
    with pytest.raises(RequestError, match="is queued: cancel it first"):
        studio.training.forget(job_id)
    copy = studio.queue.duplicate(job_id)
    studio.cancel(job_id)
    with pytest.raises(RequestError, match=f"{copy} learns from the same media"):
        studio.training.forget(job_id)
    studio.cancel(copy)
    studio.training.forget(job_id)
    assert not training_folder(studio.config.data, job_id).exists()
    with pytest.raises(RequestError, match="no training has the id 'nothing'"):
        studio.training.progress("nothing")
    with pytest.raises(RequestError, match="step 7 of the training"):
        studio.training.take(copy, 7)


def test_memory_is_told_before_it_begins(studio, tiny_bundle):
    small, large = (studio.training.memory(short(rank=rank)) for rank in (1, 32))
    weights = sum(
        file.stat().st_size for part in ("base", "vae", "text_encoder") for file in (tiny_bundle / part).iterdir()
    )
    assert weights < small.needed < large.needed < large.free and large.fits
    less = studio.training.memory(short(preset="motion", gradient_checkpointing=True)).needed
    assert less < studio.training.memory(short(preset="motion")).needed


def test_media_that_are_gone_are_told(make_studio, tiny_bundle, pictures):
    studio = make_studio(model=str(tiny_bundle), device="cpu")
    studio.queue.pause_queue()
    job_id = studio.training.start(short(), [pictures])
    shutil.rmtree(training_folder(studio.config.data, job_id))
    studio.queue.resume_queue()
    row = ended(studio, job_id).row
    assert row.kind == TRAIN and "are not kept any more: begin another one" in row.error
