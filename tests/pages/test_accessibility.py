"""axe-core (https://github.com/dequelabs/axe-core) finds no serious fault on any tab, light or dark, wide or narrow."""

from __future__ import annotations

import json
from itertools import product

import pytest

from app.config import StudioConfig
from app.studio import Studio
from lavie.request import Interpolation, Request
from tests.fakes import FakeCascade
from tests.pages.browser import fake_studio, watched

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
GRAVE = ("serious", "critical")
COLOURS_ARE_THERE = """Promise.all(document.getAnimations()
    .filter((one) => one.effect.getComputedTiming().iterations !== Infinity)
    .map((one) => one.finished.catch(() => null))).then(() => null)"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A studio with clips, one of them unlike the others, and jobs that wait; its address."""
    folder = tmp_path_factory.mktemp("accessible")
    studio = Studio(StudioConfig(data=folder / "data"), load=lambda config: FakeCascade(steps=1))
    asked = [Request("a red star", seed=seed) for seed in (1, 2)]
    asked.append(Request("a blue heart", seed=3, interpolation=Interpolation()))
    ids = [studio.submit(request) for request in asked]
    for clip_id in ids:
        assert [snapshot.state for snapshot in studio.follow(clip_id)][-1] == "done"
    studio.gallery.rate(ids[0], 4)
    studio.gallery.tag(ids[0], "stars")
    studio.queue.pause_queue()
    studio.submit(Request("a green circle", seed=4), parent=ids[0])
    studio.submit(Request("a white square"))
    studio.close()
    with fake_studio(folder, 0.01) as address:
        yield address


def open_tab(page, name: str) -> None:
    """Where there is no room for it, the tab is in gradio's menu: gradio finds out after it has shown all tabs."""
    tab, menu = page.get_by_role("tab", name=name), page.locator(".overflow-menu > button:visible")
    while True:
        tab.or_(menu).locator("visible=true").first.wait_for()
        try:
            if tab.count() and tab.first.is_visible():
                return tab.first.click(timeout=2000)
            menu.click(timeout=2000)
            return page.locator(".overflow-dropdown button").get_by_text(name).click(timeout=2000)
        except sync_api.TimeoutError:  # it went into the menu, or came out of it
            continue


def create(page) -> None:
    page.get_by_text("2 waiting").first.wait_for()
    for name in ("Advanced", "Presets"):
        page.get_by_role("button", name=name).click()
    page.get_by_label("Prompt", exact=True).fill("a red flurb")


def gallery(page) -> None:
    open_tab(page, "Gallery")
    page.locator(".lv-card").first.wait_for()


def clip(page) -> None:
    gallery(page)
    page.locator(".lv-card .lv-shot").first.click()
    page.locator("#lv-player video").wait_for()


def settings(page) -> None:
    open_tab(page, "Settings")
    page.locator(".lv-panel").last.wait_for()


VIEWS = {"create": create, "gallery": gallery, "clip": clip, "settings": settings}


def faults(page, axe: str) -> list[str]:
    """Grave faults, one line each; gradio's parts of the page have none either."""
    page.evaluate(COLOURS_ARE_THERE)
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} — {json.dumps(node['failureSummary'])[:300]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("size", "theme"), [*product(SIZES, ("light", "dark"))])
def test_no_grave_fault(browser, made, axe, size, theme):
    with watched(browser, made, viewport=SIZES[size], color_scheme=theme) as page:
        page.wait_for_function("document.body.classList.contains('dark') === " + json.dumps(theme == "dark"))
        for view, show in VIEWS.items():
            show(page)
            found = faults(page, axe)
            assert found == [], "\n".join([view, *found])


def test_a_fault_would_be_found(browser, made, axe):
    with watched(browser, made) as page:
        page.locator("#lv-generate").wait_for()
        page.evaluate("document.querySelector('#lv-answer').parentElement.append(document.createElement('button'))")
        assert [fault.split()[0] for fault in faults(page, axe)] == ["button-name"]


def test_the_page_says_its_language(browser, made):
    for locale, language in (("en-GB", "en"), ("de-CH", "de"), ("fr-FR", "en")):
        with watched(browser, made, locale=locale) as page:
            page.wait_for_function(f"document.documentElement.lang === '{language}'")
