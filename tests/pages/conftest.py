"""A browser for the tests of a module, and pages that complain of errors and of requests to elsewhere."""

from pathlib import Path

import pytest

from tests.pages import galleries
from tests.pages.browser import CHROMIUM, fake_studio, watched


@pytest.fixture(scope="module")  # as long as it lives no event loop can be run, which other modules do
def browser():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: set CHROMIUM to one")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """The page over a cascade of 20 steps at 0.1 seconds; its address and its folder of clips."""
    folder = tmp_path_factory.mktemp("fake")
    with fake_studio(folder, 0.1) as address:
        yield address, folder / "data" / "clips"


@pytest.fixture
def page(browser, fake):
    """A fresh browser on the page."""
    with watched(browser, fake[0]) as page:
        yield page


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A served gallery: its address, the ids of its clips and their folder."""
    folder = tmp_path_factory.mktemp("gallery")
    ids = galleries.fill(folder / "data")
    with fake_studio(folder, 0.01) as address:
        yield address, ids, folder / "data" / "clips"
