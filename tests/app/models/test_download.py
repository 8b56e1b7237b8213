"""Downloads from a hub: whole, in parts, refused, renamed, damaged, without a network. Nothing that came is lost."""

import errno
import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from app.config import ConfigError
from app.models import download as module
from app.models import hub as talking
from app.models.download import Downloaded, Downloading, collect, download, lock_models
from app.models.hub import DownloadError
from app.models.sources import LAVIE, PUBLISHED, Repository, Sources, read_sources
from lavie.files import read_record
from tests.app.models.hubs import COMMIT, Hub

BASE = bytes(range(256)) * 20_000  # 5 MB: several chunks
FILES = {"lavie_base.pt": BASE, "config.json": b"{}\n"}
REPOSITORY = Repository(("someone/LaVie", "elsewhere/LaVie"), (("lavie_base.pt",), ("none.safetensors", "config.json")))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(talking, "WAITS", (0.0, 0.0))


@pytest.fixture
def hub():
    hub = Hub({"someone/LaVie": FILES})
    yield hub
    hub.close()


@pytest.fixture
def sources(hub):
    return Sources({LAVIE: REPOSITORY}, hub.address, trusted=())


def finished(sources, folder) -> Downloaded:
    *_, last = download(sources, folder)
    return last


def refused(sources, folder, *said: str) -> str:
    with pytest.raises(DownloadError) as caught:
        finished(sources, folder)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message
    return message


def test_files_come_whole_with_progress_and_their_checksum_is_kept(sources, tmp_path):
    *events, last = download(sources, tmp_path)
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE
    assert (tmp_path / "config.json").read_bytes() == b"{}\n"
    total = len(BASE) + 3
    assert last == Downloaded(
        tmp_path, {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}, total
    )
    assert all(isinstance(event, Downloading) and event.total == total for event in events)
    assert [event.done for event in events] == sorted(event.done for event in events) and events[-1].done == total
    assert len(events) > 3 and events[-1].comparing and not events[0].comparing
    assert read_record(tmp_path)["lavie_base.pt"].sha256 == hashlib.sha256(BASE).hexdigest()
    origin = json.loads((tmp_path / "weights.json").read_text())["origins"]["lavie_base.pt"]
    assert (origin["repository"], origin["revision"]) == ("someone/LaVie", COMMIT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "lavie_base.pt", "weights.json"]


def test_speed_and_rest_are_told(sources, tmp_path):
    seconds = iter(range(10_000))
    events = [
        event for event in download(sources, tmp_path, clock=lambda: next(seconds)) if event.__class__ is Downloading
    ]
    second = events[1]
    assert second.rate > 0
    assert second.seconds_left == pytest.approx((second.total - second.done) / second.rate)


def test_what_is_there_does_not_come_again(hub, sources, tmp_path):
    finished(sources, tmp_path)
    hub.requests.clear()
    assert finished(sources, tmp_path).fetched == 0
    assert [path for path, _ in hub.requests if "resolve" in path] == []


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(hub, sources, tmp_path):
    (tmp_path / "lavie_base.pt").write_bytes(BASE)
    assert finished(sources, tmp_path).fetched == 3
    assert hub.asked_for("lavie_base.pt") == []
    (tmp_path / "lavie_base.pt").write_bytes(BASE[:-1] + b"x")
    assert finished(sources, tmp_path).fetched == len(BASE)
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE


def test_whoever_stops_asking_pauses(hub, sources, tmp_path):
    work = download(sources, tmp_path)
    done = next(work).done
    work.close()
    assert 0 < done < len(BASE) and not (tmp_path / "lavie_base.pt").exists()
    *_, last = download(sources, tmp_path)
    assert hub.asked_for("lavie_base.pt") == ["", f"bytes={done}-"]
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE
    assert last.fetched == len(BASE) + 3 - done


def test_a_connection_that_breaks_off_is_taken_up_at_its_byte(hub, sources, tmp_path):
    hub.breaks, hub.break_after = 4, 1_000_000
    finished(sources, tmp_path)
    assert hub.asked_for("lavie_base.pt")[1:] == [f"bytes={n}000000-" for n in (1, 2, 3, 4)]
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE


def test_half_a_download_is_gone_on_from_in_another_run(hub, sources, tmp_path):
    work = download(sources, tmp_path)
    done = next(work).done
    work.close()
    hub.breaks, hub.break_after = 10, 0
    refused(sources, tmp_path, f"broke off at {done} of", "lavie_base.pt", "run the same command again")
    hub.breaks = 0
    finished(sources, tmp_path)
    assert hub.asked_for("lavie_base.pt")[-1] == f"bytes={done}-"
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE


def test_a_server_that_cannot_go_on_is_asked_from_the_start(hub, sources, tmp_path):
    work = download(sources, tmp_path)
    next(work)
    work.close()
    hub.ignores_ranges = True
    finished(sources, tmp_path)
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE


def test_another_content_is_not_gone_on_from(hub, sources, tmp_path):
    work = download(sources, tmp_path)
    next(work)
    work.close()
    hub.repositories["someone/LaVie"] = FILES | {"lavie_base.pt": BASE[::-1]}
    finished(sources, tmp_path)
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE[::-1]
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("name", ["lavie_base.pt", "config.json"])
def test_a_wrong_checksum_is_no_file(hub, sources, tmp_path, name):
    hub.lies = {name}
    refused(sources, tmp_path, name, "wrong checksum", "--mirror")
    assert not (tmp_path / name).exists() and not list(tmp_path.glob(f".{name}*"))
    hub.lies = set()
    finished(sources, tmp_path)
    assert (tmp_path / name).read_bytes() == FILES[name]


def test_a_repository_that_moved_is_found_under_its_other_name(hub, sources, tmp_path):
    hub.repositories = {"elsewhere/LaVie": FILES}
    finished(sources, tmp_path)
    assert (
        json.loads((tmp_path / "weights.json").read_text())["origins"]["config.json"]["repository"] == "elsewhere/LaVie"
    )


@pytest.mark.parametrize("closed", [False, True])
def test_a_repository_that_is_gone_is_named(hub, sources, tmp_path, closed):
    hub.closed, hub.repositories = ({"someone/LaVie"}, hub.repositories) if closed else (set(), {})
    refused(sources, tmp_path, "no someone/LaVie", "no elsewhere/LaVie", "sources.json", "hf auth login")


def test_a_licence_that_waits_is_named_with_its_page(hub, sources, tmp_path):
    hub.gated = {"someone/LaVie"}
    refused(sources, tmp_path, "licence of someone/LaVie", f"{hub.address}/someone/LaVie", "hf auth login")


def test_a_revision_or_a_file_that_is_not_there_is_named(hub, sources, tmp_path):
    wrong = Sources({LAVIE: Repository(REPOSITORY.ids, REPOSITORY.files, revision="v9")}, hub.address)
    refused(wrong, tmp_path, "someone/LaVie has no revision 'v9'", "--revision")
    hub.repositories["someone/LaVie"] = {"config.json": b""}
    refused(sources, tmp_path, "holds no lavie_base.pt", "sources.json")


def test_no_network_says_so_and_what_else_there_is(tmp_path):
    nowhere = Sources({LAVIE: REPOSITORY}, "http://127.0.0.1:9")
    refused(nowhere, tmp_path, "no network: 127.0.0.1:9", "--mirror", "docs/weights.md", "Nano")


def test_a_mirror_is_asked_where_the_hub_cannot_be_reached(hub, tmp_path):
    finished(Sources({LAVIE: REPOSITORY}, "http://127.0.0.1:9", (hub.address,)), tmp_path)
    assert (tmp_path / "lavie_base.pt").read_bytes() == BASE


def test_a_server_at_fault_is_asked_again(hub, sources, tmp_path):
    look_up = download(sources, tmp_path)
    next(look_up)
    look_up.close()
    hub.failing = 1
    refused(sources, tmp_path, "error 503")
    files = talking.look_up(sources, REPOSITORY)
    hub.failing = 2
    for _ in talking.fetch(files[1], tmp_path / "part"):
        pass
    assert (tmp_path / "part").read_bytes() == b"{}\n"


def test_a_token_is_shown_only_to_addresses_that_are_trusted(hub, sources, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_person")
    finished(sources, tmp_path / "a")
    assert set(hub.tokens) == {None}
    hub.tokens.clear()
    finished(Sources({LAVIE: REPOSITORY}, hub.address, trusted=(hub.address,)), tmp_path / "b")
    assert set(hub.tokens) == {"Bearer hf_of_a_person"}


def test_a_disk_without_room_is_told_before_the_start(hub, sources, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    refused(sources, tmp_path, "0.0 GB are to be fetched", "free some", "--data")
    assert hub.asked_for("lavie_base.pt") == []


def test_a_disk_that_fills_up_leaves_what_came(sources, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "fetch", full)
    refused(sources, tmp_path, "is full", "run the same command again")


def test_one_at_a_time(tmp_path):
    with (
        lock_models(tmp_path),
        pytest.raises(DownloadError, match="another download or conversion"),
        lock_models(tmp_path),
    ):
        pass
    with lock_models(tmp_path):
        pass


def test_offline_takes_what_is_there_and_the_hubs_own_cache(sources, tmp_path, monkeypatch):
    import huggingface_hub.constants

    folder, cache = tmp_path / "published", tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    with pytest.raises(DownloadError, match=r"no lavie_base\.pt, no none\.safetensors: put them into"):
        collect(sources, folder)
    kept = cache / "models--someone--LaVie"
    (kept / "snapshots" / COMMIT).mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    (kept / "snapshots" / COMMIT / "lavie_base.pt").write_bytes(BASE)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(b"{}\n")
    done = collect(sources, folder)
    assert done.files == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert (folder / "lavie_base.pt").read_bytes() == BASE
    assert read_record(folder).keys() == FILES.keys()


def test_settings_come_from_the_file_the_environment_and_the_options(tmp_path):
    given = {"mirrors": ["https://m.example/"], "repositories": {"lavie": {"ids": ["a/b"], "revision": "v2"}}}
    (tmp_path / "sources.json").write_text(json.dumps(given))
    sources = read_sources(tmp_path, {"HF_ENDPOINT": "https://h.example/"}, ["https://first.example"], ["seine=abc"])
    assert sources.endpoints == ("https://first.example", "https://h.example", "https://m.example")
    lavie, seine = sources.repositories["lavie"], sources.repositories["seine"]
    assert (lavie.ids, lavie.revision, lavie.files) == (("a/b",), "v2", PUBLISHED["lavie"].files)
    assert seine.revision == "abc"
    assert "https://h.example" in sources.trusted and "https://first.example" not in sources.trusted
    own = read_sources(Path("nowhere"), {"LAVIE_HUB_ENDPOINT": "https://mine.example"})
    assert own.endpoints == ("https://mine.example",) and "https://mine.example" not in own.trusted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be used"),
        ('{"endpoint": "here"}', "'here'"),
        ('{"repositories": {"other": {"ids": ["a/b"]}}}', "other"),
        ('{"repositories": {"lavie": {"files": []}}}', "files"),
        ('{"repositories": {"lavie": {"ids": ["../x"]}}}', "owner/name"),
        ('{"unknown": 1}', "unknown"),
    ],
)
def test_a_file_of_settings_that_is_wrong_is_named(tmp_path, content, said):
    (tmp_path / "sources.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_sources(tmp_path, {})
