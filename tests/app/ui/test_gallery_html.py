"""The gallery's HTML and its search fields: pure functions, no page."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.gallery import Clip, Page, Query
from app.queue.status import JobStatus
from app.recipes.comparison import Comparison, Difference
from app.recipes.job_row import DONE, REGENERATE
from app.recipes.recipe import Recipe
from app.ui.gallery.html import (
    STAR,
    card,
    provenance,
    recipe_table,
    render_about,
    render_comparison,
    render_differences,
    render_family,
    render_gone,
    render_grid,
    render_invalid_search,
    render_player,
    render_recipe,
)
from app.ui.gallery.view_model import Filters, View, merge_differences
from app.ui.i18n import Languages
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, Sampling

HOSTILE = "<img src=x onerror=alert(1)> \"' &amp; ${evil} {{evil}}"
SAY = Languages().words("en")


class Reader(HTMLParser):
    """What a browser makes of a fragment: its elements and its text. Fails on what is not closed in order."""

    def __init__(self, fragment: str):
        super().__init__()
        self.tags, self.texts, self.ids, self._open = [], [], [], []
        self.feed(fragment)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def clip(**values) -> Clip:
    request = Request(values.get("prompt", HOSTILE), seed=7, width=96, height=64, frames=4, fps=8.0)
    recipe = Recipe(request, HOSTILE, {"device": HOSTILE, "versions": {HOSTILE: HOSTILE}}, frame_hash="f")
    known = {
        "id": "c1", "parent": None, "path": Path("c1.mp4"), "prompt": HOSTILE, "negative_prompt": "", "notes": HOSTILE,
        "tags": (), "seed": 7, "model": HOSTILE, "stages": f"base+{HOSTILE}", "width": 96, "height": 64, "frames": 4,
        "fps": 8.0, "duration": 0.5, "bytes": 1000, "seconds": 1.0, "frame_hash": "f", "file_hash": "g", "stack": 1,
        "rating": 3, "favourite": True, "created": "2026-01-01", "trashed": None, "missing": None,
        "adapters": {HOSTILE: 0.5}, "recipe_json": recipe.to_json(),
    }  # fmt: skip
    return Clip(**{**known, **values})


def job(**values) -> JobStatus:
    from app.recipes.job_row import JobRow

    known = dict.fromkeys(JobRow.__dataclass_fields__)
    row = JobRow(**{**known, "id": "j1", "kind": REGENERATE, "state": DONE, "notices": (), **values})
    return JobStatus(row, comparison=Comparison(False, 40.0, (Difference(HOSTILE, HOSTILE, None),)))


HTML = {
    "card": lambda: card(clip(), SAY),
    "card of the trash": lambda: card(clip(trashed="2026"), SAY),
    "grid": lambda: render_grid(Page((clip(), clip(missing="2026", count=3)), "n", 30, True), View(), SAY, HOSTILE),
    "alert": lambda: render_grid(Page((), None, 0, True), View(alert=HOSTILE), SAY),
    "refused": lambda: render_invalid_search(HOSTILE),
    "player": lambda: render_player(clip(), SAY),
    "player without a file": lambda: render_player(clip(missing="2026"), SAY),
    "about": lambda: render_about(clip(), [job(), job(state="failed", error=HOSTILE)], "", SAY),
    "made with": lambda: render_recipe(clip(), [(HOSTILE, HOSTILE, None)], SAY, {HOSTILE: HOSTILE}),
    "lineage": lambda: render_family(clip(parent="c0"), [clip(id="c0", parent=HOSTILE)], [clip()], SAY),
    "gone": lambda: render_gone(HOSTILE, SAY),
    "compare": lambda: render_comparison(
        [clip(), clip()], render_differences([(HOSTILE, 1, HOSTILE)], [HOSTILE, "2"]), SAY
    ),
}


@pytest.mark.parametrize("name", HTML)
def test_what_others_wrote_stays_text(name):
    read = Reader(HTML[name]())
    assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in read.tags)
    assert any(HOSTILE in text for text in [*read.texts, *(str(v) for _, a in read.tags for v in a.values())])


@pytest.mark.parametrize("name", HTML)
def test_every_button_and_picture_has_a_name(name):
    """In the text, or said for it."""
    html = HTML[name]()
    for tag, attributes in Reader(html).tags:
        assert tag != "img" or "alt" in attributes
        assert tag != "video" or attributes["aria-label"]
        assert tag != "input" or attributes["aria-label"]


def test_a_card_says_what_there_is():
    read = Reader(card(clip(count=12, missing="2026", stages="base+interpolation"), SAY))
    text = " ".join(read.texts)
    assert "×12 · file missing" in text and "Seed 7 · Base + Smooth · 96 × 64" in text
    assert "".join(read.texts).count(STAR) == 3
    assert ("img", "studio/media/c1.preview.webp") in [(tag, a.get("data-moving")) for tag, a in read.tags]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (View(), "No clips yet."),
        (View(Query(sort="rating", stacked=True)), "No clips yet."),
        (View(Query("star")), "No clip fits."),
        (View(Query(trashed=True)), "The trash is empty."),
    ],
)
def test_an_empty_page_says_what_to_do(view, words):
    assert words in render_grid(Page((), None, 0, True), view, SAY)


def test_a_total_that_is_not_counted_says_so():
    page = Page((clip(),), "next", 1000, False)
    assert "more than 1000 clips · page 1" in render_grid(page, View(), SAY)


def test_a_recipe_of_a_newer_version_is_told():
    recipe = json.dumps({**json.loads(clip().recipe_json), "lavie_recipe": 99})
    assert "schema 99" in render_recipe(clip(recipe_json=recipe), [], SAY, {})


def test_a_large_family_and_a_large_provenance_end_somewhere():
    children = [clip(id=f"c{number}") for number in range(200)]
    assert "and 140 more" in render_family(clip(), [], children, SAY)
    recipe = Recipe(Request("a", seed=1), "m", {str(number): number for number in range(5000)})
    assert provenance(recipe, SAY).count("<tr>") == 60


def test_differences_of_several_stand_side_by_side():
    rows = merge_differences([[("seed", 1, 2)], [("steps", 5, 6), ("seed", 1, 3)], []])
    assert rows == [("seed", 1, 2, 3, 1), ("steps", 5, 5, 6, 5)]


def test_the_family_is_drawn_from_the_oldest_on():
    line = [clip(id="p", parent="g", seed=2), clip(id="g", parent="gone", seed=1)]
    text = " ".join(Reader(render_family(clip(parent="p", seed=3), line, [clip(id="k", seed=4)], SAY)).texts)
    assert (
        text.index("gone") < text.index("Seed 1") < text.index("Seed 2") < text.index("Seed 3") < text.index("Seed 4")
    )


QUERIES = [
    Query(),
    Query("a star", sort="oldest", stacked=True, trashed=True),
    Query(model="nano", stages="base", adapter="abc", tags=("a", "b"), min_rating=3, favourite=True, missing=False),
    Query(seed=42, width=96, height=64, created_from="2026-01-01", created_to="2026-02-01", parent="c1"),
    Query(width=96),
    Query(height=64),
]


@pytest.mark.parametrize("query", QUERIES)
def test_fields_say_a_query_both_ways(query):
    assert Filters.of(query).query() == query
    assert Filters(*Filters.of(query).values()) == Filters.of(query)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [("blue squ", "blue squ*"), ("blue ", "blue"), ('"blue squ"', '"blue squ"'), ("squ*", "squ*"), ("", "")],
)
def test_the_word_being_typed_is_the_beginning_of_one(typed, asked):
    assert Filters(typed).query().text == asked


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("seed", "seven", "seed is 'seven'"),
        ("seed", "9" * 5000, "seed is '999"),
        ("size", "96 by 64", "write it as 512 × 320"),
        ("created_from", "yesterday", "write it as 2026-01-31"),
        ("favourite", "maybe", "favourite is 'maybe'"),
        ("sort", "random", "sort is 'random'"),
        ("stacked", "x", "stacked is 'x'"),
        ("min_rating", 9, "rating is 9"),
        ("tags", [1], "tag 1 is no text"),
        ("model", "\ud800", "model is"),
    ],
)
def test_fields_that_mean_nothing_are_named(field, value, words):
    with pytest.raises(RequestError, match=words):
        replace(Filters(), **{field: value}).query()


def test_settings_are_told_in_the_words_of_the_form():
    request = Request("a", seed=1, fps=8.0, base=Sampling("ddim", 25, 7.5), interpolation=Interpolation())
    text = " ".join(Reader(recipe_table(Recipe(request, "nano"), SAY)).texts)
    assert "Sampler ddim Steps 25 Guidance 7.5" in text and "Base + Smooth" in text
