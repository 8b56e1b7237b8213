import gc
import os
import sys
from pathlib import Path

import pytest

PAGES, SLOW = (Path(__file__).parent / name for name in ("pages", "slow"))

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would only be in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_addoption(parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="of the studio by tests/slow/faults; 1000 for the full run")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int | None:
    """A single file runs in this process: starting others takes longer than most files do."""
    paths = [Path(argument.split("::")[0]) for argument in config.args]
    return 0 if len(paths) == 1 and paths[0].is_file() else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """All page tests run in one process, which has one browser and one server of a kind; others go file by file."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/pages" if nodeid.startswith("tests/pages/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config, items) -> None:
    """Begin with the page tests, which take longest in one go, and leave slow tests out.

    Slow tests are asked for by `-m` or by a path below tests/slow.
    """
    items.sort(key=lambda item: not item.path.is_relative_to(PAGES))
    for item in items:
        if item.path.is_relative_to(SLOW):
            item.add_marker(pytest.mark.slow)
    asked = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if config.option.markexpr or any(path.is_relative_to(SLOW) for path in asked):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def pytest_collection_finish() -> None:
    """Keep the objects of imported libraries out of all later garbage collections: a residency collects often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A folder with a whole bundle at toy size. Copy it before you damage it."""
    from tests.tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def one_level_bundle(tmp_path_factory) -> Path:
    """As `tiny_bundle`, its U-Nets of one level: for folders whose tests call them hundreds of times."""
    from tests.tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "one level", levels=1)


@pytest.fixture(scope="session")
def tiny_cascade(tiny_bundle):
    """A cascade over `tiny_bundle`, loaded once: results do not depend on what ran before, so tests may share it."""
    from lavie import Cascade

    return Cascade.from_bundle(tiny_bundle, device="cpu")


@pytest.fixture(scope="session")
def one_level_cascade(one_level_bundle):
    from lavie import Cascade

    return Cascade.from_bundle(one_level_bundle, device="cpu")


@pytest.fixture(autouse=True)
def same_number_of_threads():
    """No test leaves another number behind: the last bits of later results in this process depend on it."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if before:
        assert sys.modules["torch"].get_num_threads() == before
