"""One process works on a data folder; the lock is the system's, so that a kill gives it back. Real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from app.storage import folder_lock
from app.storage.folder_lock import Owner, Ownership
from lavie.errors import StorageError
from tests.test_architecture import ROOT

PATIENCE = 60  # seconds; only broken code needs them
HOLD = """
import subprocess, sys
from app.storage.folder_lock import Ownership
ownership = Ownership(sys.argv[1])
print(ownership.acquire(), flush=True)
apart = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
child = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(child, **apart).pid if sys.argv[2:] else 0, flush=True)
sys.stdin.readline()
ownership.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def process(tmp_path):
    """Starts a process that tries to own the folder; gives it and what it got."""
    started = []

    def start(*arguments) -> tuple[subprocess.Popen, bool]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "data"), *arguments]
        other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(other)
        return other, other.stdout.readline() == "True\n"

    yield start
    for other in started:
        other.kill()
        other.communicate(timeout=PATIENCE)


@pytest.fixture
def mine(tmp_path):
    ours = Ownership(tmp_path / "data")
    yield ours
    ours.release()


def eventually(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_second_process_gets_nothing_and_learns_who_has_it(process, mine):
    other, got = process()
    assert got
    assert not mine.acquire()
    owner = mine.owner()
    assert (owner.pid, owner.host) == (other.pid, socket.gethostname())
    assert owner.started <= owner.seen
    assert f"process {other.pid} on {socket.gethostname()}, since {owner.started}" in str(owner)
    assert not process()[1]


def test_what_is_released_goes_to_the_next(process, mine):
    other, _ = process()
    assert other.stdout.readline() == "0\n"
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "released\n"  # and it lives on
    assert mine.owner() is None
    assert mine.acquire()
    assert mine.owner().pid == os.getpid()
    assert not process()[1]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_gives_it_back_even_if_what_the_owner_started_lives_on(process, mine):
    other, _ = process("child")
    child = int(other.stdout.readline())
    try:
        assert not mine.acquire()
        other.send_signal(signal.SIGKILL)
        other.wait(PATIENCE)
        os.kill(child, 0)  # raises if it is gone
        assert mine.acquire()
        assert mine.owner().pid == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_in_one_process_are_two(tmp_path, mine):
    other = Ownership(tmp_path / "data")
    assert mine.acquire() and not other.acquire()
    other.release()  # what it does not have
    assert not other.acquire()
    mine.release()
    assert other.acquire() and not mine.acquire()
    other.release()


def test_to_ask_again_is_to_have_it_once(tmp_path, mine):
    got = []
    threads = [threading.Thread(target=lambda: got.append(mine.acquire())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert got == [True] * 8
    assert [thread.name for thread in threading.enumerate()].count("heartbeat") == 1
    mine.release()
    other = Ownership(tmp_path / "data")
    assert other.acquire()
    other.release()
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_the_owner_is_seen_again_and_again(mine, monkeypatch):
    monkeypatch.setattr(folder_lock, "_BEAT_SECONDS", 0.01)
    times = iter(f"2026-01-01T00:00:{second:02}+00:00" for second in range(60))
    monkeypatch.setattr(folder_lock, "_now", lambda: next(times, "2026-01-01T00:01:00+00:00"))
    mine.acquire()
    mine.release()
    mine.acquire()
    eventually(lambda: mine.owner() is not None and mine.owner().seen >= "2026-01-01T00:00:10+00:00")
    assert mine.owner().started < "2026-01-01T00:00:10+00:00"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\udcff"])
def test_an_owner_that_cannot_be_read_is_not_known(tmp_path, mine, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "studio.owner.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    assert mine.owner() is None
    assert mine.acquire()
    written = json.loads((tmp_path / "data" / "studio.owner.json").read_text(encoding="utf-8"))
    assert Owner(**written) == mine.owner()


def test_the_lock_holds_where_nobody_can_be_told(tmp_path, mine):
    (tmp_path / "data" / "studio.owner.json").mkdir(parents=True)  # as a disk that takes no file
    assert mine.acquire()
    assert mine.owner() is None
    assert not Ownership(tmp_path / "data").acquire()
    mine.release()
    assert Ownership(tmp_path / "data").acquire()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="choose another data folder"):
        Ownership(tmp_path / "file").acquire()
