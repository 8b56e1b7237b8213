"""ZeroGPU: the networks run in another process, everything else here. `spaces` is a stand-in with real processes."""

import os
import sys
import threading

import pytest

from app.config import Limits, Space, StudioConfig
from app.queue.estimates import Estimates
from app.recipes.job_row import CANCELLED, DONE, FAILED, QUEUED
from app.recipes.recipe import Job
from app.studio import Studio
from app.worker.executors.zerogpu import LOADING_SECONDS, MOST_SECONDS, STAGE_SECONDS, device_seconds, zero_gpu
from extensions.lora.adapter import Adapter
from lavie.errors import DeviceError
from lavie.request import Interpolation, Request, SuperResolution
from tests.app.space import fakes, spaces_standin
from tests.app.studios import until

ZERO = {"space": Space("ada-studio.hf.space", zero_gpu=True), "limits": Limits()}


@pytest.fixture
def spaces(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", spaces_standin)
    monkeypatch.setattr(spaces_standin, "quota", [spaces_standin.QUOTA_SECONDS])
    spaces_standin.asked.clear()
    return spaces_standin


@pytest.fixture
def open_studio(tmp_path, spaces):
    opened = []

    def open_one(load=fakes.load):
        studio = Studio(StudioConfig(data=tmp_path / "data", **ZERO), load=load)
        opened.append(studio)
        studio.serve()
        return studio

    yield open_one
    for studio in opened:
        studio.close()


def test_a_job_waits_for_its_visitors_event_and_is_made_on_the_lent_device(open_studio, spaces):
    studio = open_studio()
    job = studio.submit(Request("a red star", seed=7, interpolation=Interpolation()))
    studio.warm()
    assert studio.job(job).state == QUEUED and spaces.asked == []

    studio.drain()

    made = studio.job(job)
    assert made.state == DONE and made.clip.frames == 4 and os.path.getsize(made.clip.path) > 0
    recipe = studio.gallery.get(job).recipe
    device = recipe.provenance["device"]
    assert device.startswith("cuda (") and device != f"cuda ({os.getpid()})"
    assert spaces.asked == [LOADING_SECONDS, LOADING_SECONDS + 1.5 * 2 * STAGE_SECONDS]
    assert studio.models.loaded.cascade.runs_on()["device"] == device
    # What was stored on the way is what the other process made: another process goes on from it to the same clip.
    assert studio.database.query("SELECT count(*) AS n FROM artefacts WHERE job = ?", [job]) == [{"n": 2}]


def test_one_event_makes_all_that_waits_unless_the_queue_is_paused(open_studio):
    studio = open_studio()
    jobs = [studio.submit(Request("a red star", seed=seed)) for seed in (1, 2)]
    studio.queue.pause_queue()
    studio.drain()
    assert [studio.job(job).state for job in jobs] == [QUEUED] * 2
    studio.queue.resume_queue()
    studio.drain()
    assert [studio.job(job).state for job in jobs] == [DONE] * 2


def test_a_finished_stage_is_not_made_again_on_a_second_quota(open_studio, spaces):
    studio = open_studio()
    draft = studio.submit(Request("a red star", seed=7))
    studio.drain()
    job = studio.finish(draft, upscale=True)
    studio.drain()
    timed = studio.database.query("SELECT stage FROM timings WHERE job = ?", [job])
    assert studio.job(job).state == DONE and [row["stage"] for row in timed] == ["super_resolution"]


def test_no_quota_is_a_message_with_a_way_out_and_the_job_can_be_tried_again(open_studio, spaces):
    studio = open_studio()
    spaces.quota[0] = LOADING_SECONDS
    job = studio.submit(Request("a red star", seed=7))
    studio.drain()
    said = studio.job(job)
    assert said.state == FAILED and "exceeded your GPU quota" in said.row.error and "duplicate" in said.row.error
    spaces.quota[0] = MOST_SECONDS
    studio.queue.retry(job)
    studio.drain()
    assert studio.job(job).state == DONE


def test_a_device_that_is_taken_back_is_told(open_studio):
    studio = open_studio(fakes.load_taken_back)
    job = studio.submit(Request("a red star", seed=7))
    studio.drain()
    said = studio.job(job)
    assert said.state == FAILED and "GPU task aborted" in said.row.error


def test_cancelling_gives_the_device_back(open_studio):
    studio = open_studio(fakes.load_endless)
    job = studio.submit(Request("a red star", seed=7))
    event = threading.Thread(target=studio.drain)
    event.start()
    until(lambda: studio.job(job).row.step > 0)
    assert studio.job(job).preview is not None
    studio.cancel(job)
    event.join(60)
    assert not event.is_alive() and studio.job(job).state == CANCELLED


def test_closing_puts_the_job_under_way_back_into_the_line(open_studio, tmp_path):
    studio = open_studio(fakes.load_endless)
    job = studio.submit(Request("a red star", seed=7))
    event = threading.Thread(target=studio.drain)
    event.start()
    until(lambda: studio.job(job).row.step > 0)
    studio.close()
    event.join(60)
    assert open_studio().job(job).state == QUEUED


def test_what_is_wrong_with_the_request_is_told_as_at_home(open_studio):
    studio = open_studio()
    job = studio.submit(Request("refused", seed=7))
    broken = studio.submit(Request("broken", seed=7))
    studio.drain()
    assert "say something else" in studio.job(job).row.error
    assert studio.job(broken).state == FAILED and "ZeroDivisionError: inside the" in studio.job(broken).row.error


def test_what_takes_too_long_for_a_lent_device_is_refused(open_studio, spaces):
    studio = open_studio()
    worn = Job(Request("a red star", seed=7), studio.model, adapters=(Adapter("0" * 64, "soft", 1.0),))
    job = studio.queue.add(worn)
    studio.drain()
    assert "a video with adapters takes longer" in studio.job(job).row.error and spaces.asked == []


def test_the_time_asked_for_follows_what_such_requests_took(database, tmp_path):
    estimates = Estimates(database, StudioConfig(data=tmp_path))
    whole = Request(
        "a", width=64, height=64, frames=4, interpolation=Interpolation(), super_resolution=SuperResolution()
    )
    assert device_seconds(estimates, Request("a"), "nano") == LOADING_SECONDS + 1.5 * STAGE_SECONDS
    assert device_seconds(estimates, whole, "nano") == MOST_SECONDS - 10
    timing = {"job": "x", "stage": "base", "model": "nano", "device": "cuda", "steps": 10, "frames": 4, "width": 64}
    with database.write() as connection:
        connection["timings"].insert({**timing, "height": 64, "seconds": 4.0, "created": "2026"})
    base = Request("a", width=64, height=64, frames=4)
    twice = estimates.of_request(base, "nano").seconds
    assert device_seconds(estimates, base, "nano") == -(-(LOADING_SECONDS + 1.5 * twice) // 1)


def test_a_space_without_the_package_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(DeviceError, match="add spaces to its requirements"):
        zero_gpu()
