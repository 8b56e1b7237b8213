"""Where clips come from, and what changed on the way."""

from app.gallery.lineage import compare_clips, compare_recipes, find_children, find_parents
from app.gallery.trash import move_to_trash, purge
from app.recipes.recipe import Recipe
from lavie.request import Interpolation, Request, Sampling


def ids(clips):
    return [clip.id for clip in clips]


def test_a_family(shelf):
    for seed, (clip_id, parent) in enumerate([("a", None), ("b", "a"), ("c", "b"), ("d", "b")]):
        shelf.add(clip_id, seed=seed, parent=parent)
    gallery = shelf.gallery
    assert ids(find_parents(gallery, "d")) == ["b", "a"] and find_parents(gallery, "a") == []
    assert ids(find_children(gallery, "b")) == ["c", "d"] and find_children(gallery, "d") == []


def test_children_outlive_their_parents(shelf):
    for seed, (clip_id, parent) in enumerate([("a", None), ("b", "a"), ("c", "b")]):
        shelf.add(clip_id, seed=seed, parent=parent)
    gallery = shelf.gallery
    move_to_trash(gallery, "b")
    purge(gallery)
    assert gallery.get("c").parent == "b" and gallery.get("c").path.is_file()
    assert find_parents(gallery, "c") == [] and ids(find_children(gallery, "b")) == ["c"]


def test_a_circle_ends(shelf):
    shelf.add("a", seed=1, parent="b")
    shelf.add("b", seed=2, parent="a")
    shelf.add("c", seed=3, parent="c")
    assert ids(find_parents(shelf.gallery, "a")) == ["b"] and find_parents(shelf.gallery, "c") == []


def test_what_changed_has_readable_names(shelf):
    shelf.add("a", "a red star", seed=1, base=Sampling("ddim", 10))
    shelf.add("b", "a blue star", seed=2, base=Sampling("ddim", 20), interpolation=Interpolation(Sampling(steps=5)))
    assert compare_clips(shelf.gallery, "a", "b") == [
        ("prompt", "a red star", "a blue star"),
        ("seed", 1, 2),
        ("base: steps", 10, 20),
        ("interpolation", "off", "on"),
    ]
    assert compare_clips(shelf.gallery, "a", "a") == []


def test_what_surrounds_the_request_counts_too():
    on = Request("x", seed=1, interpolation=Interpolation(Sampling(steps=5)))
    more = Request("x", seed=1, interpolation=Interpolation(Sampling(steps=6)))
    this = Recipe(on, "nano", {"versions": {"torch": "1"}, "device": "cpu"}, frame_hash="a", created="yesterday")
    that = Recipe(more, "official", {"versions": {"torch": "2", "numpy": "3"}, "device": "cpu"}, app_version="9")
    assert dict((name, values) for name, *values in compare_recipes(this, that)) == {
        "interpolation: steps": [5, 6],
        "versions: torch": ["1", "2"],
        "versions: numpy": [None, "3"],
        "model": ["nano", "official"],
        "app version": [this.app_version, "9"],
    }
