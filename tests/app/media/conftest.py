from pathlib import Path

import pytest

from tests.app.media.clips import RECIPE, blocks, write_video


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A clip to make others from. Tests share it, so none may change it."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_video(path, blocks(18, fps=12), RECIPE)
    return path
