"""The files alone are enough: the whole gallery again without its database."""

import json
import os
import shutil
import threading
from dataclasses import replace

import pytest

from app.gallery import Query
from app.gallery.rebuild import put_aside_if_damaged, rebuild
from app.gallery.search import find_clips
from app.gallery.sidecar import Sidecar, read_sidecar
from app.gallery.trash import move_to_trash
from app.storage.folder_lock import Ownership
from lavie.errors import RequestError, StorageError
from tests.app.gallery.videos import described, video


def test_a_lost_database_loses_nothing(shelf, tmp_path):
    shelf.add("a", parent="p", adapters={"cd" * 32: 0.5})
    shelf.add("b", seed=2)
    shelf.add("c", seed=3, path=tmp_path / "elsewhere" / "c.mp4")
    shelf.add("d", seed=4)
    before = described(shelf)
    move_to_trash(shelf.gallery, "b")
    (shelf.clips / "d.mp4").unlink()
    (shelf.clips / "deep").mkdir()
    os.replace(shelf.clips / "a.mp4", shelf.clips / "deep" / "x.mp4")
    clips = {clip_id: shelf.gallery.get(clip_id) for clip_id in "abcd"}
    shelf.lose_database()
    rebuilt = rebuild(shelf.gallery)
    assert (sorted(rebuilt.found), rebuilt.kept, rebuilt.skipped) == (list("abcd"), 0, ())
    assert shelf.gallery.get("a") == replace(before, path=shelf.clips / "deep" / "x.mp4")
    assert shelf.gallery.get("b") == clips["b"] and clips["b"].trashed
    assert shelf.gallery.get("c") == clips["c"]
    assert shelf.gallery.get("d").missing and replace(shelf.gallery.get("d"), missing=None) == clips["d"]
    assert find_clips(shelf.gallery, Query(text="日本 end")).total == 1
    again = rebuild(shelf.gallery)
    assert (again.found, again.kept, again.skipped) == ((), 4, ())


def test_files_without_sidecars_are_read_themselves(shelf):
    before = shelf.add("a", seed=5)
    (shelf.clips / "a.json").unlink()
    os.replace(shelf.clips / "a.mp4", shelf.clips / "not an id.mp4")
    shelf.add("b", seed=6)
    (shelf.clips / "b.json").unlink()
    shelf.lose_database()
    rebuilt = rebuild(shelf.gallery)
    assert len(rebuilt.found) == 2 and "b" in rebuilt.found
    (other,) = set(rebuilt.found) - {"b"}
    clip = shelf.gallery.get(other)
    assert (clip.recipe, clip.frame_hash, clip.stack) == (before.recipe, before.frame_hash, before.stack)
    assert (clip.width, clip.height, clip.frames, clip.fps, clip.file_hash) == (16, 16, 2, 8.0, before.file_hash)
    assert clip.created.startswith(before.recipe.created[:19])
    assert read_sidecar(shelf.clips / f"{other}.json").file == "clips/not an id.mp4"


def test_what_the_database_knows_stays(shelf):
    shelf.add("a")
    text = (shelf.clips / "a.json").read_text()
    shelf.gallery.rate("a", 5)
    (shelf.clips / "a.json").write_text(text)  # an old one, copied back
    assert rebuild(shelf.gallery).kept == 1
    assert shelf.gallery.get("a").rating == 5


def test_a_copy_is_no_second_clip_and_links_are_not_followed(shelf, tmp_path):
    clip = shelf.add("a")
    shutil.copy(clip.path, shelf.clips / "copy.mp4")
    video(tmp_path / "outside.mp4", clip.recipe_json, level=5)
    (shelf.clips / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (shelf.clips / "linked").symlink_to(tmp_path)
    (shelf.clips / ".hidden.mp4").write_bytes(b"half")
    rebuilt = rebuild(shelf.gallery)
    assert rebuilt.found == () and [(path.name, reason) for path, reason in rebuilt.skipped] == [
        ("copy.mp4", "it is a copy of a clip that the gallery has")
    ]


def deep(depth):
    return "[" * depth + "]" * depth


def hostile(recipe):
    """Name → the text in the file's comment."""
    data = json.loads(recipe)
    nested = {"a": 1}
    for _ in range(200):
        nested = {"a": nested}
    return {
        "none": "",
        "words": "made with love",
        "large": json.dumps({**data, "model": "x" * 1_000_000}),
        "huge": json.dumps({**data, "provenance": {"x": "y" * 600_000}}),
        "deep": deep(50_000),
        "nested": json.dumps({**data, "provenance": nested}),
        "list": "[1, 2]",
        "types": json.dumps({**data, "request": 7}),
        "prompt": json.dumps({**data, "request": {**data["request"], "prompt": ["x"]}}),
        "seedless": json.dumps({**data, "request": {**data["request"], "seed": None}}),
        "version": json.dumps({**data, "lavie_recipe": 99}),
        "truth": json.dumps({**data, "lavie_recipe": True}),
        "infinite": recipe.replace('"versions": {', '"x": 1e999, "versions": {'),
        "nan": recipe.replace('"versions": {', '"x": NaN, "versions": {'),
        "half": recipe.replace('"versions": {', '"x": "\\ud800", "versions": {'),
        "number": recipe.replace('"versions": {', '"x": ' + "9" * 5_000 + ', "versions": {'),
        "hash": json.dumps({**data, "frame_hash": "x" * 1_000}),
    }


def test_hostile_recipes_are_skipped_with_a_reason(shelf):
    clip = shelf.add("good")
    texts = hostile(clip.recipe_json)
    for level, (name, text) in enumerate(texts.items()):
        video(shelf.clips / f"{name}.mp4", text, level)
    (shelf.clips / "broken.mp4").write_bytes(b"no video")
    (shelf.clips / "empty.mp4").write_bytes(b"")
    rebuilt = rebuild(shelf.gallery)
    reasons = {path.stem: reason for path, reason in rebuilt.skipped}
    assert rebuilt.found == () and set(reasons) == {*texts, "broken", "empty"}
    assert reasons["none"] == "it carries no recipe" and "more than" in reasons["large"]
    assert all(0 < len(reason) < 400 and "\n" not in reason for reason in reasons.values())
    assert len(shelf.names()) == len(texts) + 4  # nothing was moved, nothing made


def test_hostile_sidecars_are_skipped_and_their_clips_kept(shelf):
    shelf.add("a")
    good = json.loads((shelf.clips / "a.json").read_text())
    shelf.lose_database()
    bad = {
        "id": "../../a",
        "file": "../../etc/x.mp4",
        "parent": "a/b",
        "tags": "keep",
        "rating": 9,
        "favourite": 1,
        "notes": 7,
        "created": "yesterday",
        "trashed": 5,
        "width": 1.5,
        "fps": 0,
        "bytes": -1,
        "seconds": "long",
        "file_hash": "x",
        "frame_hash": ["x"],
        "adapters": {"../x": 1.0},
        "recipe": {},
    }
    contents = {f"s-{name}": json.dumps({**good, "id": f"s-{name}", name: value}) for name, value in bad.items()}
    contents |= {"deep": deep(50_000), "words": "hello", "list": "[]", "other": json.dumps(good)}
    contents |= {"much": " " * (3 << 20)}
    for name, text in contents.items():
        (shelf.clips / f"{name}.json").write_text(text)
    (shelf.clips / "bytes.json").write_bytes(b"\xff\xfe")
    (shelf.clips / "link.json").symlink_to(shelf.clips / "a.json")
    rebuilt = rebuild(shelf.gallery)
    assert rebuilt.found == ("a",)
    assert {path.stem for path, _ in rebuilt.skipped} == {*contents, "bytes", "link"}


def test_a_damaged_sidecar_is_kept_aside_and_the_clip_keeps_its_id(shelf):
    shelf.add("a")
    shelf.lose_database()
    (shelf.clips / "a.json").write_text('{"half')
    assert rebuild(shelf.gallery).found == ("a",)
    assert shelf.names() == ["a.damaged", "a.json", "a.mp4"]
    assert (shelf.clips / "a.damaged").read_text() == '{"half'


def test_sidecars_survive_json(shelf):
    shelf.add("a", adapters={"cd" * 32: 0.5})
    described(shelf)
    sidecar = read_sidecar(shelf.clips / "a.json")
    assert Sidecar.from_json(sidecar.to_json()) == sidecar
    with pytest.raises(RequestError, match="schema 99"):
        Sidecar.from_json(sidecar.to_json().replace('"lavie_clip": 1', '"lavie_clip": 99'))
    with pytest.raises(RequestError, match="extra"):
        Sidecar.from_json(sidecar.to_json().replace('"lavie_clip": 1', '"extra": 0, "lavie_clip": 1'))


def test_a_damaged_database_is_put_aside_whole(shelf):
    shelf.add("a")
    shelf.database.close()
    database = shelf.folder / "studio.db"
    database.write_bytes(b"no database" * 1_000)
    (shelf.folder / "studio.db-wal").write_bytes(b"old")
    aside = put_aside_if_damaged(shelf.folder)
    assert aside.read_bytes() == b"no database" * 1_000 and not database.exists()
    assert aside.with_name(f"{aside.name}-wal").exists() or not (shelf.folder / "studio.db-wal").exists()
    shelf.open()
    assert rebuild(shelf.gallery).found == ("a",)
    assert put_aside_if_damaged(shelf.folder) is None


def test_a_damaged_database_stays_while_another_process_works_on_the_folder(shelf, owner):
    shelf.add("a")
    shelf.database.close()
    database = shelf.folder / "studio.db"
    database.write_bytes(b"no database" * 1_000)
    process = owner(shelf.folder)
    words = rf"is worked on by another studio or command \(process {process.pid} on .*\): close that studio"
    with pytest.raises(StorageError, match=words):
        put_aside_if_damaged(shelf.folder)
    assert database.read_bytes() == b"no database" * 1_000 and not list(shelf.folder.glob("studio.damaged*"))
    process.kill()
    process.wait()
    assert put_aside_if_damaged(shelf.folder).read_bytes() == b"no database" * 1_000
    assert not database.exists()
    with Ownership(shelf.folder).hold("it was not given back"):
        pass


def test_a_whole_database_is_rebuilt_beside_its_owner(shelf, owner):
    shelf.add("a")
    owner(shelf.folder)
    assert put_aside_if_damaged(shelf.folder) is None and rebuild(shelf.gallery).kept == 1


def test_a_read_only_gallery_shows_and_refuses(shelf):
    from app.gallery import Gallery
    from app.storage.database import Database

    shelf.add("a")
    database = Database(shelf.folder, read_only=True)
    gallery = Gallery(database, shelf.folder)
    assert find_clips(gallery, Query(text="star")).total == 1
    with pytest.raises(StorageError, match="reading only"):
        gallery.rate("a", 3)
    database.close()


def test_threads_change_one_clip_together(shelf):
    shelf.add("a")
    errors = []

    def work(number):
        try:
            for step in range(4):
                shelf.gallery.tag("a", f"{number}-{step}")
                find_clips(shelf.gallery, Query(text="star"))
        except Exception as error:
            errors.append(error)
        finally:
            shelf.database.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(shelf.gallery.get("a").tags) == 16
    assert set(read_sidecar(shelf.clips / "a.json").tags) == set(shelf.gallery.get("a").tags)
