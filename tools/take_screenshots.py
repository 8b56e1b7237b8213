"""Pictures of every tab for the documentation: `python tools/take_screenshots.py [--data FOLDER] [--only TAB]`.

Starts the studio with Nano on a temporary data folder, makes a few clips, trains an adapter, and writes
docs/images/TAB-LOOK.webp: wide and light, wide and dark, and as a phone shows it. Takes minutes; with --data the clips
are kept for the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 120_000  # milliseconds
QUALITY = 82  # of the WebP files: all of them together are to stay below 1.5 MB
LOOKS = {
    "light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
CLIPS = (  # prompt, seed, further options
    ("a small yellow circle bouncing on a teal background", 3, ()),
    ("a purple heart growing on a black background", 5, ()),
    ("a white triangle moving up on a brown background", 8, ()),
    ("a big green square spinning on a gray background", 13, ("--interpolate",)),
    ("a pink star moving right on a navy background", 21, ()),
    ("a big red star spinning on a navy background", 7, ("--interpolate", "--upscale")),
)
LONG = dict.fromkeys((3, 4), "a big red star moving left on a navy background")
SUBJECT, STEPS = "zkw", {"steps": "40", "samples_every": "10", "checkpoint_every": "20"}
WORK_PATIENCE = 1_800_000  # milliseconds
WAITING = ("a big blue heart shrinking on a gray background", "a small orange star moving left on a black background")


@contextlib.contextmanager
def studio(data: Path) -> Iterator[str]:
    """A studio on a free port; its address."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    # A home of its own, so that the pictures show nobody's folders.
    environment = {**os.environ, "HOME": str(data.parent)}
    command = [sys.executable, "app.py", "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        end = time.monotonic() + PATIENCE / 1000
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the studio did not start")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def fill(data: Path) -> None:
    """Have the running studio make the clips that are not there yet."""

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "app.py", *arguments, "--data", str(data)], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    if command("gallery", "list", "--json").count('"prompt"') >= len(CLIPS):
        return
    for prompt, seed, options in CLIPS:
        command("render", prompt, "--seed", str(seed), *options)


def queue(page: Page) -> None:
    """Something to see on the first tab: jobs that wait."""
    pause = page.get_by_role("button", name="Pause the queue")
    if page.locator(".lv-job").count() >= len(WAITING):
        return
    pause.click()
    for prompt in WAITING:
        page.get_by_label("Prompt", exact=True).fill(prompt)
        page.get_by_role("button", name="Generate", exact=True).click()
        page.locator(".lv-job").get_by_text(prompt).wait_for()


def long_video(page: Page) -> None:
    """A long video of two prompts, made."""
    open_tab(page, "long")
    if not page.locator(".lv-segment").count():
        page.get_by_role("button", name="New", exact=True).click()
        page.locator(".lv-segment").first.wait_for()
    again = page.get_by_role("button", name="Render again")
    if again.count():
        return
    for number, prompt in LONG.items():
        field = page.get_by_role("textbox", name=f"Prompt of segment {number}", exact=True)
        field.fill(prompt)
        field.press("Tab")
        page.wait_for_timeout(1000)
    page.locator("#lv-long-render").click()
    again.wait_for(timeout=WORK_PATIENCE)


def training(page: Page) -> None:
    """An adapter of a subject, trained for a moment, and the media of the next one."""
    open_tab(page, "personalize")
    page.locator("#lv-train-start").wait_for()
    if not page.locator(".lv-adapter").count():
        prepare_training(page)
        page.locator("#lv-train-start").click()
        page.get_by_role("button", name="Use it").click(timeout=WORK_PATIENCE)
        page.get_by_label("Prompt", exact=True).fill(
            f"<lora:{SUBJECT}:1> a {SUBJECT} moving right on a navy background"
        )
        page.locator("#lv-generate").click()
        page.locator("#lv-screen video").wait_for()
        open_tab(page, "personalize")
    if not page.locator(".lv-medium").count():
        prepare_training(page)


def prepare_training(page: Page) -> None:
    """Pictures of a thing that Nano has never seen, a word for it, and few steps."""
    field = '#lv-train-new [data-edit=set][data-name="{}"]'
    page.locator(field.format("trigger")).fill(SUBJECT)
    page.locator("#lv-train-files input[type=file]").set_input_files(pictures())
    page.locator(".lv-medium").nth(7).wait_for()
    page.locator("#lv-train-advanced button").first.click()
    for name, text in STEPS.items():
        page.locator(field.format(name)).fill(text)
        page.locator(field.format(name)).press("Tab")
    page.get_by_text(f"{STEPS['steps']} steps from").wait_for()
    page.locator("#lv-train-advanced button").first.click()


def pictures() -> list[dict]:
    """Eight, of a crescent."""
    made = []
    for number in range(8):
        picture = Image.new("RGB", (192, 128), ("#10143c", "#3a2b1f", "#143a2a", "#333333")[number % 4])
        draw, x, y = ImageDraw.Draw(picture), 30 + 11 * number, 20 + 29 * number % 40
        draw.ellipse((x, y, x + 60, y + 60), fill="#ff3df2")
        draw.ellipse((x + 20, y - 6, x + 74, y + 48), fill=picture.getpixel((0, 0)))
        file = io.BytesIO()
        picture.save(file, "PNG")
        made.append({"name": f"{SUBJECT} {number + 1}.png", "mimeType": "image/png", "buffer": file.getvalue()})
    return made


def open_tab(page: Page, name: str) -> None:
    """A tab by its id; where there is no room for it, by gradio's menu."""
    tab = page.locator(f'#lv-tabs [role=tab][data-tab-id="{name}"]:visible')
    if not tab.count():
        label = page.locator(f'#lv-tabs [data-tab-id="{name}"]').first.text_content().strip()
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button").get_by_text(label).click()
    else:
        tab.first.click()


def tabs(page: Page) -> list[str]:
    """Their ids, in order."""
    found = page.locator("#lv-tabs [data-tab-id]").evaluate_all("all => all.map((tab) => tab.dataset.tabId)")
    return list(dict.fromkeys(found))


def opened(browser: Browser, address: str, look: str) -> Page:
    """A fresh page of a look."""
    page = browser.new_context(**LOOKS[look], device_scale_factor=1, locale="en-GB").new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.locator("#lv-generate").wait_for()
    page.locator("#lv-words details").wait_for()
    return page


def take(page: Page, name: str) -> None:
    """Write what is seen now to docs/images/NAME.webp."""
    page.wait_for_timeout(2000)  # pictures are loaded, transitions over
    picture = Image.open(io.BytesIO(page.screenshot()), formats=("PNG",))
    picture.convert("RGB").save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)


def take_all(browser: Browser, address: str) -> None:
    first = opened(browser, address, "light")
    training(first)
    long_video(first)
    open_tab(first, "create")
    queue(first)
    names = tabs(first)
    for look in LOOKS:
        page = opened(browser, address, look)
        page.get_by_label("Prompt", exact=True).fill("a big red star spinning on a navy background")
        for name in names:
            open_tab(page, name)
            take(page, f"{name}-{look}")
        open_tab(page, "gallery")
        page.locator("#lv-clips .lv-card .lv-shot").first.click()
        page.locator("#lv-player video").wait_for()
        take(page, f"clip-{look}")


def take_personalize(browser: Browser, address: str) -> None:
    training(opened(browser, address, "light"))
    for look in LOOKS:
        page = opened(browser, address, look)
        open_tab(page, "personalize")
        take(page, f"personalize-{look}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder to keep the clips in")
    parser.add_argument("--only", choices=["personalize"], help="take pictures of this tab alone")
    asked = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, studio(asked.data or Path(folder) / "data") as address:
        if not asked.only:
            fill(asked.data or Path(folder) / "data")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            (take_personalize if asked.only else take_all)(browser, address)
            browser.close()
    written = sorted(IMAGES.glob("*.webp"))
    print(f"{len(written)} pictures, {sum(path.stat().st_size for path in written) / 1e6:.2f} MB, in {IMAGES}")


if __name__ == "__main__":
    main()
