"""A browser and one server of a kind for all tests of this folder."""

from pathlib import Path

import pytest

from tests.pages import galleries
from tests.pages.browser import CHROMIUM, fake_studio, tiny_clip, tiny_studio, waiting, watched


@pytest.fixture(scope="package")  # as long as it lives no event loop can be run, which tests elsewhere do
def browser():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: set CHROMIUM to one")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        waiting.clear()
        chromium.close()


@pytest.fixture(scope="package")
def axe() -> str:
    axe_playwright = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    return axe_playwright.AXE_SCRIPT


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    """A served gallery: its address, the ids of its clips and their folder."""
    folder = tmp_path_factory.mktemp("gallery")
    ids = galleries.fill(folder / "data")
    with fake_studio(folder, 0.01) as address:
        yield address, ids, folder / "data" / "clips"


@pytest.fixture(scope="package")
def tiny(tmp_path_factory, tiny_bundle):
    """A studio over real networks at toy size, with a clip: its address, the clip's id, its data folder."""
    folder = tmp_path_factory.mktemp("tiny")
    clip = tiny_clip(folder, tiny_bundle)
    with tiny_studio(folder, tiny_bundle) as address:
        yield address, clip, folder / "data"
