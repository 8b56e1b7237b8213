"""Clips go in once, keep what people say of them, and say the same in the row and in the file beside them."""

import hashlib
import json
from dataclasses import replace

import pytest

from app.gallery import Gallery, Query
from app.gallery.lineage import find_parents
from app.gallery.search import count_values, find_clips
from app.gallery.sidecar import read_sidecar
from app.gallery.trash import move_to_trash, restore
from app.recipes.recipe import Recipe
from lavie.errors import RequestError, StorageError
from lavie.request import Interpolation, Request

NAMES = ['quote\'s and "doubles"', "emoji 🌟👍🏽", "مرحبا بالعالم", "../../etc/passwd", "a/b\\c", "日本語", "%_;--"]


def test_a_clip_has_what_it_was_made_with_and_what_its_file_is(shelf):
    new = shelf.new("a", "a red star", 7, interpolation=Interpolation(), parent="gone", adapters={"cd" * 32: 0.5})
    clip = shelf.gallery.put(shelf.gallery.describe(**new))
    content = new["path"].read_bytes()
    assert clip == shelf.gallery.get("a")
    assert (clip.prompt, clip.seed, clip.model, clip.stages) == ("a red star", 7, "nano", "base+interpolation")
    assert (clip.bytes, clip.file_hash) == (len(content), hashlib.sha256(content).hexdigest())
    assert (clip.path, clip.duration, clip.seconds, clip.parent) == (new["path"], 0.25, 1.5, "gone")
    assert (clip.adapters, clip.recipe) == ({"cd" * 32: 0.5}, new["recipe"])
    assert clip.created.endswith("+00:00") and clip.trashed is None and clip.missing is None
    json.dumps(clip.to_dict())


def test_paths_are_relative_where_the_folder_can_move(shelf, tmp_path):
    shelf.add("a")
    outside = shelf.add("b", path=tmp_path / "elsewhere" / "b.mp4")
    rows = shelf.database.query("SELECT id, path FROM clips ORDER BY pk")
    assert [row["path"] for row in rows] == ["clips/a.mp4", str(tmp_path / "elsewhere" / "b.mp4")]
    assert outside.path == tmp_path / "elsewhere" / "b.mp4"
    assert list((tmp_path / "elsewhere").iterdir()) == [outside.path]  # no sidecar in a folder that is not ours
    assert shelf.names() == ["a.json", "a.mp4", "b.json"]


def test_the_same_id_is_the_same_clip(shelf):
    first = shelf.add("a")
    shelf.gallery.rate("a", 4)
    shelf.gallery.tag("a", "keep")
    again = shelf.add("a", prompt="a blue star", seed=9)
    assert find_clips(shelf.gallery, Query()).total == 1
    assert (again.rating, again.tags, again.created) == (4, ("keep",), first.created)
    assert (again.prompt, again.seed) == ("a blue star", 9) and again.file_hash != first.file_hash
    assert find_clips(shelf.gallery, Query(text="blue keep")).total == 1
    assert find_clips(shelf.gallery, Query(text="red")).total == 0


def test_a_clip_is_part_of_the_transaction_it_is_added_in(shelf):
    new = shelf.new("a")
    with pytest.raises(ZeroDivisionError), shelf.database.write() as connection:
        shelf.gallery.put(shelf.gallery.describe(**new))
        connection.execute("UPDATE settings SET value = 1")
        raise ZeroDivisionError
    assert shelf.gallery.get("a") is None
    with shelf.database.write():
        shelf.gallery.put(shelf.gallery.describe(**new))
    assert shelf.gallery.get("a") is not None


@pytest.mark.parametrize("clip_id", ["", "../a", "a/b", "a.b", "a\0", "*", "x" * 101, "é", None, 7])
def test_an_id_that_is_no_name_of_a_file_is_refused(shelf, clip_id):
    new = shelf.new("a")
    with pytest.raises(RequestError, match="none of ours"):
        shelf.gallery.put(shelf.gallery.describe(**{**new, "clip_id": clip_id}))


def test_a_recipe_without_a_seed_and_a_file_that_is_not_there_are_refused(shelf):
    new = shelf.new("a")
    with pytest.raises(RequestError, match="has no seed"):
        shelf.gallery.put(shelf.gallery.describe(**{**new, "recipe": Recipe(Request("x"), "nano")}))
    new["path"].unlink()
    with pytest.raises(StorageError, match=r"a\.mp4 cannot be read"):
        shelf.gallery.put(shelf.gallery.describe(**new))
    assert shelf.gallery.get("a") is None


def test_clips_that_differ_in_the_seed_alone_share_a_stack(shelf):
    def stack(**values):
        new = shelf.new("x", **values)
        return shelf.gallery.put(shelf.gallery.describe(**{**new, **changed})).stack

    changed = {}
    first = stack(seed=1)
    assert stack(seed=2) == first
    assert stack(prompt="a blue star") != first and stack(fps=9.0) != first
    changed = {"adapters": {"cd" * 32: 1.0}}
    assert stack() != first
    recipe = shelf.new("x")["recipe"]
    changed = {"recipe": replace(recipe, model="official")}
    assert stack() != first
    changed = {"recipe": replace(recipe, provenance={"weights": {"base": "ef" * 32}})}
    assert stack() != first
    changed = {"recipe": replace(recipe, provenance={**recipe.provenance, "device": "cuda"})}
    assert stack() == first


def test_the_sidecar_says_what_the_row_says(shelf):
    shelf.add("a", parent="p", adapters={"cd" * 32: 0.5})
    gallery = shelf.gallery
    gallery.tag("a", "keep", *NAMES)
    gallery.rate("a", 5)
    gallery.favourite("a")
    gallery.note("a", "first line\nsecond ★")
    move_to_trash(gallery, "a")
    clip, sidecar = gallery.get("a"), read_sidecar(shelf.clips / "a.json")
    for name in ("id", "parent", "tags", "rating", "favourite", "notes", "created", "trashed", "file_hash", "adapters"):
        assert getattr(sidecar, name) == getattr(clip, name), name
    assert sidecar.recipe == clip.recipe and sidecar.file == "clips/a.mp4"
    assert clip.tags == ("keep", *NAMES) and clip.notes == "first line\nsecond ★"


def test_a_change_that_fails_leaves_row_and_file_as_they_were(shelf, monkeypatch):
    shelf.add("a")
    before = (shelf.clips / "a.json").read_text()

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(Exception, match="disk is full"):
        shelf.gallery.rate("a", 5)
    assert shelf.gallery.get("a").rating == 0
    assert (shelf.clips / "a.json").read_text() == before
    assert shelf.names() == ["a.json", "a.mp4"]


def test_tags_come_and_go(shelf):
    gallery = shelf.gallery
    for clip_id, seed in (("a", 1), ("b", 2)):
        shelf.add(clip_id, seed=seed)
    gallery.tag("a", "  for   the film ", "keep", "keep")
    gallery.tag("b", "keep")
    assert gallery.get("a").tags == ("for the film", "keep")
    assert count_values(gallery, "tag") == {"keep": 2, "for the film": 1}
    assert gallery.untag("a", "keep", "unknown").tags == ("for the film",)
    move_to_trash(gallery, "a")
    assert count_values(gallery, "tag") == {"keep": 1}
    assert count_values(gallery, "model") == {"nano": 1} and count_values(gallery, "stages") == {"base": 1}
    with pytest.raises(RequestError, match="choose model"):
        count_values(gallery, "seed; DROP TABLE clips")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda gallery: gallery.rate("a", 6), "rating is 6"),
        (lambda gallery: gallery.rate("a", -1), "rating is -1"),
        (lambda gallery: gallery.rate("a", True), "rating is True"),
        (lambda gallery: gallery.rate("a", "5"), "rating is '5'"),
        (lambda gallery: gallery.tag("a", " "), "is empty"),
        (lambda gallery: gallery.tag("a", "x" * 10_000), "10000 characters: shorten"),
        (lambda gallery: gallery.tag("a", "bell\a"), "cannot be shown"),
        (lambda gallery: gallery.tag("a", "half \ud800"), "cannot be shown"),
        (lambda gallery: gallery.tag("a", *map(str, range(101))), "101 tags"),
        (lambda gallery: gallery.tag("a", 7), "no text"),
        (lambda gallery: gallery.note("a", "half \ud800"), "no text"),
        (lambda gallery: gallery.note("a", "x" * 100_001), "100001 characters"),
        (lambda gallery: gallery.note("a", None), "no text"),
    ],
)
def test_what_cannot_be_kept_is_refused(shelf, change, words):
    shelf.add("a")
    before = shelf.gallery.get("a")
    with pytest.raises(RequestError, match=words):
        change(shelf.gallery)
    assert shelf.gallery.get("a") == before


def test_long_notes_and_any_name_are_kept(shelf):
    shelf.add("a", prompt="x" * 4000)
    notes = "عربي 🌟\n" * 1_500
    assert len(notes) > 10_000
    shelf.gallery.note("a", notes)
    assert shelf.gallery.get("a").notes == notes
    for name in NAMES:
        shelf.gallery.tag("a", name)
        assert find_clips(shelf.gallery, Query(tags=(name,))).total == 1, name
    assert set(count_values(shelf.gallery, "tag")) == set(NAMES)


def test_an_unknown_id_is_named(gallery):
    assert gallery.get("nobody") is None and gallery.get("../x") is None
    for command in (move_to_trash, restore, Gallery.favourite, find_parents, lambda gallery, id: gallery.rate(id, 1)):
        with pytest.raises(RequestError, match="no clip 'nobody'"):
            command(gallery, "nobody")


def test_clips_of_one_moment_are_all_kept_in_order(shelf, monkeypatch):
    monkeypatch.setattr("app.gallery.gallery.now", lambda: "2026-01-01T00:00:00.000000+00:00")
    for seed, clip_id in enumerate("abcd"):
        shelf.add(clip_id, seed=seed)
    assert [clip.id for clip in find_clips(shelf.gallery, Query(sort="oldest")).clips] == list("abcd")
    assert shelf.gallery.get("d").created == "2026-01-01T00:00:00.000003+00:00"


def test_pictures_are_made_once(shelf):
    clip = shelf.add("a")
    shelf.gallery.add_pictures("a", clip.path)
    pictures = [shelf.gallery.poster("a"), shelf.gallery.preview("a")]
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in pictures)
    for path in pictures:
        path.write_bytes(b"mine")
    shelf.gallery.add_pictures("a", clip.path)
    assert [path.read_bytes() for path in pictures] == [b"mine"] * 2
