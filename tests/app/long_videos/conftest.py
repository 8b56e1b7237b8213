"""Studios over the bundle at toy size: real networks, real parts."""

import pytest

from tests.app.long_videos.videos import made, plan, request


class At:
    """Does something once, in the worker's thread, right after so many events of a kind were reported."""

    def __init__(self, kind, count, do):
        self.kind, self.left, self.do = kind, count, do

    def __call__(self, event):
        if type(event).__name__ == self.kind:
            self.left -= 1
            if self.left == 0:
                self.do()


@pytest.fixture(scope="session")
def tiny_bundle(one_level_bundle):
    return one_level_bundle


@pytest.fixture(scope="session")
def tiny_cascade(one_level_cascade):
    return one_level_cascade


@pytest.fixture
def make_long(make_studio, tiny_cascade, tiny_bundle):
    """Studios over the tiny bundle, see `make_studio`."""

    def make(**settings):
        return make_studio(tiny_cascade, model=str(tiny_bundle), device="cpu", **settings)

    return make


@pytest.fixture
def studio(make_long):
    return make_long()


@pytest.fixture
def clip(studio):
    """A long video of three segments, made."""
    return made(studio, studio.long_videos.submit(request(), plan())).clip


@pytest.fixture
def after(monkeypatch):
    """Has something done at an event: `after("SegmentDone", 2, lambda: …)`."""
    from app.worker.job_run import JobRun

    report, waiting = JobRun.report, []

    def report_and_act(self, event, *place):
        report(self, event, *place)
        for one in waiting:
            one(event)

    monkeypatch.setattr(JobRun, "report", report_and_act)
    return lambda kind, count, do: waiting.append(At(kind, count, do))
