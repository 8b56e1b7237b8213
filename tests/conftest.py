import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would only be in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_addoption(parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="of the studio by tests/faults; 50 for the full run")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A folder with a whole bundle at toy size. Copy it before you damage it."""
    from tests.tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny_cascade(tiny_bundle):
    """A cascade over `tiny_bundle`, loaded once: results must not depend on what ran before, so tests may share it."""
    from lavie import Cascade

    return Cascade.from_bundle(tiny_bundle, device="cpu")


@pytest.fixture(autouse=True)
def same_number_of_threads():
    """No test leaves another number behind: the last bits of what later ones make in this process hang on it."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if before:
        assert sys.modules["torch"].get_num_threads() == before
