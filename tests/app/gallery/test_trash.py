"""Deleting is undone at will; purging removes what is ours and nothing else, and can be killed at any point."""

import os

import pytest

from app.gallery import Query, trash
from app.gallery.rebuild import check_files
from app.gallery.search import find_clips
from app.gallery.trash import move_to_trash, purge, restore
from lavie.errors import RequestError, StorageError


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def trashed(shelf):
    """A shelf with a clip in the trash that has all the files a clip can have."""
    clip = shelf.add("a")
    shelf.gallery.add_pictures("a", clip.path)
    shelf.gallery.tag("a", "keep")
    move_to_trash(shelf.gallery, "a")
    return shelf


def in_trash(shelf):
    folder = shelf.folder / "trash"
    return list(folder.iterdir()) if folder.exists() else []


ALL = ["a.json", "a.mp4", "a.poster.webp", "a.preview.webp"]


def test_deleting_moves_no_file_and_is_undone(trashed):
    gallery = trashed.gallery
    assert trashed.names() == ALL
    assert find_clips(gallery, Query()).total == 0 and [
        clip.id for clip in find_clips(gallery, Query(trashed=True)).clips
    ] == ["a"]
    since = gallery.get("a").trashed
    assert move_to_trash(gallery, "a").trashed == since
    assert restore(gallery, "a").trashed is None
    assert restore(gallery, "a").tags == ("keep",)
    assert find_clips(gallery, Query(text="keep")).total == 1 and find_clips(gallery, Query(trashed=True)).total == 0


def test_purging_removes_everything_of_the_clip_and_of_no_other(trashed):
    trashed.add("ab", seed=2)
    (trashed.clips / "mine.txt").write_text("mine")
    assert purge(trashed.gallery) == ["a"]
    assert trashed.names() == ["ab.json", "ab.mp4", "mine.txt"]
    assert trashed.gallery.get("a") is None and in_trash(trashed) == []
    for table in ("clip_tags", "clip_recipes", "clips_text"):
        column = "words" if table == "clips_text" else "clip"
        assert len(trashed.database.query(f"SELECT {column} FROM {table}")) == (0 if table == "clip_tags" else 1)
    assert purge(trashed.gallery) == []


def test_only_what_is_in_the_trash_is_purged_and_all_or_nothing_is_begun(trashed):
    trashed.add("b", seed=2)
    for ids in (["a", "b"], ["a", "unknown"]):
        with pytest.raises(RequestError, match=r"b is not in the trash|no clip 'unknown'"):
            purge(trashed.gallery, ids)
    assert trashed.gallery.get("a") is not None and "a.mp4" in trashed.names()
    assert purge(trashed.gallery, ["a", "a"]) == ["a"]


def test_files_outside_the_folder_are_never_touched(shelf, tmp_path):
    outside = tmp_path / "mine" / "film.mp4"
    shelf.add("a", path=outside)
    beside = tmp_path / "mine" / "a.json"
    beside.write_text("mine")
    shelf.add("b", seed=2)
    target = tmp_path / "mine" / "linked.mp4"
    os.replace(shelf.clips / "b.mp4", target)
    (shelf.clips / "b.mp4").symlink_to(target)
    for clip_id in "ab":
        move_to_trash(shelf.gallery, clip_id)
    assert purge(shelf.gallery) == ["a", "b"]
    assert outside.is_file() and beside.read_text() == "mine" and target.is_file()
    assert shelf.names() == []


def test_a_file_renamed_to_another_clips_name_stays_that_clips(shelf):
    shelf.add("a")
    shelf.add("b", "a prompt that is longer", seed=2)
    (shelf.clips / "a.mp4").unlink()
    os.replace(shelf.clips / "b.mp4", shelf.clips / "a.mp4")
    check_files(shelf.gallery)
    assert shelf.gallery.get("b").path == shelf.clips / "a.mp4"
    move_to_trash(shelf.gallery, "a")
    purge(shelf.gallery)
    assert shelf.names() == ["a.mp4", "b.json"] and shelf.gallery.get("b").path.is_file()
    move_to_trash(shelf.gallery, "b")
    purge(shelf.gallery)
    assert shelf.names() == []


@pytest.mark.parametrize("step", range(6))
def test_a_purge_killed_at_any_step_loses_nothing_or_everything(trashed, monkeypatch, step):
    """Steps 0 … 3 are the moves of the files, 4 is the moment before the rows are certain, 5 that after."""
    calls = 0

    def killed(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls > step:
                raise Killed
            return function(*arguments)

        return call

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("app.gallery.trash.move", killed(trash.move))
        patched.setattr("app.gallery.trash.age_of", killed(trash.age_of))
        patched.setattr("app.gallery.trash._remove", killed(lambda folder: None))
        purge(trashed.gallery)
    trashed.database.close()
    trashed.open()
    if step < 5:
        assert restore(trashed.gallery, "a").tags == ("keep",)
        assert trashed.names() == ALL and not check_files(trashed.gallery).missing
    else:
        assert trashed.gallery.get("a") is None and trashed.names() == []
        purge(trashed.gallery)
    assert in_trash(trashed) == []


def test_a_second_purge_ends_what_the_first_began(trashed, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("app.gallery.trash.age_of", lambda created: (_ for _ in ()).throw(Killed))
        purge(trashed.gallery)
    assert trashed.names() == []  # half-way: the files are out, the row is there
    assert purge(trashed.gallery) == ["a"]
    assert trashed.gallery.get("a") is None and in_trash(trashed) == []


def test_a_disk_that_refuses_leaves_the_clip_whole(trashed, monkeypatch):
    replace, calls = os.replace, []

    def refuse(source, target):
        calls.append(source)
        if len(calls) == 3:
            raise OSError(13, "Permission denied")
        return replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", refuse)
        with pytest.raises(StorageError, match="Permission denied"):
            purge(trashed.gallery)
    assert trashed.names() == ALL and trashed.gallery.get("a").trashed


def test_a_missing_clip_can_be_purged(trashed):
    (trashed.clips / "a.mp4").unlink()
    check_files(trashed.gallery)
    assert purge(trashed.gallery) == ["a"] and trashed.names() == []
