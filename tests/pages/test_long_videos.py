"""Long videos as a person makes them: a real Chromium, a real server, real networks at toy size."""

import io
import re

import pytest
from PIL import Image

from app.storage.database import Database
from tests.pages.browser import PATIENCE, button, unfold, watched

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def page(browser, tiny):
    """A fresh browser on the tab, with a new video of three segments."""
    with watched(browser, tiny[0]) as page:
        opened(page)
        button(page, "New").click()
        expect(page.locator(".lv-segment")).to_have_count(4)
        page.get_by_role("button", name="Remove segment 4").click()
        expect(page.locator(".lv-segment")).to_have_count(3)
        yield page


def opened(page):
    page.get_by_role("tab", name="Long video").click()
    page.locator(".lv-projects").wait_for()


def prompt(page, number):
    return page.get_by_role("textbox", name=f"Prompt of segment {number}", exact=True)


def write(field, text):
    field.fill(text)
    field.press("Tab")


def states(page, *words):
    expect(page.locator(".lv-stand")).to_have_text(list(words))


def render(page, words):
    button(page, words).click()
    states(page, *["made"] * page.locator(".lv-segment").count())
    button(page, "Render again").wait_for()


def made_by_job(folder) -> list[int]:
    """Of each job with a plan, in order: how many segments it has made itself."""
    database = Database(folder)
    rows = database.query(
        """SELECT (SELECT count(*) FROM timings WHERE job = jobs.id AND stage = 'base') AS number FROM jobs
           WHERE json_extract(job, '$.plan') IS NOT NULL AND state = 'done' ORDER BY created"""
    )
    database.close()
    return [row["number"] for row in rows]


def picture(width, height) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(file, "PNG")
    return file.getvalue()


def upload(page, name, content):
    page.get_by_role("button", name="Begin with a video or a picture").click()
    kind = {"name": name, "mimeType": "image/png", "buffer": content}
    page.locator("#lv-long-upload input[type=file]").set_input_files(kind)


def test_only_what_has_changed_is_made_and_a_reload_shows_the_same(page, tiny):
    before = len(made_by_job(tiny[2]))
    states(page, *["to be made"] * 3)
    write(page.get_by_label("Title"), "Three <b>stars</b>")
    render(page, "Render")
    page.locator("video[data-player]").wait_for()
    page.locator(".lv-join").nth(1).wait_for()
    assert page.locator(".lv-lane").count() == 5
    write(prompt(page, 2), "a blue circle & a <i>square</i>\u00a0")
    states(page, "made", "to be made", "to be made")
    page.reload()
    opened(page)
    states(page, "made", "to be made", "to be made")
    assert prompt(page, 2).input_value() == "a blue circle & a <i>square</i>\u00a0"
    assert page.get_by_label("Title").input_value() == "Three <b>stars</b>"
    render(page, "Render what has changed: 2 segments")
    assert made_by_job(tiny[2])[before:] == [3, 2]
    page.get_by_label("Extend by").or_(page.get_by_label("How many segments more")).first.wait_for()
    page.get_by_label("How many segments more").select_option("1")
    button(page, "Extend by").click()
    states(page, "made", "made", "made", "to be made")
    render(page, "Render what has changed: 1 segments")
    assert made_by_job(tiny[2])[before:] == [3, 2, 1]


def test_a_clip_of_the_gallery_is_extended(browser, tiny):
    with watched(browser, tiny[0]) as page:
        page.get_by_role("tab", name="Gallery").click()
        page.locator(f'.lv-card[data-id="{tiny[1]}"] .lv-shot').click()
        button(page, "Extend").click()
        page.get_by_text("Goes on from 4 frames of a clip.").wait_for()
        assert prompt(page, 1).input_value() == "a red star"
        page.locator(".lv-begins").get_by_role("button", name="Open").click()
        page.locator(f'#lv-player [data-focus="{tiny[1]}"]').wait_for()
        page.reload()
        opened(page)
        page.get_by_text("Goes on from 4 frames of a clip.").wait_for()


def test_a_picture_is_shown_as_the_model_will_see_it_and_gone_on_from(page):
    upload(page, "tall.png", picture(90, 160))
    shown = page.locator(".lv-fits img")
    expect(shown).to_have_count(2)
    sizes = shown.evaluate_all("all => all.map((one) => [one.naturalWidth, one.naturalHeight])")
    assert sizes == [[32, 16], [32, 16]]
    assert shown.nth(0).get_attribute("src") != shown.nth(1).get_attribute("src")
    button(page, "Begin here, with bars").click()
    page.get_by_text("Goes on from 1 frames of tall.png.").wait_for()
    page.get_by_text("Black bars were added").wait_for()
    expect(page.locator(".lv-block-start")).to_have_count(1)


def test_a_file_that_is_no_picture_is_told_by_its_name(page):
    upload(page, "tall.png", b"not a picture at all")
    page.locator("#lv-long-source").get_by_text("tall.png is a text").wait_for()
    expect(page.locator(".lv-segment")).to_have_count(3)


def test_a_script_is_pasted_and_taken_back(page):
    unfold(page, "Paste a script", page.get_by_label("Script"))
    page.get_by_label("Script").fill("0s-0.6s: a red star\n0.6s-1.2s: a blue <b>circle</b>")
    button(page, "Replace all segments").click()
    page.get_by_text("Times were moved to the borders of segments:").wait_for()
    page.get_by_text("line 1: 0–0.6 s became").wait_for()
    first = page.locator(".lv-segment").count()
    assert prompt(page, first).input_value() == "a blue <b>circle</b>"
    button(page, "Undo").click()
    expect(page.locator(".lv-segment")).to_have_count(3)
    page.get_by_label("Script").fill(" \n")
    button(page, "New video").click()
    page.get_by_text("the script is empty: write one line for each segment").wait_for()
    page.get_by_label("Script").fill("one\ntwo")
    button(page, "New video").click()
    expect(page.locator(".lv-segment")).to_have_count(2)


def test_what_is_locked_stays(page):
    render(page, "Render")
    page.get_by_role("button", name="Lock segment 2: keep it as it is").click()
    expect(prompt(page, 2)).to_have_attribute("readonly", "")
    was = prompt(page, 1).input_value()
    write(prompt(page, 1), "something else")
    page.get_by_role("alert").get_by_text("segment 2 is locked").wait_for()
    expect(prompt(page, 1)).to_have_value(was)  # what is not kept is not shown
    write(prompt(page, 3), "something else")
    states(page, "made", "made", "to be made")


def test_seeds_are_tried_and_one_is_taken(page, tiny):
    page.get_by_label("How many seeds to try for segment 2").select_option("2")
    button(page, "Try seeds").nth(1).click()
    figures = page.locator(".lv-candidates figure")
    expect(figures).to_have_count(2)
    loaded = "all => all.every((one) => one.complete && one.naturalWidth)"
    page.wait_for_function(f"({loaded})([...document.querySelectorAll('.lv-candidates img')])")
    seed = figures.nth(1).locator("button").get_attribute("data-seed")
    figures.nth(1).locator("button").click()
    expect(page.get_by_label("Seed of segment 2", exact=True)).to_have_value(seed)
    states(page, "made", "made", "to be made")  # what was tried is there already
    assert page.request.get(f"{tiny[0]}/studio/candidate/..%2F..%2Fstudio.db/x.webp").status == 404
    button(page, "Put the candidates away").click()
    expect(figures).to_have_count(0)


def test_another_page_follows_and_takes_nothing_out_of_ones_hands(browser, tiny, page):
    with watched(browser, tiny[0]) as other:
        opened(other)
        expect(other.locator(".lv-segment")).to_have_count(3)
        prompt(other, 1).fill("half a sentence")
        write(prompt(page, 2), "from elsewhere")
        expect(prompt(other, 2)).to_have_value("from elsewhere")
        expect(prompt(other, 1)).to_have_value("half a sentence")
        prompt(other, 1).press("Enter")  # a prompt is one line
        expect(prompt(page, 1)).to_have_value("half a sentence")
        page.get_by_role("button", name="New segment above segment 1").click()
        expect(prompt(other, 2)).to_have_value("half a sentence")
        assert page.evaluate("document.activeElement.dataset.n") == "0"


def test_the_timeline_leads_to_the_row_and_seeks_the_player(page):
    render(page, "Render")
    page.wait_for_function("document.querySelector('video[data-player]')?.duration > 0")
    page.locator(".lv-block").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#lv-segment-2")).to_be_focused()
    expect(page.locator(".lv-segment[aria-current]")).to_have_count(1)
    at = page.evaluate(
        "(({currentTime, duration}) => currentTime / duration)(document.querySelector('video[data-player]'))"
    )
    assert 0.5 < at < 0.9


def test_settings_are_kept(page):
    page.get_by_label("Smooth").locator("visible=true").check()
    page.locator("#lv-long-advanced-fold button").first.click()
    page.get_by_label("How a segment goes on").select_option("repaint")
    write(page.get_by_label("Steps", exact=True).locator("visible=true"), "1")
    write(page.get_by_label("Ramp"), "99")
    page.get_by_role("alert").get_by_text("ramp is 99: give a whole number from 0 to 64").wait_for()
    expect(page.get_by_label("Ramp")).to_have_value("12")
    page.get_by_label("Anchoring").check()
    page.get_by_text("fitted to the frames before again and again").wait_for()
    page.reload()
    opened(page)
    expect(page.get_by_label("Smooth").locator("visible=true")).to_be_checked()
    page.locator("#lv-long-advanced-fold button").first.click()
    expect(page.get_by_label("How a segment goes on")).to_have_value("repaint")
    expect(page.get_by_label("Anchoring")).to_be_checked()


def test_videos_are_branched_chosen_and_deleted(page):
    count = page.get_by_label("Which long video").locator("option").count()
    write(page.get_by_label("Title"), "First")
    page.get_by_label("Which long video").locator("option").filter(has_text="First").wait_for(state="attached")
    button(page, "Duplicate").click()
    expect(page.get_by_label("Which long video").locator("option")).to_have_count(count + 1)
    write(page.get_by_label("Title"), "Second")
    write(prompt(page, 1), "of the second")
    choose = page.get_by_label("Which long video")
    choose.locator("option").filter(has_text="Second").wait_for(state="attached")
    first = choose.locator("option").filter(has_text=re.compile("^First")).first
    choose.select_option(first.get_attribute("value"))
    expect(page.get_by_label("Title")).to_have_value("First")
    expect(prompt(page, 1)).not_to_have_value("of the second")
    button(page, "Delete").locator("visible=true").click()
    expect(choose.locator("option")).to_have_count(count)


def test_many_segments_scroll_nothing_but_the_timeline(browser, tiny):
    with watched(browser, tiny[0], viewport={"width": 390, "height": 844}, locale="de-DE") as page:
        page.get_by_role("tab", name="Langes Video").click()
        button(page, "Neu").click()
        expect(page.locator(".lv-block")).to_have_count(4)
        page.get_by_label("Wie viele Abschnitte mehr").select_option("16")
        for _ in range(3):
            count = page.locator(".lv-block").count()
            button(page, "Verlängern um").click()
            expect(page.locator(".lv-block")).to_have_count(count + 16)
        expect(page.locator(".lv-segment")).to_have_count(40)  # of the first page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        button(page, "Weiter").click()
        expect(page.locator(".lv-segment")).to_have_count(12)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
