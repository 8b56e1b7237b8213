"""One clip of the gallery, or some of them, as a person meets them: a real Chromium against a real server."""

import pytest

from app.media import probe, read_recipe
from app.recipes.recipe import Recipe
from tests.pages.browser import button, generate, watched
from tests.pages.galleries import card, found, gallery, opened, search


@pytest.fixture
def page(browser, made):
    """A fresh browser on the gallery."""
    with watched(browser, made[0]) as page:
        gallery(page)
        yield page


def test_tags_and_notes_stay(page, made):
    clip = made[1][15]
    card(page, clip).locator(".lv-shot").click()
    about = opened(page, clip)
    page.get_by_label("Tags").locator("visible=true").fill("<b>loud</b>")
    page.keyboard.press("Enter")
    page.get_by_label("Notes").fill("a <i>note</i>")
    page.keyboard.press("Tab")
    about.get_by_role("button", name="Rate 5 of 5").click()
    about.get_by_role("group", name="Rating: 5 of 5").wait_for()
    page.reload()
    gallery(page)
    search(page, "loud note")
    found(page, "1 clip")
    card(page, clip).locator(".lv-shot").click()
    opened(page, clip)
    assert page.get_by_label("Notes").input_value() == "a <i>note</i>"
    page.locator("#lv-tags").get_by_text("<b>loud</b>").wait_for()


def test_made_again_it_is_the_same(page, made):
    clip = made[1][14]
    card(page, clip).locator(".lv-shot").click()
    opened(page, clip)
    button(page, "Make again exactly").click()
    page.locator("#lv-about").get_by_text("Made again: bit-identical.").wait_for()


def test_a_finished_draft_appears_by_itself(browser, page, made):
    clip = made[1][13]
    with watched(browser, made[0]) as other:
        gallery(other)
        newest = other.locator(".lv-card").first.get_attribute("data-id")
        other.locator(".lv-card").first.focus()
        card(page, clip).locator(".lv-shot").click()
        opened(page, clip)
        button(page, "Finish: smooth").click()
        page.locator("#lv-about").get_by_role("button", name="Open").wait_for()
        page.locator("#lv-family").get_by_text("Base + Smooth").wait_for()
        other.locator(".lv-card").first.get_by_text("Base + Smooth").wait_for()
        assert other.evaluate("document.activeElement.dataset.id") == newest  # the focus stays with its clip
    page.locator("#lv-about").get_by_role("button", name="Open").click()
    page.locator("#lv-made").get_by_text("Changed from the clip it was made from").wait_for()
    page.locator("#lv-family button").first.click()
    opened(page, clip)


def test_everything_goes_into_the_form(page, made):
    clip = made[1][1]
    search(page, "blue")
    card(page, clip).locator(".lv-shot").click()
    opened(page, clip)
    button(page, "Use everything").click()
    page.get_by_label("Prompt", exact=True).wait_for()
    assert page.get_by_label("Prompt", exact=True).input_value() == "a blue square"
    assert page.get_by_label("Seed", exact=True).first.input_value() == "1"
    assert page.get_by_label("Smooth").first.is_checked()
    page.get_by_label("Prompt", exact=True).fill("mine")
    page.get_by_role("tab", name="Gallery").click()
    button(page, "Use seed").click()
    assert page.get_by_label("Prompt", exact=True).input_value() == "mine"


def test_what_was_just_made_is_shown_in_the_gallery(page):
    page.get_by_role("tab", name="Create").click()
    generate(page, "a new star", "4242")
    page.locator("#lv-screen").get_by_text("Seed 4242 ·").wait_for()
    button(page, "Show in the gallery").click()
    page.locator("#lv-about").get_by_role("heading", name="a new star").wait_for()
    button(page, "Remix").click()
    page.locator("#lv-about").get_by_role("button", name="Open").wait_for()
    page.locator("#lv-about").get_by_role("button", name="To the trash").click()
    page.locator("#lv-about").get_by_text("This clip is in the trash.").wait_for()
    page.locator("#lv-about").get_by_role("button", name="Restore").click()
    button(page, "Finish: smooth").wait_for()


def test_clips_run_side_by_side(page, made):
    pair = made[1][11], made[1][10]
    for clip in pair:
        card(page, clip).focus()
        page.keyboard.press("c")
        card(page, clip).locator('[data-key="c"][aria-pressed="true"]').wait_for()
    button(page, "Compare").click()
    page.locator("#lv-compare video").nth(1).wait_for()
    assert page.locator("#lv-compare tr", has_text="seed").inner_text().split() == ["seed", "11", "10"]
    ready = "[...document.querySelectorAll('#lv-compare video')].every((v) => v.readyState >= 2)"
    page.wait_for_function(ready)
    page.get_by_label("Place in all clips").fill("0.5")
    half = "Math.abs(video.currentTime - video.duration / 2) < 0.01"
    page.wait_for_function(f"[...document.querySelectorAll('#lv-compare video')].every((video) => {half})")
    page.locator("#lv-compare figure").first.get_by_role("button", name="To the trash").click()
    page.get_by_text("Choose two to four clips").wait_for()
    button(page, "Back to all clips").locator("visible=true").click()
    button(page, "Undo").click()
    card(page, pair[0]).wait_for()


def test_another_format_is_saved(page, made, tmp_path):
    clip = made[1][12]
    card(page, clip).locator(".lv-shot").click()
    opened(page, clip)
    with page.expect_download() as mp4:
        page.get_by_role("link", name="Download the mp4").click()
    assert mp4.value.suggested_filename == f"{clip}.mp4"
    button(page, "Convert").click()
    page.get_by_role("button", name=f"Save {clip}.webm").wait_for()
    with page.expect_download() as webm:
        page.get_by_role("button", name=f"Save {clip}.webm").click()
    webm.value.save_as(tmp_path / "a.webm")
    assert probe(tmp_path / "a.webm").frames == 4
    assert Recipe.from_json(read_recipe(tmp_path / "a.webm")).request.seed == 12
    page.get_by_label("Clean copy").check()
    page.get_by_role("button", name=f"Save {clip}.webm").wait_for(state="hidden")


def test_a_file_says_how_it_was_made(page, made, tmp_path):
    _, ids, folder = made
    page.get_by_role("button", name="A file that was made here").click()
    chooser = page.locator("#lv-upload input[type=file]")
    whole = (folder / f"{ids[1]}.mp4").read_bytes()
    for name, content, words in (
        ("half.mp4", whole[:100], "half.mp4 cannot be read as a video"),
        ("page.mp4", b"<script>alert(1)</script>", "page.mp4 cannot be read as a video"),
        ("none.mp4", b"", "none.mp4 is empty"),
    ):
        chooser.set_input_files({"name": name, "mimeType": "video/mp4", "buffer": content})
        page.locator("#lv-upload").get_by_role("alert").get_by_text(words).wait_for()
    chooser.set_input_files({"name": "mine.mp4", "mimeType": "video/mp4", "buffer": whole})
    page.locator("#lv-upload").get_by_text("a blue square").first.wait_for()
    page.locator("#lv-upload").get_by_role("button", name="Use everything").click()
    page.wait_for_function("document.querySelector('#lv-prompt textarea').value === 'a blue square'")


def test_what_is_gone_meanwhile_is_told_in_its_place(browser, page, made):
    clip, hostile = made[1][18], "../../etc/passwd"
    with watched(browser, made[0]) as other:
        gallery(other)
        card(page, clip).locator(".lv-shot").click()
        about = opened(page, clip)
        card(other, clip).get_by_role("button", name="To the trash").click()
        other.get_by_text("The clip is in the trash.").wait_for()
        about.get_by_role("button", name="Rate 3 of 5").click()
        about.get_by_text("This clip is in the trash.").wait_for()
        other.get_by_role("checkbox", name="Trash").check()
        card(other, clip).get_by_role("button", name="Delete for good").click()
        other.get_by_text("The trash is empty.").wait_for()
        about.get_by_role("button", name="Rate 2 of 5").click()
        about.get_by_role("alert").get_by_text("there is no clip").wait_for()
        page.locator("#lv-details").get_by_role("button", name="Back to all clips").click()
    for act, words in (("key", "is none of ours"), ("show", "is none of ours")):
        first = page.locator(".lv-card").first
        first.wait_for()
        mark = first.locator('[data-act="show"]' if act == "show" else '[data-key="f"]')
        mark.evaluate("(element, id) => (element.dataset.id = id)", hostile)
        mark.click()
        page.get_by_role("alert").get_by_text(words).locator("visible=true").wait_for()
