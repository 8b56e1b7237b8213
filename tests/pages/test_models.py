"""The published weights as a person gets them: a real Chromium, a real server, a hub and networks at toy size."""

import threading

import pytest

from app.config import StudioConfig
from app.studio import Studio
from tests.app.models.hubs import published_hub
from tests.pages.browser import PATIENCE, button, free_port, generate, serve, stop, watched
from tests.pages.test_accessibility import faults

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def hub(tmp_path):
    """Gives files away piece by piece."""
    hub = published_hub(tmp_path / "handed out")
    hub.pieces = threading.Semaphore(0)
    yield hub
    hub.pieces.release(10**6)
    hub.close()


@pytest.fixture
def start(tmp_path, hub, monkeypatch):
    """Starts the studio on one data folder, again after it was stopped; its address."""
    monkeypatch.setenv("LAVIE_HUB_ENDPOINT", hub.address)
    running = []

    def make() -> str:
        port = free_port()
        command = ["-m", "tests.servers.weights", "--data", tmp_path / "data", "--port", port, "--device", "cpu"]
        while running:
            stop(running.pop())
        with open(tmp_path / "log", "a") as log:
            running.append(serve(command, port, log))
        return f"http://127.0.0.1:{port}"

    yield make
    while running:
        stop(running.pop())
    assert "Traceback" not in (tmp_path / "log").read_text()


def settings(page):
    page.get_by_role("tab", name="Settings").click()
    page.get_by_text("Nano", exact=True).first.wait_for()


def model(page, name):
    return page.locator(".lv-models li").filter(has_text=name)


@pytest.mark.slow
def test_from_the_button_to_a_video_without_a_restart(browser, hub, start, tmp_path, axe):
    address = start()
    with watched(browser, address) as page:
        settings(page)
        expect(model(page, "Nano")).to_contain_text("Makes new videos")
        button(page, "Download the published weights").click()
        hub.pieces.release(2)
        expect(page.locator("#lv-models-live")).to_contain_text("lavie_base.pt")
        expect(page.get_by_role("progressbar", name="Download")).to_be_visible()
        assert faults(page, axe) == []
        button(page, "Pause").click()
        hub.pieces.release(1)
        page.get_by_text("Stopped. What has come stays.").wait_for()
        expect(page.get_by_role("progressbar", name="Download")).to_have_count(0)
    came = len(hub.requests)
    address = start()  # a restart: what came is on the disk
    with watched(browser, address) as page:
        settings(page)
        button(page, "Resume the download").click()
        hub.pieces.release(1)
        button(page, "Pause").wait_for()
    hub.pieces.release(10**6)  # while no page is open
    assert hub.requests[came:]
    with watched(browser, address) as page:
        settings(page)
        model(page, "Tiny").get_by_role("button", name="Use it").click()
        expect(model(page, "Tiny")).to_contain_text("Makes new videos")
        expect(page.locator("#lv-settings")).to_contain_text("Tiny")
        page.get_by_text("Downloaded files").click()
        page.get_by_text("checksum compared").first.wait_for()
        assert faults(page, axe) == []
        page.get_by_role("tab", name="Create").click()
        generate(page, "a red", "7")
        page.locator("#lv-screen video").wait_for()
    studio = Studio(StudioConfig(data=tmp_path / "data"))
    recipe = studio.gallery.newest().recipe
    studio.close()
    assert (recipe.model, recipe.provenance["bundle"]) == ("official", "Tiny")
    assert "bytes=" in "".join(part for _, part in hub.requests[came:])


def test_what_goes_wrong_is_told_in_its_place(browser, hub, start):
    hub.gated = {"YaohuiW/LaVie"}
    hub.pieces.release(10**6)
    with watched(browser, start()) as page:
        settings(page)
        button(page, "Download the published weights").click()
        expect(page.locator("#lv-models [role=alert]")).to_contain_text("licence of YaohuiW/LaVie must be accepted")
        hub.gated = set()
        button(page, "Resume the download").click()
        page.get_by_text("The weights are here and can be used.").wait_for()
        expect(model(page, "Nano")).to_contain_text("Makes new videos")
