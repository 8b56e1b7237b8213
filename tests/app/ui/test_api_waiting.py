"""Waiting for a job within an endpoint, without a server: it ends with the job, and the job does not hang on it."""

import asyncio

import gradio as gr
import pytest

from app.config import ROOT, StudioConfig
from app.studio import Studio
from app.ui.api import endpoints as module
from app.ui.api.errors import wrap_endpoint
from lavie.errors import MediaError, RequestError
from tests.app.studios import ENDLESS, ended, until
from tests.fakes import FakeCascade


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Endpoints over a studio that works on a cascade; both."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    opened = []

    def make(cascade):
        studio = Studio(StudioConfig(data=tmp_path / "data"), load=lambda config: cascade)
        opened.append(studio)
        studio.serve()
        return module.Endpoints(studio), studio

    yield make
    for studio in opened:
        studio.close()


def running(studio):
    until(lambda: studio.queue.counts()["running"] == 1)
    return studio.queue.line()[0].id


def answer_of(endpoints, during):
    """What comes of a client that waits, while something happens in another thread."""

    async def both():
        task = asyncio.create_task(endpoints.render("a red star"))
        await asyncio.to_thread(during, task)
        return await task

    return asyncio.run(both())


def test_a_cancelled_job_is_told(make):
    endpoints, studio = make(FakeCascade(**ENDLESS))
    with pytest.raises(RequestError, match=r"^the job \S+ was cancelled$"):
        answer_of(endpoints, lambda task: studio.cancel(running(studio)))


def test_a_failed_job_is_told_in_its_own_words(make):
    endpoints, _ = make(FakeCascade())
    with pytest.raises(RequestError, match="something went wrong inside"):
        asyncio.run(endpoints.render("broken"))


def test_an_interrupted_job_is_told(make):
    endpoints, studio = make(FakeCascade(**ENDLESS))
    studio.queue.pause_queue()

    def interrupt(task):
        until(studio.queue.line)
        with studio.database.write() as connection:
            connection.execute("UPDATE jobs SET state = 'interrupted', error = 'a kill'")

    with pytest.raises(RequestError, match=r"was interrupted: a kill$"):
        answer_of(endpoints, interrupt)


def test_the_job_goes_on_when_its_client_is_gone(make):
    endpoints, studio = make(FakeCascade(step_seconds=0.02, steps=10))
    with pytest.raises(asyncio.CancelledError):
        answer_of(endpoints, lambda task: (running(studio), task.get_loop().call_soon_threadsafe(task.cancel)))
    (job,) = [*studio.queue.line(), *studio.queue.recent(1)]
    assert ended(studio, job.id).clip is not None
    assert endpoints._queue.waiting == 0


def test_nobody_waits_for_ever(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_SECONDS", 0.1)
    endpoints, studio = make(FakeCascade(**ENDLESS))
    with pytest.raises(RequestError, match="takes long: it goes on, ask /job for it"):
        asyncio.run(endpoints.render("a red star"))
    assert studio.job(running(studio)).open


def test_who_comes_too_late_to_wait_has_stored_no_job(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 0)
    endpoints, studio = make(FakeCascade())
    with pytest.raises(RequestError, match="0 clients wait for videos already"):
        asyncio.run(endpoints.render("a red star"))
    assert studio.queue.line() == []
    job, file = asyncio.run(endpoints.render("a red star", wait=False))
    assert file is None and ended(studio, job["id"]).clip is not None


def test_a_running_job_that_is_cancelled_says_that_it_is_stopping(make):
    endpoints, studio = make(FakeCascade(step_seconds=0.5, steps=100))
    asyncio.run(endpoints.render("a red star", wait=False))
    facts = endpoints.cancel(running(studio))
    assert (facts["state"], facts["asked"]) == ("running", "cancel")


def test_a_message_names_no_folder_of_the_machine(make, caplog):
    _, studio = make(FakeCascade())
    data = studio.config.data.absolute()

    def lost():
        raise MediaError(f"{data}/clips/x.mp4 is no video,\nnor is {ROOT}/y.mp4 or {data}")

    def broken():
        raise ZeroDivisionError(str(data))

    with pytest.raises(gr.Error) as caught:
        asyncio.run(wrap_endpoint(lost, studio)())
    assert caught.value.message == "clips/x.mp4 is no video, nor is y.mp4 or data"
    with pytest.raises(gr.Error) as caught:
        asyncio.run(wrap_endpoint(broken, studio)())
    words = "something went wrong inside (ZeroDivisionError); the studio's terminal shows where"
    assert caught.value.message == words and "broken failed" in caplog.text
