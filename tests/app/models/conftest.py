"""A hub at toy size in the place of the real one."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from app.models import hub as talking
from extensions.published import convert as converting
from lavie.events import Notice
from tests.app.models.hubs import published_hub
from tests.extensions.published.toys import published, write_published


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> Path:
    """The bundle that the toys become, made once as it is made of files of strangers."""
    folder = tmp_path_factory.mktemp("converted")
    for _ in converting.convert(write_published(folder / "files"), folder / "bundle", published=published()):
        pass
    return folder / "bundle"


@pytest.fixture
def copying(converted):
    """A conversion that gives what it gave once: what it reads is not looked at."""

    def convert(source: Path, output: Path, dtype: str = "fp16"):
        yield Notice("converted before")
        shutil.copytree(converted, output, dirs_exist_ok=True)

    return convert


@pytest.fixture
def quick(hub, monkeypatch, copying):
    """Every conversion copies."""
    monkeypatch.setattr(converting, "convert", copying)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with all that is published; what comes from it can be converted."""
    hub = published_hub(tmp_path / "handed out")
    monkeypatch.setenv("LAVIE_HUB_ENDPOINT", hub.address)
    monkeypatch.setattr(talking, "WAITS", ())
    monkeypatch.setattr(converting, "convert", partial(converting.convert, published=published()))
    yield hub
    hub.close()
