import pytest

from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.training.tuning.settings import EXTENSION, Settings
from tests.training.folders import own_folder

FRAMES = {BASE: None, INTERPOLATION: 5, SUPER_RESOLUTION: 2, EXTENSION: None}


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """Media that serve every network: clips of 8 frames at 128×64, and pictures."""
    return own_folder(tmp_path_factory.mktemp("own"), clips=3, pictures=2, width=128, height=64)


@pytest.fixture(scope="session")
def tiny_bundle(one_level_bundle):
    return one_level_bundle


@pytest.fixture
def settings(own, tiny_bundle, tmp_path):
    """Builds the settings of a short run over `own` from the toy bundle."""

    def build(kind=BASE, **values) -> Settings:
        defaults = {"data": own, "model": tiny_bundle, "work": tmp_path / "work", "output": tmp_path / "out"}
        defaults |= {"steps": 4, "learning_rate": 1e-3, "precision": "no", "checkpoint_every": 2, "device": "cpu"}
        return Settings(kind, **{**defaults, "frames": FRAMES[kind], **values})

    return build
