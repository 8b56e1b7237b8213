"""A training among other jobs: every list shows it, and what cannot be done with it is said in words."""

import json

import pytest

from app.config import StudioConfig
from app.models.loaded import Models, adapt_cascade
from app.queue.status import Watch
from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING
from app.storage.training_folder import training_folder
from app.ui.api.endpoints import job_facts
from app.ui.i18n import Languages
from app.ui.live import Live
from lavie.errors import RequestError
from lavie.events import StageStarted, Step
from lavie.request import Request
from tests.app.queue.lines import bring
from tests.app.training.conftest import TRIGGER, short
from tests.fakes import FakeCascade


@pytest.fixture
def job_id(studio, pictures):
    return studio.training.start(short(), [pictures])


def page(studio, language: str = "en") -> dict:
    return Live(studio, Languages(), clock=lambda: 0.0).fragments(language)


@pytest.mark.parametrize("state", [QUEUED, PAUSED, INTERRUPTED, RUNNING, FAILED, CANCELLED])
def test_the_page_shows_it_in_every_state(studio, job_id, state):
    bring(studio.queue, job_id, state)
    shown = page(studio)
    where = "queue" if state in (QUEUED, PAUSED, INTERRUPTED) else "head"
    assert TRIGGER in shown[where]
    if where == "queue":
        assert "Training an adapter" in shown["queue"] and 'data-act="edit"' not in shown["queue"]
        assert 'data-act="duplicate"' in shown["queue"]
    assert json.dumps(job_facts(studio.job(job_id)))


def test_the_page_shows_how_far_it_is_and_how_long_it_takes(studio, job_id):
    moment = [0.0]
    live = Live(studio, Languages(), clock=lambda: moment[0])
    WorkerQueue(studio.database).take(job_id)
    for step in (2, 12):
        WorkerQueue(studio.database).set_progress(job_id, "training", step, 100)
        shown = live.fragments("en")
        moment[0] += 10
    assert "Training 12 / 100" in shown["status"]
    assert "12 / 100 · 1 min left" in shown["bars"] and shown["bars"].count("<progress") == 1
    assert 'data-act="pause"' in shown["head"] and 'data-act="keep"' not in shown["head"]


def test_the_page_tells_of_the_adapter(studio, job_id):
    WorkerQueue(studio.database).take(job_id)
    WorkerQueue(studio.database).finish(job_id, json.dumps({"adapter": "ab", "name": "<b>", "trigger": TRIGGER}))
    assert studio.job(job_id).state == DONE
    assert "The adapter is in the library: &lt;b&gt;." in page(studio)["head"]


def test_what_it_is_not_is_said(studio, job_id):
    with pytest.raises(RequestError, match=r"trains an adapter .* cannot be edited: cancel it"):
        studio.edit(job_id, Request("a red star"))
    row = studio.queue.get(job_id)
    with pytest.raises(RequestError, match="trains an adapter: it makes no clip"):
        _ = row.job
    clip = studio.queue.get(studio.submit(Request("a red star")))
    with pytest.raises(RequestError, match="trains nothing"):
        _ = clip.training
    WorkerQueue(studio.database).take(job_id)
    with pytest.raises(RequestError, match="trains an adapter: cancel it, the files of its last steps stay"):
        studio.queue.keep(job_id)


def test_it_moves_in_line_like_others(studio, job_id):
    clip = studio.submit(Request("a red star"))
    copy = studio.queue.duplicate(job_id)
    studio.queue.to_front(copy)
    assert [row.id for row in studio.queue.line()] == [copy, job_id, clip]
    assert studio.queue.get(copy).training == studio.queue.get(job_id).training
    assert studio.estimates.of_jobs(studio.queue.line()) is None  # nobody knows how long it takes
    studio.queue.set_priority(job_id, 5)
    assert WorkerQueue(studio.database).take().id == job_id


def test_one_that_cannot_be_read_fails_alone(studio, job_id):
    other = studio.queue.duplicate(job_id)
    with studio.database.write() as connection:
        connection.execute("UPDATE jobs SET job = ? WHERE id = ?", ['{"schema": 99}', job_id])
    assert studio.queue.get(job_id).prompt == "" and TRIGGER in page(studio)["queue"]
    assert WorkerQueue(studio.database).take().id == other
    assert studio.queue.get(job_id).state == FAILED and "schema 99" in studio.queue.get(job_id).error


def test_a_stored_step_is_progress(studio, job_id):
    """As with other jobs: behind the second kill in a row with nothing new stored it is left to a person."""
    import torch
    from safetensors.torch import save_file

    states, file = [], training_folder(studio.config.data, job_id) / "checkpoint.safetensors"
    for step in (None, 10, 20, None):
        WorkerQueue(studio.database).take(job_id)
        if step is not None:
            save_file({"x": torch.zeros(1)}, file, metadata={"step": str(step)})
        WorkerQueue(studio.database).recover("resume")
        states.append(studio.queue.get(job_id).state)
    assert states == [QUEUED, QUEUED, QUEUED, INTERRUPTED]


def test_commands_list_and_change_it(run, studio, job_id):
    where = ("--data", studio.config.data)
    listed = run("jobs", "list", *where)
    assert listed.exit_code == 0 and TRIGGER in listed.stdout
    (shown,) = json.loads(run("jobs", "list", *where, "--json").stdout)["jobs"]
    assert (shown["kind"], shown["prompt"], shown["job"]["trigger"]) == ("train", TRIGGER, TRIGGER)
    refused = run("jobs", "edit", job_id, "--prompt", "x", *where)
    assert refused.exit_code == 1 and "cannot be edited" in refused.stderr
    assert run("jobs", "duplicate", job_id, *where).exit_code == 0
    assert run("jobs", "pause", job_id, *where).stdout.strip() == f"{job_id} is paused"


def test_who_watches_is_told_of_its_steps(studio, job_id):
    from app.cli.progress import Lines

    WorkerQueue(studio.database).take(job_id)
    WorkerQueue(studio.database).set_progress(job_id, "training", 3, 4)
    events = list(Watch().events(studio.job(job_id)))
    assert events == [StageStarted("training", 4), Step("training", 3, 4)]
    lines = []
    for event in events:
        Lines(lines.append)(event)
    assert lines == ["training: 4 steps"]


def test_a_model_gives_its_memory_back_and_is_loaded_again(tmp_path):
    loaded = []
    load = lambda config: loaded.append(config.model) or FakeCascade()  # noqa: E731
    models = Models(StudioConfig(data=tmp_path), load, adapt_cascade)
    assert models.release() is None
    models.get("nano")
    assert models.release() == "nano" and models.loaded is None
    models.want("nano")
    models.load_ahead()
    assert loaded == ["nano", "nano"] and models.loaded.name == "nano"
