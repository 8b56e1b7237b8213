"""Studios on one data folder, and commands beside them."""

import subprocess
import sys
from functools import partial

import pytest
from typer.testing import CliRunner

from app import studio as module
from app.cli.main import cli
from app.config import ROOT, StudioConfig
from app.storage.database import Database
from app.studio import Studio
from tests.fakes import FakeCascade

OWN = """
import sys, time
from app.storage.folder_lock import Ownership
print(Ownership(sys.argv[1]).acquire(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def make_studio(tmp_path, monkeypatch):
    """Studios over a cascade, all on one folder; all are closed at the end.

    serve: work off its queue. Without a cascade one can make nothing.
    """
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    opened = []

    def make(cascade=None, *, serve=True, **settings):
        def load(config):
            assert cascade is not None, "this studio was to make nothing"
            return cascade

        studio = Studio(StudioConfig(**{"data": tmp_path / "data", **settings}), load=load)
        opened.append(studio)
        if serve:
            studio.serve()
        return studio

    yield make
    for studio in opened:
        studio.close()


@pytest.fixture
def owner():
    """Starts processes that own a folder; they are killed at the end."""
    started = []

    def start(folder) -> subprocess.Popen:
        command = [sys.executable, "-c", OWN, str(folder)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "True\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Commands:
    """Runs the command line in this process, over `cascade`, which may be changed; without one it can make nothing."""

    def __init__(self):
        self.cascade = FakeCascade()

    def load(self, config):
        assert self.cascade is not None, "this command was to make nothing"
        return self.cascade

    def __call__(self, *arguments):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Commands in an empty folder, which has the default data folder."""
    commands = Commands()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAVIE_DATA", raising=False)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "Studio", partial(Studio, load=commands.load))
    return commands
