"""The settings' tab as HTML, over a studio that makes nothing."""

from __future__ import annotations

import re

import pytest

from app.config import ROOT, StudioConfig
from app.studio import Studio
from app.ui.context import EventContext
from app.ui.html import format_memory
from app.ui.i18n import Languages
from app.ui.settings.tab import KEYS, settings_page

LANGUAGES = Languages()


def shown(studio, language="en", **chosen) -> str:
    return settings_page(studio, LANGUAGES, EventContext(LANGUAGES.words(language), {}, chosen))


@pytest.fixture
def make_studio(tmp_path):
    opened = []

    def make(**settings):
        opened.append(Studio(StudioConfig(**{"data": tmp_path / "data", **settings})))
        return opened[-1]

    yield make
    for studio in opened:
        studio.close()


@pytest.fixture
def studio(make_studio):
    return make_studio()


def test_it_tells_what_the_studio_stands_on(studio):
    page = shown(studio)
    for said in ("Nano", ">assets/nano<", str(studio.config.data), "--model", "MiB", "torch", "Python"):
        assert said in page
    assert "auto (decided when the model is loaded)" in page


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_it_is_written_in_every_language(studio, language):
    assert LANGUAGES.words(language)("panel_keys") in shown(studio, language)


def test_what_was_chosen_is_selected(studio):
    selected = re.findall(r'value="(\w*)" selected', shown(studio, language="de", theme="dark"))
    assert selected == ["", "dark"]
    assert re.findall(r'value="(\w*)" selected', shown(studio)) == ["", ""]


def test_names_of_folders_are_escaped(make_studio, tmp_path):
    studio = make_studio(data=tmp_path / "<b>data", model="<i>")
    page = shown(studio)
    assert "<b>data" not in page and "&lt;b&gt;data" in page and "<i>" not in page


def test_a_page_without_a_disk_says_so(make_studio, tmp_path):
    studio = make_studio()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert 'role="alert"' in shown(studio)
    (tmp_path / "moved").rename(tmp_path / "data")


def test_every_key_of_the_script_is_told():
    script = (ROOT / "assets" / "studio.js").read_text(encoding="utf-8")
    told = {key for keys, _ in KEYS for key in keys}
    keys = set(re.findall(r'event\.key === "([^"]+)"', script))
    assert {"Space" if key == " " else key for key in keys} - {"Escape"} <= told
    (letters,) = re.findall(r"/\^\[0-5(\w+)\]\$/", script)
    assert set(letters) <= told and {"0", "1", "5"} <= told


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 KiB"), (2**20 - 1024, "1023 KiB"), (2**20, "1.0 MiB"), (3 * 2**29, "1.5 GiB")]
)
def test_sizes(count, words):
    assert format_memory(count) == words


def test_folders_at_home_begin_there(make_studio, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    page = shown(make_studio(data=tmp_path / "lavie"))
    assert ">~/lavie<" in page and str(tmp_path) not in page
