"""Many clips and stacks are found another way than few: both ways give what a look at every clip gives."""

import random
from dataclasses import replace

import pytest

from app.gallery import SORTS, Query
from app.gallery.clip import age_of
from app.gallery.search import find_clips
from app.gallery.trash import move_to_trash
from lavie.errors import RequestError

COLOURS = ("red", "green", "blue", "white")
TEXTS = ("", "star", "keep", "star -red", "-keep", "st*", '"red star"', "nothing", "!?")
FILTERS = (
    {},
    {"min_rating": 2},
    {"model": "nano"},
    {"tags": ("keep",)},
    {"missing": False},
    {"trashed": True},
    {"favourite": True, "created_from": "2024-10-20", "created_to": "2025-01-10"},
    {"seed": 1},
    {"model": "unknown"},
)


def clips(draw, count=120):
    """Of some thirty stacks; the clips of each differ in all that may differ within one, even in how long they play."""
    for _ in range(count):
        yield {
            "prompt": f"a {draw.choice(COLOURS)} {draw.choice(['star', 'star', 'stork', 'circle'])}",
            "model": draw.choice(["nano", "nano", "official"]),
            "seed": draw.choice([1, 2, 3]),
            "rating": draw.choice([0, 0, 1, 2, 5]),
            "frames": draw.choice([16, 16, 61]),
            "favourite": draw.random() < 0.3,
            "notes": draw.choice(["", "", "keep", "a red star"]),
            "tags": ("keep",) if draw.random() < 0.3 else (),
            "trashed": "2026-01-01" if draw.random() < 0.2 else None,
            "missing": "2026-01-01" if draw.random() < 0.2 else None,
        }


def matches(clip, query):
    """Whether a clip is among what a query finds, by a look at it."""
    words = f"{clip.prompt} | {clip.notes} | {' '.join(clip.tags)} "
    first, last = query.ages
    return (
        {
            "": True,
            "!?": True,
            "star": "star " in words,
            "keep": "keep" in words,
            "star -red": "star " in words and "red" not in words,
            "-keep": "keep" not in words,
            "st*": " st" in words,
            '"red star"': "red star" in words,
            "nothing": False,
        }[query.text]
        and (clip.trashed is not None) == query.trashed
        and clip.rating >= query.min_rating
        and query.model in (None, clip.model)
        and query.seed in (None, clip.seed)
        and set(query.tags) <= set(clip.tags)
        and query.favourite in (None, clip.favourite)
        and (query.missing is None or query.missing == (clip.missing is not None))
        and (first is None or first <= age_of(clip.created) <= last)
    )


def expected(everything, query):
    """(id, count) in order: the best clip of each stack, which stands where its newest, oldest or best one does."""
    stacks = {}
    for clip in everything:
        if matches(clip, query):
            stacks.setdefault(clip.stack if query.stacked else clip.id, []).append(clip)
    found = []
    for stack in stacks.values():
        ages = [age_of(clip.created) for clip in stack]
        best = max(stack, key=lambda clip: (clip.rating, clip.created))
        best_age = age_of(best.created)
        place = {
            "newest": -max(ages),
            "oldest": min(ages),
            "rating": (-best.rating, -best_age),
            "longest": (-best.duration, -best_age),
        }[query.sort]
        found.append((place, best.id, len(stack)))
    return [(clip_id, count) for _, clip_id, count in sorted(found)]


def pages(gallery, query, limit):
    page = find_clips(gallery, query, limit=limit)
    found = [page]
    while page.next is not None:
        page = find_clips(gallery, query, page.next, limit)
        found.append(page)
    return found


@pytest.mark.parametrize("many, glance", [(0, 10_000), (3, 4), (3, 60), (12, 60), (1_000, 10_000)])
def test_what_a_look_at_every_clip_gives(fill, monkeypatch, many, glance):
    monkeypatch.setattr("app.gallery.search._MANY", many)
    monkeypatch.setattr("app.gallery.search._GLANCE", glance)
    gallery = fill(*clips(random.Random(many + glance)))
    everything = (
        *find_clips(gallery, Query(), limit=1000).clips,
        *find_clips(gallery, Query(trashed=True), limit=1000).clips,
    )
    for sort in SORTS[:-1]:
        for text in TEXTS:
            for values in FILTERS:
                for stacked in (False, True):
                    query = Query(text=text, sort=sort, stacked=stacked, **values)
                    wanted = expected(everything, query)
                    for page in (found := pages(gallery, query, 7)):
                        assert (page.total, page.total_is_exact) == (found[0].total, found[0].total_is_exact), query
                        exact = page.total == len(wanted) if page.total_is_exact else many == page.total < len(wanted)
                        assert exact, query
                        assert page.total_is_exact or (stacked and text), query
                    assert [(clip.id, clip.count) for page in found for clip in page.clips] == wanted, query


def test_relevance_counts_every_stack(fill, monkeypatch):
    monkeypatch.setattr("app.gallery.search._MANY", 1)
    gallery = fill(*clips(random.Random(0)))
    query = Query(text="star", stacked=True)
    ranked = pages(gallery, replace(query, sort="relevance"), 5)
    found = [clip for page in ranked for clip in page.clips]
    newest = [clip for page in pages(gallery, query, 5) for clip in page.clips]
    assert {(clip.id, clip.count) for clip in found} == {(clip.id, clip.count) for clip in newest}
    assert all(page.total == len(found) and page.total_is_exact for page in ranked)


def test_a_word_that_too_many_have_is_walked_by_age(fill, monkeypatch):
    monkeypatch.setattr("app.gallery.search._MANY", 2)
    monkeypatch.setattr("app.gallery.search._FEW", 2)
    gallery = fill(*clips(random.Random(0)))
    query = Query(text="star", stacked=True)
    one, other = (pages(gallery, replace(query, sort=sort), 5) for sort in ("relevance", "newest"))
    assert [page.clips for page in one] == [page.clips for page in other]
    assert not one[0].total_is_exact and one[0].total == 2


def test_what_comes_meanwhile_does_not_shift_the_stacks(fill, monkeypatch):
    monkeypatch.setattr("app.gallery.search._MANY", 2)
    gallery = fill(*({"prompt": f"star {number // 2}"} for number in range(12)))
    query = Query(text="star", stacked=True)
    first = find_clips(gallery, query, limit=2)
    move_to_trash(gallery, "c11")
    second = find_clips(gallery, query, first.next, limit=9)
    assert [clip.id for clip in first.clips] == ["c11", "c9"]
    assert [(clip.id, clip.count) for clip in second.clips] == [("c7", 2), ("c5", 2), ("c3", 2), ("c1", 2)]


def test_only_stacks_of_a_text_may_be_uncounted(fill):
    gallery = fill({"prompt": "a red star"})
    for query in (Query(), Query(text="star"), Query(stacked=True), Query(stacked=True, text="star", sort="relevance")):
        with pytest.raises(RequestError, match="after is"):
            find_clips(gallery, query, f'["{query.sort}", 0, 1, null]')
