"""A few pictures and clips at toy size, and runs over them from the toy bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.media import UPLOAD_LIMITS, frames_of
from extensions.lora.training import ordinary
from extensions.lora.training import settings as presets
from extensions.lora.training.session import LoraSession
from extensions.lora.training.settings import Settings
from lavie.events import Notice
from tests.training.folders import write_clip, write_picture

TRIGGER = "zkw"


def read(path: Path):
    """As the command reads videos."""
    return frames_of(path, UPLOAD_LIMITS)


def run(settings: Settings) -> list:
    """A whole run's events."""
    return list(LoraSession(settings, read).run())


def notices(events: list) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Notice))


@pytest.fixture(autouse=True)
def few_ordinary_clips(monkeypatch):
    """Two, of two steps each: what they show does not matter here."""
    monkeypatch.setattr(ordinary, "STEPS", (2,))
    monkeypatch.setitem(presets._SMALL[presets.SUBJECT], "ordinary", 2)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(2):
        write_picture(folder / f"{number}.png", number)
    (folder / "0.txt").write_text(f"a red {TRIGGER} on a navy background")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "0.mp4", 0)
    return folder


@pytest.fixture
def settings(pictures, tiny_bundle, tmp_path):
    """Builds the settings of a short run over `pictures`."""

    def build(preset="subject", **values) -> Settings:
        defaults = {"images": (pictures,), "trigger": TRIGGER, "model": tiny_bundle, "work": tmp_path / "work"}
        defaults |= {"output": tmp_path / "out.safetensors", "steps": 4, "precision": "no", "device": "cpu"}
        defaults |= {"checkpoint_every": 2, "samples_every": 0, "prior": 0.0}
        return Settings(preset=preset, **{**defaults, **values})

    return build
