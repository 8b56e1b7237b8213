"""What a bundle says of itself: read as it is, or not at all."""

from __future__ import annotations

import json

import pytest

from app.config import ROOT
from app.models.card import ModelCard
from lavie.request import Interpolation, Request, Sampling, SuperResolution

SAID = {
    "name": "Tiny",
    "width": 32,
    "height": 16,
    "frames": 4,
    "fps": 8,
    "words": {"colour": ["red", "blue"]},
    "examples": ["a red star"],
    "base": {"steps": 25},
    "interpolation": {"steps": 8},
}


@pytest.fixture
def read(tmp_path):
    def read(said):
        text = said if isinstance(said, str) else json.dumps(said)
        (tmp_path / "cascade.json").write_text(text, encoding="utf-8")
        return ModelCard.read(tmp_path)

    return read


def test_it_is_read(read):
    card = read(SAID)
    assert (card.name, card.width, card.height, card.frames, card.fps) == ("Tiny", 32, 16, 4, 8)
    assert card.steps == {"base": 25, "interpolation": 8}
    assert card.words == {"colour": ("red", "blue")} and card.examples == ("a red star",)


def test_nano_has_one():
    card = ModelCard.read(ROOT / "assets" / "nano")
    assert card.name == "Nano" and set(card.steps) == {"base", "interpolation", "super_resolution"}
    assert all(card.words.values()) and card.examples


@pytest.mark.parametrize("missing", ["name", "width", "height", "frames", "fps"])
def test_without_a_name_or_a_size_there_is_none(read, missing):
    assert read({name: value for name, value in SAID.items() if name != missing}) is None


@pytest.mark.parametrize("value", ["wide", None, -8, 0, 31, 1e400, [8], True, {}])
@pytest.mark.parametrize("name", ["width", "height"])
def test_a_size_that_is_none(read, name, value):
    assert read({**SAID, name: value}) is None


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[1, 2]",
        "null",
        '"text"',
        "{",
        "[" * 100_000,
        {**SAID, "words": ["red"]},
        {**SAID, "words": {"colour": 5}},
        {**SAID, "examples": 5},
        {**SAID, "base": {}},
        {**SAID, "base": {"steps": 1e400}},
        {**SAID, "base": {"steps": 0}},
        {**SAID, "base": 25},
    ],
    ids=lambda said: str(said)[:20],
)
def test_what_is_no_card(read, said):
    assert read(said) is None


def test_a_file_that_is_no_text_and_a_folder_that_is_not_there(tmp_path):
    assert ModelCard.read(tmp_path) is ModelCard.read(tmp_path / "gone") is None
    (tmp_path / "cascade.json").write_bytes(b"\xff\xfe\x00")
    assert ModelCard.read(tmp_path) is None


def test_words_that_are_none_are_left_out(read):
    card = read({**SAID, "words": {"colour": ["red", 5, "", None, " "]}, "examples": [None, "a star"]})
    assert card.words == {"colour": ("red",)} and card.examples == ("a star",)


def test_it_tells_what_comes_out(read):
    card = read(SAID)
    plain, asked = Request("x"), Request("x", width=64, frames=8, fps=4.0)
    assert card.outcome(plain) == {"frames": 4, "width": 32, "height": 16, "seconds": "0.5"}
    assert card.outcome(asked) == {"frames": 8, "width": 64, "height": 16, "seconds": "2.0"}
    smooth = Request("x", interpolation=Interpolation())
    assert card.outcome(smooth) == {"frames": 13, "width": 32, "height": 16, "seconds": "0.4"}
    large = Request("x", super_resolution=SuperResolution())
    assert card.outcome(large) == {"frames": 4, "width": 128, "height": 64, "seconds": "0.5"}


def test_steps_are_the_request_s_or_its_own(read):
    card = read(SAID)
    assert card.steps_of(Request("x"), "base") == 25
    assert card.steps_of(Request("x", base=Sampling(steps=3)), "base") == 3
    assert card.steps_of(Request("x", super_resolution=SuperResolution()), "super_resolution") is None
