"""Everything can be found again: by words in any script, by every filter, in every order, page by page."""

import itertools

import pytest

from app.gallery import SORTS, Query
from app.gallery.gallery import insert
from app.gallery.search import delete_search, find_clips, list_searches, save_search
from app.gallery.words import index_text, match_expression
from lavie.errors import RequestError
from lavie.request import Interpolation
from tests.app.gallery.rows import row

HOSTILE = [
    '"',
    '""',
    '"unclosed',
    "*",
    "-",
    "--",
    "-*",
    "AND",
    "red AND",
    "red OR NOT NEAR(star)",
    "words:red",
    "{words}: red",
    "(red",
    "^red",
    "red + star",
    "a'b",
    "a;b--",
    "%",
    "\0",
    "\ud800",
    "🌟👨‍👩‍👧",
    "日本",
    "مرحبا",
    "   ",
    "\n\t",
    "\u202e\u200f",
    "x" * 10_000,
    "red star " * 1_200,
    "日" * 10_000,
    " ".join(f"word{number}" for number in range(2_000)),
    '"' * 10_000,
    " ".join(f"-w{number}" for number in range(2_000)),
]


def found(gallery, **query):
    return [int(clip.id[1:]) for clip in find_clips(gallery, Query(**query), limit=100).clips]


def test_every_filter(fill):
    adapter = "cd" * 32
    gallery = fill(
        {"prompt": "a blue star", "rating": 3, "tags": ("keep", "film")},
        {"model": "official", "width": 384, "height": 256, "favourite": True, "tags": ("keep",)},
        {"interpolation": Interpolation(), "parent": "c0", "adapters": {adapter: 1.0}, "missing": "2026-01-01"},
        {"seed": 99, "rating": 5, "trashed": "2026-01-01"},
    )
    assert found(gallery) == [2, 1, 0]
    assert found(gallery, text="blue") == [0]
    assert found(gallery, model="official") == [1] and found(gallery, model="official' OR 1 --") == []
    assert found(gallery, adapter=adapter) == [2] and found(gallery, adapter="x") == []
    assert found(gallery, stages="base+interpolation") == [2] and found(gallery, stages="base") == [1, 0]
    assert found(gallery, seed=1) == [1] and found(gallery, seed=99) == []
    assert found(gallery, width=384) == [1] and found(gallery, height=64, width=96) == [2, 0]
    assert found(gallery, created_from="2024-10-05") == [2, 1]
    assert found(gallery, created_to="2024-10-05") == [1, 0]
    assert found(gallery, created_from="2024-10-05", created_to="2024-10-05T12:00:00") == [1]
    assert found(gallery, created_from="2024-10-05T00:00:01") == [2]
    assert found(gallery, min_rating=3) == [0] and found(gallery, min_rating=4) == []
    assert found(gallery, favourite=True) == [1] and found(gallery, favourite=False) == [2, 0]
    assert found(gallery, tags=("keep",)) == [1, 0] and found(gallery, tags=("keep", "film")) == [0]
    assert found(gallery, parent="c0") == [2]
    assert found(gallery, missing=True) == [2] and found(gallery, missing=False) == [1, 0]
    assert found(gallery, trashed=True) == [3] and found(gallery, trashed=True, seed=99, min_rating=5) == [3]
    assert found(gallery, text="star", model="nano", tags=("keep",), min_rating=1, created_to="2026-01-01") == [0]


def test_words(fill):
    gallery = fill(
        {"prompt": "a red star spinning"},
        {"prompt": "two stars, well-known", "notes": "look again: blurred"},
        {"prompt": "紅い日本の星", "tags": ("für später", "★")},
        {"prompt": "STRASSE Ａ１ résumé"},
        {"prompt": "kitten 🌟👍🏽 ไทยแลนด์"},
        {"prompt": "a u2605 or AND not"},
    )
    for text, numbers in {
        "star": [1, 0],  # other forms of a word
        "spin RED": [0],
        "red -star": [],
        "-red": [5, 4, 3, 2, 1],
        "star -red": [1],
        "sp*": [2, 0],
        '"red star"': [0],
        '"star red"': [],
        '"red st"*': [0],
        "well-known": [1],
        "knownwell": [],
        "blurred": [1],
        "spater": [2],
        "日本": [2],
        "本日": [],
        "日本の星": [2],
        "strasse": [3],
        "resume a1": [3],
        "🌟": [4],
        "👍": [4],
        "แลน": [4],
        "★": [5, 2],
        "AND": [5],
        "and NOT": [5],
        "-★ -a": [4, 3, 1],
        "": [5, 4, 3, 2, 1, 0],
        "!?": [5, 4, 3, 2, 1, 0],
    }.items():
        assert found(gallery, text=text) == numbers, text


def test_no_text_is_a_command(fill):
    gallery = fill({"prompt": "a red star"}, {"prompt": "another"})
    for text in HOSTILE:
        for query in (Query(text=text), Query(text=text, sort="relevance"), Query(text=text, stacked=True)):
            page = find_clips(gallery, query)
            assert len(page.clips) == page.total <= 2, text[:50]
        save_search(gallery, "s", query)
        assert list_searches(gallery) == {"s": query}, text[:50]


def test_words_beyond_the_limit_are_not_looked_for():
    wanted, _ = match_expression(" ".join(f"w{number}" for number in range(1_000)))
    assert wanted.count('"') == 2 * 64


def test_index_text_is_what_the_index_can_hold():
    assert index_text("Red  star!", "★️日本", "x\0y\ud800") == "Red star u2605 日 本 x y"


def test_sorts(fill):
    gallery = fill(
        {"rating": 2, "frames": 61},
        {"rating": 5, "prompt": "star star star"},
        {"rating": 2, "prompt": "one star among a great many other words that say something else"},
    )
    assert found(gallery, sort="newest") == [2, 1, 0]
    assert found(gallery, sort="oldest") == [0, 1, 2]
    assert found(gallery, sort="rating") == [1, 2, 0]
    assert found(gallery, sort="longest") == [0, 2, 1]
    assert found(gallery, sort="relevance", text="star") == [1, 0, 2]
    assert found(gallery, sort="relevance") == [2, 1, 0]


def test_pages_join_without_a_gap_or_an_overlap(fill):
    # Of six prompts, each on some clips; one in three has the word that is left out.
    prompts = [f"a {colour} star{' bright' * more}" for more in (0, 3) for colour in ("red", "green", "blue")]
    gallery = fill(*({"prompt": prompts[n * n % 6], "rating": n % 4, "frames": 4 + n % 2} for n in range(40)))
    for sort, text, stacked in itertools.product(SORTS, ("", "star", "star -blue"), (False, True)):
        query = Query(text=text, sort=sort, stacked=stacked)
        whole = find_clips(gallery, query, limit=1000)
        assert whole.total == len(whole.clips) >= 2 and whole.next is None, query
        pages, after = [], None
        while not pages or after is not None:
            page = find_clips(gallery, query, after, limit=2)
            assert page.total == whole.total, query
            pages += page.clips
            after = page.next
        assert tuple(pages) == whole.clips, query
        assert len({clip.stack if stacked else clip.id for clip in pages}) == whole.total, query


def test_what_comes_or_goes_meanwhile_does_not_shift_the_pages(fill):
    gallery = fill(*({} for _ in range(10)))
    first = find_clips(gallery, Query(), limit=5)
    with gallery.database.write() as connection:
        connection.execute("DELETE FROM clips WHERE id = 'c7'")
        insert(connection, [row(10)])
    second = find_clips(gallery, Query(), first.next, limit=5)
    assert [clip.id for clip in second.clips] == ["c4", "c3", "c2", "c1", "c0"] and second.next is None


def test_a_stack_shows_its_best_clip_and_how_many_it_has(fill):
    gallery = fill({"rating": 4}, {"prompt": "a blue star"}, {"rating": 1}, {"trashed": "2026-01-01"}, {})
    page = find_clips(gallery, Query(stacked=True))
    assert [(clip.id, clip.count) for clip in page.clips] == [("c0", 3), ("c1", 1)] and page.total == 2
    page = find_clips(gallery, Query(stacked=True, min_rating=2))
    assert [(clip.id, clip.count) for clip in page.clips] == [("c0", 1)]
    page = find_clips(gallery, Query(stacked=True, text="red", sort="relevance"))
    assert [(clip.id, clip.count) for clip in page.clips] == [("c0", 3)] and page.total == 1


def test_a_word_that_too_many_have_comes_by_age(fill, monkeypatch):
    monkeypatch.setattr("app.gallery.search._FEW", 2)
    gallery = fill({"prompt": "star"}, {"prompt": "star star"}, {"prompt": "a star far away"})
    first = find_clips(gallery, Query(text="star", sort="relevance"), limit=2)
    rest = find_clips(gallery, Query(text="star", sort="relevance"), first.next, limit=2)
    assert [clip.id for clip in (*first.clips, *rest.clips)] == ["c2", "c1", "c0"]


def test_a_place_that_no_page_gave_is_refused(fill):
    gallery = fill({})
    places = ["", "x", "[]", '["newest", 0]', '["rating", 0, 1, 1]', '["newest", "a", 1, 1]', "[" * 5000, 7]
    places += ['["newest", 0, [], 1]', '["newest", 1e400, 1, 1]', '["newest", 0, NaN, 1]', '["newest", 0, 1e400, 1]']
    places += [f'["newest", 0, {10**30}, 1]', '[["newest"], 0, 1, 1]', '["relevance", 0, 1, 1]', '["newest", 0, 1, {}]']
    for after in places:
        with pytest.raises(RequestError, match="after is"):
            find_clips(gallery, Query(), after)
    for limit in (0, -1, 1001, 2.5, True, "9"):
        with pytest.raises(RequestError, match="limit is"):
            find_clips(gallery, Query(), limit=limit)


def test_queries_survive_json():
    query = Query(text='"★" -x', tags=("日本", "a b"), seed=2**53 - 1, missing=False, stacked=True, sort="rating")
    assert Query.from_json(query.to_json()) == query
    assert Query().to_json() == "{}" and Query.from_json("{}") == Query()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "[" * 100_000, '{"unknown": 1}', '{"text": 7}', '{"seed": true}', '{"seed": -1}', '{"seed": 1.5}']
    + ['{"tags": "ab"}', '{"tags": [1]}', '{"sort": "size"}', '{"sort": []}', '{"trashed": null}', '{"stacked": 1}']
    + ['{"created_from": "yesterday"}', '{"created_to": 7}', '{"created_to": "1900-01-01"}', '{"min_rating": 6}']
    + ['{"model": 3}', '{"model": "\\ud800"}', '{"favourite": "yes"}', '{"seed": 1e999}', '{"width": {}}'],
)
def test_what_is_no_query_is_refused(text):
    with pytest.raises(RequestError):
        Query.from_json(text)


def test_saved_searches(fill):
    gallery = fill({})
    save_search(gallery, "b ★", Query(text="x"))
    save_search(gallery, "a", Query(min_rating=3, tags=("k",)))
    save_search(gallery, "b ★", Query(text="y"))
    assert list_searches(gallery) == {"a": Query(min_rating=3, tags=("k",)), "b ★": Query(text="y")}
    delete_search(gallery, "a")
    assert list(list_searches(gallery)) == ["b ★"]
    with pytest.raises(RequestError, match="no saved search 'a'"):
        delete_search(gallery, "a")
    with pytest.raises(RequestError, match="is empty"):
        save_search(gallery, " ", Query())
