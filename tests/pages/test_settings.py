"""The settings' tab in a real Chromium: what is chosen there holds, for gradio's words and ours."""

from __future__ import annotations

import re
import urllib.request

from tests.pages.browser import button, watched

DARK = "document.body.classList.contains('dark')"


def settings(page, name="Settings"):
    page.get_by_role("tab", name=name).click()
    page.locator(".lv-panel").last.wait_for()


def choose(page, name, value):
    page.locator(f"select[data-setting={name}]").select_option(value)


def test_a_language_holds_until_it_is_given_up(browser, fake):
    with watched(browser, fake[0], locale="en-GB") as page:
        settings(page)
        choose(page, "language", "de")
        button(page, "Erzeugen").wait_for()  # gradio's label
        page.get_by_text("Nichts wartet.").wait_for()  # pushed
        page.get_by_text("Wörter, die dieses Modell kennt").wait_for()  # a handler's answer
        page.wait_for_function("document.documentElement.lang === 'de'")
        page.reload()
        settings(page, "Einstellungen")
        assert page.locator("select[data-setting=language]").input_value() == "de"
        choose(page, "language", "")
        button(page, "Generate").wait_for()


def test_a_german_browser_is_spoken_to_in_german(browser, fake):
    with watched(browser, fake[0], locale="de-AT") as page:
        button(page, "Erzeugen").wait_for()
        settings(page, "Einstellungen")
        choose(page, "language", "en")
        button(page, "Generate").wait_for()


def test_a_theme_holds_whatever_the_system_has(browser, fake):
    with watched(browser, fake[0], color_scheme="light") as page:
        settings(page)
        choose(page, "theme", "dark")
        page.wait_for_function(DARK)
        page.reload()
        page.wait_for_function(DARK)
        settings(page)
        assert page.locator("select[data-setting=theme]").input_value() == "dark"
        page.emulate_media(color_scheme="dark")
        choose(page, "theme", "light")
        page.wait_for_function(f"!{DARK}")
        page.reload()
        settings(page)
        page.wait_for_function(f"!{DARK}")
        choose(page, "theme", "")
        page.wait_for_function(DARK)


def test_looking_again_tells_what_is_so_now(browser, fake):
    with watched(browser, fake[0]) as page:
        settings(page)
        page.get_by_text("auto (decided when the model is loaded)").or_(page.get_by_text("float32")).first.wait_for()
        button(page, "Look again").click()
        page.get_by_text("float32").wait_for()


def test_the_first_script_stands_before_gradio_s(fake):
    with urllib.request.urlopen(fake[0]) as answer:
        text = answer.read().decode()
    assert answer.headers["Content-Length"] == str(len(text.encode()))
    scripts = re.findall(r"<script[^>]*>.{0,400}", text, re.DOTALL)
    assert "lavie-${name}" in scripts[0]
    assert text.rstrip().endswith("</html>")
