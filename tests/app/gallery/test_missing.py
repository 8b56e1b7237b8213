"""Files that are gone, come back, or are others than they were."""

import os
from dataclasses import replace

import pytest

from app.gallery import Query
from app.gallery.files import hash_file
from app.gallery.rebuild import check_file, check_files
from app.gallery.search import find_clips
from app.gallery.sidecar import read_sidecar
from lavie.errors import RequestError
from tests.app.gallery.videos import described, video


def test_a_file_that_is_gone_is_missing_and_comes_back_under_any_name(shelf):
    shelf.add("a")
    shelf.add("b", seed=2)
    before = described(shelf)
    os.replace(shelf.clips / "a.mp4", shelf.folder / "away.mp4")
    assert check_files(shelf.gallery).missing == ("a",)
    gone = shelf.gallery.get("a")
    assert gone.missing and find_clips(shelf.gallery, Query(missing=True)).total == 1
    assert check_files(shelf.gallery).missing == ("a",) and shelf.gallery.get("a").missing == gone.missing
    (shelf.clips / "deep" / "er").mkdir(parents=True)
    target = shelf.clips / "deep" / "er" / 'it\'s "mine" ★ مرحبا.MP4'
    os.replace(shelf.folder / "away.mp4", target)
    assert check_files(shelf.gallery).found == ("a",)
    assert shelf.gallery.get("a") == replace(before, path=target)
    assert read_sidecar(shelf.clips / "a.json").file == target.relative_to(shelf.folder).as_posix()
    assert check_files(shelf.gallery) == type(check_files(shelf.gallery))((), ())


def test_a_file_moved_back_is_found_and_another_in_its_place_is_not(shelf):
    shelf.add("a")
    os.replace(shelf.clips / "a.mp4", shelf.folder / "away.mp4")
    check_files(shelf.gallery)
    video(shelf.clips / "a.mp4", "", level=9)
    assert check_files(shelf.gallery).missing == ("a",)
    os.replace(shelf.folder / "away.mp4", shelf.clips / "a.mp4")
    assert check_files(shelf.gallery).found == ("a",)
    assert shelf.gallery.get("a").missing is None


def test_a_file_made_again_with_the_same_recipe_takes_the_place_of_the_lost(shelf):
    clip = shelf.add("a")
    clip.path.unlink()
    check_files(shelf.gallery)
    video(clip.path, clip.recipe_json, level=77)
    assert check_files(shelf.gallery).found == ("a",)
    again = shelf.gallery.get("a")
    assert again.missing is None and again.file_hash != clip.file_hash and again.bytes == clip.path.stat().st_size


def test_one_clip_is_looked_at_alone(shelf):
    clip, other = shelf.add("a"), shelf.add("b", seed=2)
    other.path.unlink()
    assert check_file(shelf.gallery, "a") and shelf.gallery.get("a") == clip
    clip.path.unlink()
    assert not check_file(shelf.gallery, "a") and shelf.gallery.get("a").missing
    video(clip.path, "somebody else's", level=9)
    assert not check_file(shelf.gallery, "a") and shelf.gallery.get("a").missing
    video(clip.path, clip.recipe_json, level=77)
    assert check_file(shelf.gallery, "a")
    again = shelf.gallery.get("a")
    assert again.missing is None and again.file_hash == hash_file(clip.path) != clip.file_hash
    assert shelf.gallery.get("b") == other  # nobody looked
    with pytest.raises(RequestError, match="no clip 'x'"):
        check_file(shelf.gallery, "x")
