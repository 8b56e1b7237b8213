"""The gallery's grid as a person meets it: a real Chromium against a real server over some clips."""

import re
import urllib.error
import urllib.parse
import urllib.request

import pytest

from app.recipes.recipe import Recipe
from tests.pages.browser import button, settled, watched
from tests.pages.galleries import HOSTILE, card, filters, found, gallery, opened, search


@pytest.fixture
def page(browser, made):
    """A fresh browser on the gallery."""
    with watched(browser, made[0]) as page:
        gallery(page)
        yield page


def test_pages_follow_each_other(page, made):
    found(page, re.compile(r"clips · page 1"))
    assert page.locator(".lv-card").count() == 24
    assert button(page, "Previous").first.is_disabled()
    button(page, "Next").first.click()
    found(page, "page 2")
    card(page, made[1][0]).wait_for()
    assert 1 <= page.locator(".lv-card").count() < 24
    assert page.evaluate("document.activeElement.className") == "lv-found"  # one reads on from the top
    button(page, "Previous").first.click()
    found(page, "page 1")


def test_searching_while_typing(page):
    search(page, "blue squ")
    found(page, "1 clip")
    assert page.locator(".lv-name").inner_text() == "a blue square"
    search(page, '"blue -( squirrel')
    page.get_by_text("No clip fits.").wait_for()
    button(page, "Show all").click()
    found(page, "page 1")
    assert page.get_by_label("Search", exact=True).input_value() == ""


def test_text_from_outside_is_shown_as_text(page, made):
    search(page, "onerror")
    found(page, "1 clip")
    assert page.locator(".lv-name").inner_text() == HOSTILE
    card(page, made[1][0]).locator(".lv-shot").click()
    opened(page, made[1][0]).get_by_role("heading", name=HOSTILE).wait_for()
    page.get_by_text("The whole recipe as JSON").click()
    assert Recipe.from_json(page.locator(".lv-json").inner_text()).request.prompt == HOSTILE


def test_keys_rate_and_reject(page, made):
    clip, neighbour = made[1][20], made[1][19]
    card(page, clip).focus()
    page.keyboard.press("4")
    card(page, clip).get_by_role("group", name="Rating: 4 of 5").wait_for()
    page.keyboard.press("f")
    card(page, clip).locator('[data-key="f"][aria-pressed="true"]').wait_for()
    page.keyboard.press("0")
    card(page, clip).get_by_role("group", name="No rating").wait_for()
    page.keyboard.press("x")
    page.get_by_text("The clip is in the trash.").wait_for()
    assert card(page, clip).count() == 0
    assert page.evaluate("document.activeElement.dataset.id") == neighbour  # the next one is in its place
    button(page, "Undo").click()
    card(page, clip).wait_for()


def test_keys_move_play_and_open(page, made):
    first, second = (page.locator(".lv-card").nth(place) for place in (0, 1))
    first.focus()
    page.keyboard.press("ArrowRight")
    clip = second.get_attribute("data-id")
    assert page.evaluate("document.activeElement.dataset.id") == clip
    picture = second.locator("img")
    assert picture.get_attribute("src") == f"studio/media/{clip}.preview.webp"  # plays while it has the focus
    page.keyboard.press(" ")
    assert picture.get_attribute("src") == f"studio/media/{clip}.poster.webp"
    page.keyboard.press(" ")
    assert picture.get_attribute("src") == f"studio/media/{clip}.preview.webp"
    page.keyboard.press("Enter")
    opened(page, clip)
    page.wait_for_function("document.activeElement.dataset.act === 'close'")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.activeElement.dataset.id === '{clip}'")  # where one was


def test_filters_and_mistakes_in_them(page, made):
    filters(page)
    page.get_by_label("Seed", exact=True).locator("visible=true").fill("1")
    page.keyboard.press("Enter")
    found(page, "1 clip")
    card(page, made[1][1]).wait_for()
    page.get_by_label("Made since", exact=True).fill("yesterday")
    page.keyboard.press("Tab")
    page.get_by_role("alert").get_by_text("write it as 2026-01-31").wait_for()
    page.get_by_label("Made since", exact=True).fill("")
    page.get_by_label("Seed", exact=True).locator("visible=true").fill("")
    page.get_by_label("Stages").locator("visible=true").click()
    page.get_by_role("option", name="Base + Smooth").first.click()
    card(page, made[1][1]).wait_for()
    assert card(page, made[1][20]).count() == 0


def test_a_search_is_kept_and_used_again(page):
    search(page, "square")
    found(page, re.compile("^1 clip$"))
    filters(page)
    page.get_by_label("Name of this search").fill("squares <b>")
    page.locator("#lv-filters").get_by_role("button", name="Save", exact=True).click()
    page.wait_for_function(
        "[...document.querySelectorAll('input')].some((i) => i.value === 'squares <b>' && i.role !== '')"
    )
    page.reload()
    gallery(page)
    filters(page)
    page.get_by_label("Saved search", exact=True).click()
    page.get_by_role("option", name="squares <b>").click()
    found(page, re.compile("^1 clip$"))
    assert page.get_by_label("Search", exact=True).input_value() == "square"
    page.locator("#lv-filters").get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_function("![...document.querySelectorAll('input')].some((i) => i.value === 'squares <b>')")
    page.get_by_label("Saved search", exact=True).click()
    assert page.get_by_role("option", name="squares <b>").count() == 0


def test_stacks_put_seeds_together(page):
    page.get_by_role("checkbox", name="Stacks").check()
    page.get_by_text(re.compile(r"^×2\d$")).wait_for()
    page.get_by_role("checkbox", name="Stacks").uncheck()
    page.wait_for_function("document.querySelectorAll('.lv-card').length === 24")


def test_the_trash_gives_back_and_forgets(page, made):
    kept, purged = made[1][17], made[1][16]
    for clip in (kept, purged):
        card(page, clip).get_by_role("button", name="To the trash").click()
        card(page, clip).wait_for(state="detached")
    page.get_by_role("checkbox", name="Trash").check()
    card(page, kept).get_by_role("button", name="Restore").click()
    card(page, kept).wait_for(state="detached")
    card(page, purged).get_by_role("button", name="Delete for good").click()
    page.get_by_text("The trash is empty.").wait_for()
    assert not list(made[2].glob(f"{purged}*"))
    page.get_by_role("checkbox", name="Trash").uncheck()
    card(page, kept).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_page(browser, made, width, scheme):
    size = {"width": width, "height": 900}
    with watched(browser, made[0], viewport=size, color_scheme=scheme) as page:
        gallery(page)
        wide = "document.documentElement.scrollWidth"
        assert page.evaluate(wide) == width
        filters(page)
        assert page.evaluate(wide) == width
        clip = page.locator(".lv-card").first.get_attribute("data-id")
        page.locator(".lv-shot").first.click()
        opened(page, clip)
        assert page.evaluate(wide) == width


def test_german_words(browser, made):
    with watched(browser, made[0], locale="de-DE") as page:
        page.get_by_role("tab", name="Galerie").click()
        page.locator(".lv-found").get_by_text("Clips · Seite 1").wait_for()
        settled(page.get_by_label("Suchen", exact=True))
        page.get_by_label("Suchen", exact=True).fill("nichts")
        page.get_by_text("Kein Clip passt.").wait_for()


def test_media_answers_ids_only(made):
    for name in ("../../etc/passwd", "%2e%2e%2fstudio.db", f"{made[1][0]}.json", "a" * 5000 + ".mp4"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{made[0]}/studio/media/{urllib.parse.quote(name)}")
        assert caught.value.code == 404
        caught.value.close()
