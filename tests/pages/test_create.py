"""The first tab as a person meets it: a real Chromium against a real server."""

import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from app.config import ROOT
from app.media import probe
from tests.pages.browser import PATIENCE, button, fake_studio, free_port, generate, serve, stop, unfold, watched


def idle(page):
    """Let the queue run empty, whatever an earlier test left in it."""
    page.get_by_text("Nothing waits.").wait_for()
    page.wait_for_function("!document.querySelector('.lv-chip.lv-busy')")


def waiting(page):
    return page.locator(".lv-job")


@pytest.fixture
def page(page):
    idle(page)
    return page


def test_a_prompt_becomes_a_video(page, fake):
    generate(page, "a red star", seed="42", Smooth=True)
    page.get_by_role("progressbar", name="Base").wait_for()
    page.get_by_role("progressbar", name="Whole").wait_for()
    assert page.get_by_role("progressbar", name="Upscale ×4").count() == 0
    page.wait_for_function("document.querySelector('canvas[data-sprite]')?.width > 0")
    page.get_by_text("Seed 42 · 4 frames · 96 × 64").wait_for()
    source = page.locator("video").get_attribute("src")
    clip = fake[1] / source.rsplit("/", 1)[1]
    assert probe(clip).frames == 4
    assert page.request.get(f"{fake[0]}/{source}").body() == clip.read_bytes()
    page.wait_for_function("document.querySelector('video').readyState >= 2")  # the browser can play it


def test_the_preview_moves(page):
    generate(page, "endless star")
    page.wait_for_function("document.querySelector('canvas[data-sprite]')?.width > 0")
    look = "document.querySelector('canvas').toDataURL()"
    first = page.evaluate(look)
    page.wait_for_function(f"document.querySelector('canvas') && {look} !== {first!r}")
    page.locator("#lv-screen").get_by_role("button", name="Cancel").click()


def test_text_from_outside_is_shown_as_text(page):
    generate(page, "endless <img src=x onerror=alert(1)> & star")
    page.get_by_text("the word <b>flurb</b> is not known").wait_for()
    page.locator(".lv-prompt").get_by_text("endless <img src=x onerror=alert(1)> & star").first.wait_for()
    page.locator("#lv-screen").get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()


@pytest.mark.parametrize(
    ("prompt", "seed", "words"),
    [
        ("  ", "", "prompt is empty: say what the video should show"),
        ("a red star", "seven", "seed is 'seven': give a whole number, or leave it empty"),
        ("a red star", str(2**53), "seed is 9007199254740992: give a whole number from 0 to 9007199254740991"),
        ("a" * 100_000, "", "prompt has 100000 characters: shorten it to 4000"),
        ("refused", "", "prompt is 'refused': say something else"),
    ],
)
def test_mistakes_are_told_in_words(page, prompt, seed, words):
    generate(page, prompt, seed)
    page.get_by_role("alert").get_by_text(words).wait_for()
    generate(page, "a red star", "5")
    page.get_by_text("Seed 5 ·").wait_for()


def test_the_right_to_left_and_emoji_prompt_arrives_whole(page, fake):
    generate(page, "نجمة حمراء 🌟 מסתובב", "6")
    page.get_by_text("Seed 6 ·").wait_for()
    page.locator("#lv-screen").get_by_text("نجمة حمراء 🌟 מסתובב").wait_for()


def test_cancelling_frees_the_device_for_the_next(page, fake):
    fake[1].mkdir(parents=True, exist_ok=True)
    before = set(fake[1].iterdir())
    generate(page, "endless star")
    page.locator("canvas[data-sprite]").wait_for()
    page.locator("#lv-screen").get_by_role("button", name="Cancel").click()
    generate(page, "a blue star", "8")
    page.get_by_text("Seed 8 ·").wait_for()
    assert len({path.stem for path in fake[1].glob("*.mp4")} - {path.stem for path in before}) == 1


def test_stopping_keeps_the_stages_that_are_finished(page, fake):
    generate(page, "endless star", "31", Smooth=True)
    button(page, "Stop and keep what is there").click()
    page.get_by_text("Seed 31 · 4 frames").wait_for()
    page.get_by_label("Smooth").uncheck()
    newest = max(fake[1].glob("*.json"), key=lambda path: path.stat().st_mtime)
    assert '"interpolation": null' in newest.read_text().replace('"interpolation":null', '"interpolation": null')


def test_several_seeds_wait_in_line_and_can_be_changed(page):
    button(page, "Pause the queue").click()
    page.get_by_text("The queue is paused").wait_for()
    page.get_by_label("Videos").fill("3")
    generate(page, "a red star", "100")
    page.get_by_label("Videos").fill("1")
    page.get_by_text("3 videos are in the queue.").wait_for()
    for place in range(3):
        waiting(page).nth(place).get_by_text(f"Base · Seed {100 + place}").wait_for()
    waiting(page).nth(2).get_by_role("button", name="Next").click()
    page.locator(".lv-job:first-child", has_text="Seed 102").wait_for()
    waiting(page).first.get_by_role("button", name="Down").click()
    page.locator(".lv-job:nth-child(2)", has_text="Seed 102").wait_for()
    waiting(page).nth(1).get_by_role("button", name="Change").click()
    page.get_by_text("You are changing a job of the queue.").wait_for()
    page.get_by_label("Prompt", exact=True).fill("a green heart")
    button(page, "Change it").click()
    page.locator(".lv-job:nth-child(2)", has_text="a green heart").wait_for()
    waiting(page).nth(1).get_by_role("button", name="Duplicate").click()
    page.locator(".lv-job:nth-child(4)", has_text="a green heart").wait_for()
    button(page, "Cancel all").click()
    page.get_by_text("Nothing waits.").wait_for()
    button(page, "Go on with the queue").click()
    button(page, "Pause the queue").wait_for()


def test_a_list_of_prompts(page):
    page.get_by_label("One video for each line of the prompt").check()
    generate(page, "a red star\n\na blue heart\na white circle")
    page.get_by_label("One video for each line of the prompt").uncheck()
    page.locator(".lv-job", has_text="a white circle").wait_for()
    page.locator(".lv-job", has_text="a blue heart").wait_for()


def test_the_keyboard_alone_makes_a_video(page):
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.type("endless star")
    page.keyboard.press("Control+Enter")
    page.locator("canvas[data-sprite]").wait_for()
    cancel = page.locator("#lv-screen").get_by_role("button", name="Cancel")
    for _ in range(80):
        page.keyboard.press("Tab")
        if cancel.evaluate("button => button === document.activeElement"):
            break
    else:
        raise AssertionError("no way leads to the button")
    page.keyboard.press("Enter")
    page.get_by_text("Cancelled.").wait_for()


def test_presets_are_kept(page, fake, browser):
    unfold(page, "Advanced", page.get_by_label("Steps", exact=True))
    page.get_by_label("Steps", exact=True).fill("7")
    unfold(page, "Presets", page.get_by_label("Name"))
    page.get_by_label("Name").fill("quick <b>")
    button(page, "Save").click()
    page.wait_for_function("[...document.querySelectorAll('#lv-presets input')].some(i => i.value === 'quick <b>')")
    with watched(browser, fake[0]) as other:
        unfold(other, "Presets", other.get_by_label("Name"))
        other.get_by_label("Preset", exact=True).click()
        other.get_by_role("option", name="quick <b>").click()
        unfold(other, "Advanced", other.get_by_label("Steps", exact=True))
        other.wait_for_function("[...document.querySelectorAll('#lv-advanced input')].some(i => i.value === '7')")


def test_closing_the_tab_loses_nothing(page, fake):
    generate(page, "a red star", seed="77")
    page.get_by_role("progressbar", name="Base").wait_for()
    again = page.context.new_page()
    page.close()
    again.goto(fake[0])
    again.get_by_text("Seed 77 ·").wait_for()
    assert again.locator("video").get_attribute("src").endswith(".mp4")


def test_two_browsers_see_the_same(page, fake, browser):
    with watched(browser, fake[0], viewport={"width": 390, "height": 800}, locale="de-DE") as other:
        button(other, "Erzeugen").wait_for()
        generate(page, "a red star", seed="78")
        other.get_by_role("progressbar", name="Basis").wait_for()
        other.get_by_text("Seed 78 ·").wait_for()
        page.get_by_text("Seed 78 ·").wait_for()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(fake, browser, width, scheme):
    with watched(browser, fake[0], viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        button(page, "Generate").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_a_killed_server_goes_on_and_so_does_the_page(browser, tmp_path):
    port = free_port()
    command = ["-m", "tests.servers.fake", tmp_path / "data", port, 0.15]
    with open(tmp_path / "log", "w") as log, browser.new_context() as context:
        process = serve(command, port, log)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}")
        generate(page, "a red star", seed="9")
        page.get_by_role("progressbar", name="Base").wait_for()
        process.kill()
        process.wait()
        page.wait_for_function("document.body.classList.contains('lv-lost')")
        process = serve(command, port, log)
        try:
            page.get_by_text("Seed 9 · 4 frames").wait_for()
            page.wait_for_function("!document.body.classList.contains('lv-lost')")
        finally:
            stop(process)
    assert len(list((tmp_path / "data" / "clips").glob("*.mp4"))) == 1


def test_foreign_names_are_not_answered(fake):
    request = urllib.request.Request(fake[0], headers={"Host": "attacker.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 400
    caught.value.close()


def refusal(command) -> str:
    """The one line that a server says which does not start."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


@pytest.mark.slow
def test_the_studio_opens_with_a_real_bundle_and_ends_cleanly(browser, tiny_bundle, tmp_path):
    port = free_port()
    arguments = ["app.py", "--port", port, "--data", tmp_path / "data", "--model", tiny_bundle, "--device", "cpu"]
    with open(tmp_path / "log", "w") as log:
        process = serve(arguments, port, log)
        try:
            assert f"port {port} of 127.0.0.1 is taken" in refusal(arguments)
            arguments[2] = free_port()
            assert f"{tmp_path / 'data'} is worked on by another studio" in refusal(arguments)
            with watched(browser, f"http://127.0.0.1:{port}") as page:
                generate(page, "a red star on a navy background", seed="7")
                page.get_by_text("Seed 7 · 4 frames · 32 × 16").wait_for()
        finally:
            began = time.monotonic()
            code = stop(process)
    assert code == 143, (tmp_path / "log").read_text()
    assert time.monotonic() - began < 20
    assert len(list((tmp_path / "data" / "clips").glob("*.mp4"))) == 1
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_password_is_asked_for(browser, tmp_path):
    with fake_studio(tmp_path, 0.05, "me:secret") as address, browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        assert page.request.get(f"{address}/studio/live").status == 401
        assert page.request.get(f"{address}/studio/media/x.mp4").status == 401
        page.goto(address)
        page.get_by_label("username").fill("me")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        generate(page, "a red star", "3")
        page.get_by_text("Seed 3 ·").wait_for()
        assert page.request.get(f"{address}/studio/media/x.mp4").status == 404
