"""Studios over the bundle at toy size, and a few pictures and clips to learn from."""

from pathlib import Path

import pytest

from app.recipes.training import Training
from tests.training.folders import write_clip, write_picture

TRIGGER = "zkw"


@pytest.fixture
def studio(make_studio, tiny_bundle):
    """Takes trainings; nobody works off its queue."""
    return make_studio(serve=False, model=str(tiny_bundle), device="cpu")


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    for number in range(2):
        write_picture(folder / f"{number}.png", number)
    (folder / "0.txt").write_text(f"a red {TRIGGER} on a navy background")
    return folder


@pytest.fixture
def clips(tmp_path) -> Path:
    write_clip(tmp_path / "clips/0.mp4", 0)
    return tmp_path / "clips"


def short(**values) -> Training:
    """A training of four steps, without what takes long."""
    return Training(TRIGGER, **{"steps": 4, "prior": 0.0, "samples_every": 0, "checkpoint_every": 2, **values})
