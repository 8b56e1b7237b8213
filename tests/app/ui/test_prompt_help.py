"""What the page says of a prompt, and what a click on a word makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.models.card import ModelCard
from app.ui.create.prompt import insert_word, prompt_help
from app.ui.i18n import Languages
from lavie.errors import LavieError

WORDS = {
    "size": ("small", "big"),
    "colour": ("red", "navy blue", "blue"),
    "motion": ("moving", "moving right"),
    "odd": ("<b>&\"'", "a+b("),
}
CARD = ModelCard("T", 32, 16, 4, 8, words=WORDS, examples=("a big red star",))
SAY = Languages().words("en")


def studio(card=CARD, report=None):
    return SimpleNamespace(card=card, read_prompt=lambda prompt: report)


def report(tokens=5, limit=77, cut="", unknown=()):
    return SimpleNamespace(tokens=tokens, limit=limit, cut=cut, unknown=unknown)


@pytest.mark.parametrize(
    ("prompt", "word", "after"),
    [
        ("a small star", "big", "a big star"),
        ("A SMALL star", "big", "A big star"),
        ("a star", "big", "a star big"),
        ("a star  ", "big", "a star big"),
        ("a navy blue star", "red", "a red star"),
        ("a blue star", "navy blue", "a navy blue star"),
        ("a star moving right", "moving", "a star moving"),
        ("a reddish star", "blue", "a reddish star blue"),
        ("", "blue", "a big blue star"),
        ("  ", "moving", "a big red star moving"),
        ("a star", "unheard of", "a star"),
        ("a star", "", "a star"),
        ("a star", "a+b(", "a star a+b("),
    ],
)
def test_a_word_takes_the_place_of_one_of_its_kind(prompt, word, after):
    assert insert_word(CARD, prompt, word) == after


def test_a_word_where_there_is_no_example_and_no_card():
    assert insert_word(ModelCard("T", 32, 16, 4, 8, words=WORDS), "", "red") == "red"
    assert insert_word(None, "a star", "red") == "a star"


def test_the_words_that_stand_there_are_marked():
    shown = prompt_help(studio(), "a Red star, moving", SAY)
    assert 'data-word="red" aria-pressed="true"' in shown
    assert 'data-word="moving" aria-pressed="true"' in shown
    assert 'data-word="moving right" aria-pressed="false"' in shown
    assert 'data-word="blue" aria-pressed="false"' in shown


def test_words_from_outside_are_escaped():
    shown = prompt_help(studio(report=report(unknown=("<i>", '"'))), "<i>", SAY)
    assert "<b>" not in shown and "<i>" not in shown
    assert "&lt;b&gt;&amp;&quot;&#x27;" in shown and "&lt;i&gt;, &quot;" in shown


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (report(tokens=5, limit=77), "5 of 77 tokens"),
        (report(unknown=("flurb",)), "not known: flurb"),
        (report(cut="and <so> on", unknown=("flurb",)), "cut off: “and &lt;so&gt; on”"),
        (None, "&nbsp;"),
    ],
)
def test_how_the_model_reads_it(found, words):
    assert words in prompt_help(studio(report=found), "a star", SAY)


@pytest.mark.parametrize("prompt", ["", "   ", None])
def test_an_empty_prompt_is_not_read(prompt):
    asked = SimpleNamespace(card=None, read_prompt=lambda prompt: pytest.fail("it was read"))
    assert "&nbsp;" in prompt_help(asked, prompt, SAY)


def test_without_words_nothing_is_offered():
    assert "<details" not in prompt_help(studio(card=None), "a star", SAY)
    assert "<details" not in prompt_help(studio(card=ModelCard("T", 32, 16, 4, 8)), "a star", SAY)


@pytest.mark.parametrize("prompt", ["a" * 100_000, "red " * 25_000, "\ud800", "a\0b", "(" * 1000, "{prompt}"])
def test_prompts_of_any_kind_are_read_by_a_real_model(tiny_cascade, prompt):
    asked = SimpleNamespace(card=CARD, read_prompt=tiny_cascade.read)
    try:
        assert prompt_help(asked, prompt, SAY)
    except LavieError:
        pytest.fail("a prompt that is being written is no mistake")
