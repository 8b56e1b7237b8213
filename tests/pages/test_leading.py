"""From one picture to another as a person asks for it: a real Chromium, a real server, real networks at toy size."""

import pytest

from tests.pages.browser import PATIENCE, button, unfold, watched
from tests.pages.galleries import gallery
from tests.pages.test_long_videos import opened, picture

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE)


def put(page, *files):
    kinds = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    page.locator("#lv-lead-files input[type=file]").set_input_files(kinds)
    for name, _ in files:
        page.locator("#lv-lead-files").get_by_text(name.partition(".")[0]).first.wait_for()


def test_pictures_become_a_video_and_what_is_wrong_is_said(browser, tiny):
    with watched(browser, tiny[0]) as page:
        opened(page)
        unfold(page, "Lead from one to another", page.get_by_label("What happens in between"))
        go, answer = button(page, "Make one video of them"), page.locator("#lv-lead-answer")
        go.click()
        answer.get_by_text("the number of clips and files to join is 0: give 2 to 1000").wait_for()
        put(page, ("first.png", picture(90, 160)), ("second.png", picture(160, 90)))
        go.click()
        answer.get_by_role("alert").get_by_text("nothing says what leads to second.png: give a prompt").wait_for()
        page.get_by_label("What happens in between").fill("a red star becomes a <b>blue</b> one")
        frames = page.get_by_label("New frames between two")
        expect(frames).to_have_value("2")
        frames.fill("3")
        go.click()
        answer.get_by_text("a transition of 3 frames cannot be made at once: give 1 to 2").wait_for()
        frames.fill("2")
        go.click()
        answer.get_by_text("first.png: The picture was taken as one frame.").wait_for()
        assert answer.locator("b").count() == 0
        page.locator('[data-live="picture"] video').wait_for(state="attached")  # it is made
        gallery(page)
        page.locator(".lv-card", has_text="a red star becomes").locator(".lv-shot").click()
        said = page.get_by_text("a red star becomes a <b>blue</b> one").locator("visible=true")
        said.first.wait_for()


def test_a_file_that_is_no_picture_is_told_by_its_name(browser, tiny):
    with watched(browser, tiny[0], locale="de-DE") as page:
        page.get_by_role("tab", name="Langes Video").click()
        unfold(page, "Vom einen zum anderen", page.get_by_label("Was dazwischen geschieht"))
        put(page, ("first.png", picture(32, 16)), ("wrong.png", b"not a picture at all"))
        page.get_by_label("Was dazwischen geschieht").fill("a red star")
        button(page, "Ein Video daraus machen").click()
        page.locator("#lv-lead-answer").get_by_role("alert").get_by_text("wrong.png is a text").wait_for()
        assert "/" not in page.locator("#lv-lead-answer").inner_text()
