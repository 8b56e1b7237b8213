"""The first page as a person meets it: a real Chromium against a real server."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.config import ROOT
from app.media import probe

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 60_000  # milliseconds; only a broken page needs them

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}: set CHROMIUM to one")


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def serve(command, port, log):
    """Start a server and wait until it answers; the process."""
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(f"the server did not start: {Path(log.name).read_text()}")


def refusal(command) -> str:
    """The one line that a server says which does not start."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


def stop(process) -> int:
    process.terminate()
    return process.wait(60)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """The page over a cascade of 20 steps at 0.1 seconds; its address and its folder of clips."""
    folder, port = tmp_path_factory.mktemp("fake"), free_port()
    with open(folder / "log", "w") as log:
        process = serve(["-m", "tests.ui.serve_fake", folder / "data", port, 0.1], port, log)
        yield f"http://127.0.0.1:{port}", folder / "data" / "clips"
        stop(process)
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def page(browser, fake):
    """A fresh browser on the page. Fails on errors in the console and on requests to other machines."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url) else None)
    page.goto(fake[0])
    yield page
    context.close()
    assert complaints == []


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def generate(page, prompt, seed=""):
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_label("Seed").fill(seed)
    button(page, "Generate").click()


def test_a_prompt_becomes_a_video(page, fake):
    page.get_by_label("Smooth").check()
    generate(page, "a red star", seed="42")
    page.get_by_role("progressbar", name="Base").wait_for()
    page.get_by_role("progressbar", name="Smooth").wait_for()
    assert page.get_by_role("progressbar", name="Upscale").count() == 0
    page.get_by_alt_text("Preview of the middle frame").wait_for()
    assert button(page, "Generate").is_disabled()
    page.get_by_text("Seed 42 · 4 frames · 96 × 64").wait_for()
    source = page.locator("video").get_attribute("src")
    clip = fake[1] / source.rsplit("/", 1)[1]
    assert probe(clip).frames == 4
    assert page.request.get(source).body() == clip.read_bytes()
    page.wait_for_function("document.querySelector('video').readyState >= 2")  # the browser can play it
    assert button(page, "Cancel").is_disabled() and button(page, "Generate").is_enabled()


def test_text_from_outside_is_shown_as_text(page):
    generate(page, "a red star")
    page.get_by_text("the word <b>flurb</b> is not known").wait_for()
    button(page, "Cancel").click()
    page.get_by_text("Cancelled.").wait_for()


def test_an_empty_seed_is_drawn_and_told(page):
    generate(page, "a red star")
    page.get_by_text("Seed 123456789").wait_for()


@pytest.mark.parametrize(
    ("prompt", "seed", "words"),
    [
        ("  ", "", "prompt is empty: say what the video should show"),
        ("a red star", "seven", "seed is 'seven': give a whole number, or leave it empty"),
        ("a red star", str(2**53), "seed is 9007199254740992: give a whole number from 0 to 9007199254740991"),
        ("refused", "", "prompt is 'refused': say something else"),
    ],
)
def test_mistakes_are_told_in_words(page, prompt, seed, words):
    generate(page, prompt, seed)
    page.get_by_role("alert").get_by_text(words).wait_for()
    assert button(page, "Generate").is_enabled()


def test_cancelling_ends_the_job_and_frees_the_page(page, fake):
    fake[1].mkdir(parents=True, exist_ok=True)
    before = set(fake[1].iterdir())
    generate(page, "a red star")
    page.get_by_alt_text("Preview of the middle frame").wait_for()
    button(page, "Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    assert button(page, "Generate").is_enabled()
    assert set(fake[1].iterdir()) == before


def test_closing_the_tab_loses_nothing(page, fake):
    generate(page, "a red star", seed="77")
    page.get_by_role("progressbar", name="Base").wait_for()
    again = page.context.new_page()
    page.close()
    again.goto(fake[0])
    again.get_by_text("Seed 77 ·").wait_for()
    assert again.locator("video").get_attribute("src").endswith(".mp4")


def test_foreign_names_are_not_answered(browser, fake):
    import urllib.error
    import urllib.request

    request = urllib.request.Request(fake[0], headers={"Host": "attacker.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 400
    caught.value.close()


def test_the_studio_opens_with_a_real_bundle_and_ends_cleanly(browser, tiny_bundle, tmp_path):
    port = free_port()
    arguments = ["app.py", "--port", port, "--data", tmp_path / "data", "--model", tiny_bundle, "--device", "cpu"]
    with open(tmp_path / "log", "w") as log:
        process = serve(arguments, port, log)
        try:
            assert f"port {port} of 127.0.0.1 is taken" in refusal(arguments)
            arguments[2] = free_port()
            assert f"{tmp_path / 'data'} is worked on by another studio" in refusal(arguments)
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://127.0.0.1:{port}")
            generate(page, "a red star on a navy background", seed="7")
            page.get_by_text("Seed 7 · 4 frames · 32 × 16").wait_for()
            page.close()
        finally:
            code = stop(process)
    assert code == 143, (tmp_path / "log").read_text()
    assert len(list((tmp_path / "data" / "clips").glob("*.mp4"))) == 1
    assert "Traceback" not in (tmp_path / "log").read_text()
