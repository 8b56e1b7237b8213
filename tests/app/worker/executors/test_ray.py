"""A real Ray of this machine with two CPUs as devices: what two processes make is what one makes, and one may die."""

import json
import os
import signal

import pytest

from app.config import StudioConfig
from app.recipes.job_row import DONE
from app.storage.latents import StageLatents
from app.studio import Studio
from extensions.long_video.plan import Segment, SegmentPlan
from extensions.lora.cascade import AdaptedCascade
from extensions.lora.files.read import read_deltas, targets_in
from lavie.bundle import Bundle
from lavie.events import BASE, INTERPOLATION
from lavie.request import Interpolation, Request
from tests.app.studios import ended, until
from tests.app.worker.executors.loads import hold, load, ran
from tests.extensions.lora.files import FAMILIES, Maker

pytest.importorskip("ray", reason="Ray is not installed: `pip install ray` to test several devices at once")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
ONE, TWO, THREE = (Request("a red star", seed=seed, interpolation=Interpolation()) for seed in (1, 2, 3))
WORN = Request("a red star", seed=4)


@pytest.fixture(scope="module")
def studio(tmp_path_factory, tiny_bundle):
    data = tmp_path_factory.mktemp("ray") / "data"
    studio = Studio(StudioConfig(data=data, model=str(tiny_bundle), device="cpu", workers="ray:2"), load=load)
    studio.serve()
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_bundle):
    path = tmp_path_factory.mktemp("lora") / "plush.safetensors"
    FAMILIES["kohya"](Maker(targets_in(Bundle(tiny_bundle))), path)
    return path


@pytest.fixture
def made_here(tiny_cascade):
    """The frame hash of a request, made in this process on one thread, as an actor of one CPU does."""
    import torch

    def frame_hash(request, cascade=tiny_cascade):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            *_, finished = cascade.generate(request)
        finally:
            torch.set_num_threads(threads)
        return finished.video.frame_hash

    return frame_hash


def together(studio, *requests):
    """Make clips that are all in their base stage at one time; their snapshots, and the processes that they were in."""
    data = studio.config.data
    hold(data, BASE).touch()
    jobs = [studio.submit(request) for request in requests]
    until(lambda: all(ran(data, request.seed) for request in requests))
    processes = {ran(data, request.seed)[0][0] for request in requests}
    hold(data, BASE).unlink()
    return [ended(studio, job) for job in jobs], processes


def test_two_jobs_run_at_once_on_two_devices_and_are_what_one_makes(studio, made_here):
    made, processes = together(studio, ONE, TWO)
    assert len(processes | {os.getpid()}) == 3
    assert [one.state for one in made] == [DONE] * 2
    assert [one.clip.frame_hash for one in made] == [made_here(ONE), made_here(TWO)]


def test_a_job_whose_process_is_killed_goes_on_from_its_stored_stage(studio, made_here):
    data = studio.config.data
    hold(data, INTERPOLATION).touch()
    job = studio.submit(THREE)
    until(lambda: studio.job(job).row.stage == INTERPOLATION)
    (process, _), _ = ran(data, 3)
    assert StageLatents(studio.database, data).stages(job) == {BASE}
    os.kill(process, signal.SIGKILL)
    until(lambda: len(ran(data, 3)) == 3)
    hold(data, INTERPOLATION).unlink()
    done = ended(studio, job)
    assert done.state == DONE and done.clip.frame_hash == made_here(THREE)
    assert [stage for _, stage in ran(data, 3)] == [BASE, INTERPOLATION, INTERPOLATION]
    assert ran(data, 3)[2][0] != process
    assert done.row.attempts == 2 and "has ended in the middle of its work" in " ".join(done.row.notices)
    _, processes = together(studio, Request("a red star", seed=8), Request("a red star", seed=9))
    assert len(processes) == 2 and process not in processes  # the device has a new one


def test_adapters_are_worn_there(studio, made_here, lora, tiny_cascade):
    row = studio.adapters.add(lora, studio.config.bundle)
    worn = row.adapter(1.0)
    changes = read_deltas(row.path, targets_in(tiny_cascade.bundle), worn.sha256)
    done = ended(studio, studio.submit(WORN, adapters=[worn]))
    assert done.state == DONE, done.row.error
    assert done.clip.frame_hash == made_here(WORN, AdaptedCascade(tiny_cascade, [worn], lambda adapter: changes))
    assert done.clip.frame_hash != made_here(WORN)


def test_what_goes_wrong_there_is_told_here_and_the_next_job_runs(studio):
    refused, broken = (studio.submit(Request(prompt, seed=5)) for prompt in ("refused", "broken"))
    assert ended(studio, refused).row.error == "prompt is 'refused': say something else"
    assert "ZeroDivisionError: inside the network" in ended(studio, broken).row.error
    again = ended(studio, studio.submit(ONE))
    assert again.state == DONE


def test_a_clip_is_made_again_to_the_bit(studio):
    clip = ended(studio, studio.submit(ONE)).clip
    proof = json.loads(ended(studio, studio.regenerate(clip.id)).row.result)
    assert proof["identical"]


def test_a_long_video_is_made_on_the_heads_own_device(studio):
    plan = SegmentPlan(tuple(Segment("a red star", seed=seed) for seed in (1, 2)), overlap=2)
    done = ended(studio, studio.long_videos.submit(Request("a red star", seed=6), plan))
    assert done.state == DONE, done.row.error
    assert ran(studio.config.data, 6) == []
