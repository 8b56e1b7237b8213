"""The studio fetches and converts by itself: paused, gone on with, stopped short, and never twice at once."""

import shutil
import threading
from collections import namedtuple

import pytest

from app.config import StudioConfig
from app.models.catalog import find_models, find_published
from app.models.download import PUBLISHED, lock_models
from app.models.hub import DownloadError
from app.models.jobs import CONVERT, DONE, DOWNLOAD, FAILED, IDLE, RUNNING, STOPPED, WeightsWork
from extensions.published import convert as converting
from lavie.request import STAGES
from tests.app.models.hubs import PIECE
from tests.app.studios import until

BASE = "lavie_base.pt"


@pytest.fixture
def open_work(tmp_path):
    """Works on one folder of models, one after the other as after restarts; all are closed at the end."""
    opened = []

    def make() -> WeightsWork:
        opened.append(WeightsWork(tmp_path / "data" / "models"))
        return opened[-1]

    yield make
    for work in opened:
        work.close()


@pytest.fixture
def pieces(hub):
    """What large files wait for; none is left waiting at the end."""
    hub.pieces = threading.Semaphore(0)
    yield hub.pieces
    hub.pieces.release(10**6)


def ended(work, *, begin=None):
    (begin or work.fetch)()
    until(lambda: not work.standing.under_way)
    return work.standing


def half_fetched(work, pieces) -> int:
    """Fetch some pieces and pause; the bytes that came."""
    work.fetch()
    pieces.release(2)
    until(lambda: work.standing.done >= 2 * PIECE)
    work.pause()
    pieces.release(1)
    until(lambda: work.standing.state == STOPPED)
    return work.standing.done


def test_from_nothing_to_a_model(hub, open_work, tmp_path):
    work = open_work()
    assert work.standing.state == IDLE and not work.standing.under_way
    standing = ended(work)
    assert (standing.work, standing.state, standing.problem) == (CONVERT, DONE, "")
    assert standing.done == standing.total > 0
    _, official = find_models(StudioConfig(tmp_path / "data"))
    assert official.name == "Tiny" and not any(official.stages.values())
    files = find_published(tmp_path / "data" / "models")
    assert not any(files.missing[stage] for stage in STAGES) and files.begun == 0
    assert files.sha256.keys() == files.files.keys() - {"weights.json"}


def test_the_network_that_extends_comes_later_and_the_model_has_it_then(hub, open_work, tmp_path, monkeypatch, copying):
    with monkeypatch.context() as patch:
        patch.setattr(converting, "convert", copying)
        assert ended(open_work()).state == DONE
    before = len(hub.requests)
    work = open_work()
    assert ended(work, begin=lambda: work.fetch(with_optional=True)).state == DONE
    _, official = find_models(StudioConfig(tmp_path / "data"))
    assert official.stages["extension"] == []
    assert not hub.asked_for(BASE)[1:] and len(hub.requests) > before  # what was there is not fetched again


def test_a_pause_keeps_what_came_and_another_start_goes_on_behind_it(hub, quick, open_work, pieces, tmp_path):
    first = open_work()
    came = half_fetched(first, pieces)
    assert first.standing.work == DOWNLOAD and came >= 2 * PIECE
    files = find_published(tmp_path / "data" / "models")
    assert files.begun + sum(files.files.values()) >= came
    cut = next(path for path in (tmp_path / "data" / "models" / PUBLISHED).rglob(".*.partial")).stat().st_size
    pieces.release(10**6)
    assert ended(open_work()).state == DONE
    assert f"bytes={cut}-" in [part for _, part in hub.requests]
    *_, base = [part for part in hub.asked_for(BASE)]
    assert base == f"bytes={cut}-"


def test_how_far_it_is_is_told_on_the_way(hub, open_work, pieces):
    work = open_work()
    work.fetch()
    pieces.release(2)
    until(lambda: work.standing.done >= 2 * PIECE)
    standing = work.standing
    assert (standing.work, standing.state, standing.name) == (DOWNLOAD, RUNNING, BASE)
    assert standing.done < standing.total and not standing.comparing
    with pytest.raises(DownloadError, match="already"):
        work.fetch()
    with pytest.raises(DownloadError, match="already"):
        work.convert()


def test_closing_stops_it(hub, open_work, pieces):
    work = open_work()
    work.fetch()
    pieces.release(1)
    until(lambda: work.standing.done >= PIECE)
    closing = threading.Thread(target=work.close)
    closing.start()
    until(lambda: work.standing.state != RUNNING)
    pieces.release(1)
    closing.join()
    assert work.standing.state == STOPPED


def test_another_process_at_work_is_told(hub, quick, open_work, tmp_path):
    work = open_work()
    with lock_models(tmp_path / "data" / "models"):
        assert "another download or conversion" in ended(work).problem
    assert ended(work).state == DONE


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("licence", "the licence of YaohuiW/LaVie must be accepted first"),
        ("network", "no network"),
        ("checksum", "came with a wrong checksum"),
        ("renamed", "there is no YaohuiW/LaVie"),
        ("disk", "GB free"),
        ("settings", "sources.json cannot be used"),
    ],
)
def test_what_goes_wrong_is_told_and_the_next_try_goes_on(hub, quick, open_work, tmp_path, monkeypatch, what, said):
    work, settings = open_work(), tmp_path / "data" / "models" / "sources.json"
    settings.parent.mkdir(parents=True)
    kept = dict(hub.repositories)
    with monkeypatch.context() as patch:
        if what == "licence":
            hub.gated = {"YaohuiW/LaVie"}
        elif what == "network":
            patch.setenv("LAVIE_HUB_ENDPOINT", "http://127.0.0.1:9")
        elif what == "checksum":
            hub.lies = {BASE}
        elif what == "renamed":
            del hub.repositories["YaohuiW/LaVie"]
        elif what == "disk":
            usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
            patch.setattr(shutil, "disk_usage", lambda folder: usage)
        else:
            settings.write_text("{")
        standing = ended(work)
    assert standing.state == FAILED and said in standing.problem and "\n" not in standing.problem
    hub.gated, hub.lies, hub.repositories = set(), set(), kept
    settings.unlink(missing_ok=True)
    again = ended(work)
    assert (again.state, again.problem) == (DONE, "")


def test_files_that_cannot_be_converted_stay_and_are_told(hub, open_work, tmp_path, monkeypatch, copying):
    work = open_work()
    with monkeypatch.context() as patch:
        patch.setattr(converting, "convert", copying)
        assert ended(work).state == DONE
    shutil.rmtree(tmp_path / "data" / "models" / "official")
    file = tmp_path / "data" / "models" / PUBLISHED / BASE
    whole = file.read_bytes()
    file.write_bytes(b"not a checkpoint")
    standing = ended(work, begin=work.convert)
    assert (standing.work, standing.state) == (CONVERT, FAILED) and BASE in standing.problem
    file.write_bytes(whole)
    assert ended(work, begin=work.convert).state == DONE
    assert hub.asked_for(BASE) == [""]


def test_a_fault_of_ours_is_told_too(hub, open_work, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("app.models.jobs.download", broken)
    work = open_work()
    assert "something went wrong inside (ZeroDivisionError: inside)" in ended(work).problem
