"""Closing a studio over Ray ends all that it started; without Ray it does not open, and says what to do."""

import signal
import sys

import psutil
import pytest

from app.config import StudioConfig
from app.recipes.job_row import QUEUED
from app.studio import Studio
from lavie.errors import DeviceError
from lavie.request import Request
from tests.app.studios import until
from tests.app.worker.executors.loads import load_endless

OVER_RAY = {"device": "cpu", "workers": "ray"}


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_closing_ends_every_process_and_puts_the_job_back(tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: `pip install ray` to test several devices at once")
    config = StudioConfig(data=tmp_path / "data", **OVER_RAY)
    before, handler = set(psutil.Process().children(recursive=True)), signal.getsignal(signal.SIGTERM)
    studio = Studio(config, load=load_endless)
    studio.serve()
    assert signal.getsignal(signal.SIGTERM) is handler
    job = studio.submit(Request("a red star", seed=7))
    until(lambda: studio.job(job).row.step > 0)
    assert studio.job(job).preview is not None
    started = set(psutil.Process().children(recursive=True)) - before
    assert started
    studio.close()
    assert not ray.is_initialized()
    assert psutil.wait_procs(started, timeout=60)[1] == []
    assert studio.job(job).state == QUEUED


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    studio = Studio(StudioConfig(data=tmp_path / "data", **OVER_RAY), load=load_endless)
    with pytest.raises(DeviceError, match="pip install ray"):
        studio.serve()
    studio.close()
    local = Studio(StudioConfig(data=tmp_path / "data"), load=load_endless)  # and nothing was left locked
    local.serve()
    local.close()


def test_a_cluster_that_is_not_there_is_told(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: `pip install ray` to test several devices at once")
    monkeypatch.setenv("RAY_ADDRESS", "nobody there")
    studio = Studio(StudioConfig(data=tmp_path / "data", **OVER_RAY), load=load_endless)
    with pytest.raises(DeviceError, match=r"Ray cannot be reached .*: look at RAY_ADDRESS"):
        studio.serve()
    studio.close()
