"""Clips leave in one zip and come back each once; a zip made to do harm does none."""

import json
import os
import stat
import zipfile

import pytest

from app.gallery import Gallery, Query
from app.gallery.exchange import export_zip, import_zip
from app.gallery.rebuild import check_files
from app.gallery.search import find_clips
from app.media import read_recipe
from lavie.errors import MediaError, RequestError, StorageError


@pytest.fixture
def full(shelf):
    """Three clips, a parent and its children among them, described in every way."""
    shelf.add("a", seed=1)
    shelf.add("b", "ein blauer Stern ★", seed=2, parent="a", adapters={"cd" * 32: 0.5})
    shelf.add("c", seed=3, parent="b")
    shelf.gallery.tag("b", "keep", '"日本" ../x')
    shelf.gallery.rate("b", 4)
    shelf.gallery.note("b", "look\nagain")
    return shelf


def write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_gallery_moves_to_another_place(full, make_shelf, tmp_path):
    target = tmp_path / "all.zip"
    exported = export_zip(full.gallery, target)
    assert (exported.path, exported.clips, exported.left_out) == (target, ("a", "b", "c"), ())
    other = make_shelf("other")
    imported = import_zip(other.gallery, target)
    assert (imported.new, imported.kept, imported.renamed, imported.skipped) == (("a", "b", "c"), (), {}, ())
    for clip_id in "abc":
        here, there = other.gallery.get(clip_id), full.gallery.get(clip_id)
        assert {**vars(here), "path": 0} == {**vars(there), "path": 0}
        assert here.path.read_bytes() == there.path.read_bytes()
    assert other.names() == full.names()
    assert list((other.folder / "work" / "imports").iterdir()) == []


def test_what_goes_into_the_zip_can_be_chosen(full, tmp_path):
    target = tmp_path / "some.zip"
    assert export_zip(full.gallery, target, ["c", "a", "c"]).clips == ("c", "a")
    assert export_zip(full.gallery, target, Query(tags=("keep",))).clips == ("b",)
    assert zipfile.ZipFile(target).namelist() == ["clips/b.mp4", "clips/b.json"]
    with pytest.raises(RequestError, match="no clip 'x'"):
        export_zip(full.gallery, target, ["x"])
    full.gallery.get("a").path.unlink()
    exported = export_zip(full.gallery, target, ["a", "b"])
    assert exported.clips == ("b",) and exported.left_out[0][0] == "a"


def test_a_clean_copy_tells_nothing(full, make_shelf, tmp_path):
    target = tmp_path / "clean.zip"
    export_zip(full.gallery, target, ["b"], clean=True)
    content = b""
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["clips/b.mp4"]
        content = archive.read("clips/b.mp4")
    (tmp_path / "b.mp4").write_bytes(content)
    assert read_recipe(tmp_path / "b.mp4") is None and b"Stern" not in content and b"nano" not in content
    imported = import_zip(make_shelf("other").gallery, target)
    assert imported.new == () and imported.skipped == (("clips/b", "it carries no recipe"),)


@pytest.mark.parametrize("clean", [False, True])
def test_an_export_that_fails_leaves_the_old_one(full, tmp_path, monkeypatch, clean):
    target = tmp_path / "out" / "all.zip"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def refuse(*arguments, **values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", refuse)
    with pytest.raises(MediaError, match="disk is full"):
        export_zip(full.gallery, target, clean=clean)
    assert target.read_bytes() == b"old" and os.listdir(target.parent) == ["all.zip"]
    with pytest.raises(MediaError, match=r"\.zip"):
        export_zip(full.gallery, tmp_path / "all.mp4")


def test_the_same_clip_is_kept_once_whatever_it_is_called(full, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    imported = import_zip(full.gallery, target)
    assert imported.new == () and imported.kept == ("a", "b", "c") and find_clips(full.gallery, Query()).total == 3
    with zipfile.ZipFile(target) as archive:
        content = archive.read("clips/a.mp4")
    twice = write(tmp_path / "twice.zip", [("clips/x.mp4", content), ("clips/y.mp4", content)])
    imported = import_zip(full.gallery, twice)
    assert imported.new == () and imported.kept == ("a",) and imported.renamed == {"x": "a", "y": "a"}


def test_another_clip_of_the_same_id_comes_under_a_new_one_and_its_children_know(full, make_shelf, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    other = make_shelf("other")
    mine = other.add("b", "mine", seed=9)
    imported = import_zip(other.gallery, target)
    new = imported.renamed["b"]
    assert imported.new == ("a", new, "c") and other.gallery.get("b") == mine
    assert other.gallery.get(new).tags == ("keep", '"日本" ../x') and other.gallery.get(new).parent == "a"
    assert other.gallery.get("c").parent == new
    assert import_zip(other.gallery, target).new == ()  # and once more


def test_a_missing_clip_gets_its_file_back(full, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    before = full.gallery.get("b")
    before.path.unlink()
    check_files(full.gallery)
    imported = import_zip(full.gallery, target)
    assert imported.new == () and full.gallery.get("b") == before and before.path.is_file()


def test_an_import_that_was_killed_is_begun_anew(full, make_shelf, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    other = make_shelf("other")
    import_zip(other.gallery, target)
    with other.database.write() as connection:
        connection.execute("DELETE FROM clips")  # as if the rows had never become certain
    imported = import_zip(other.gallery, target)
    assert imported.new == ("a", "b", "c") and imported.renamed == {} and other.names() == full.names()


def test_an_import_that_fails_leaves_nothing(full, make_shelf, tmp_path, monkeypatch):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    other = make_shelf("other")
    other.add("mine", seed=9)
    put, calls = Gallery.put, []

    def refuse(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise StorageError("the disk is full")
        return put(*arguments)

    monkeypatch.setattr(Gallery, "put", refuse)
    with pytest.raises(StorageError, match="full"):
        import_zip(other.gallery, target)
    assert other.names() == ["mine.json", "mine.mp4"] and find_clips(other.gallery, Query()).total == 1


@pytest.mark.parametrize(
    "name",
    [
        "../a.mp4",
        "clips/../../a.mp4",
        "/etc/a.mp4",
        "..\\a.mp4",
        "C:\\a.mp4",
        "C:/a.mp4",
        "\\\\host\\a.mp4",
        "clips/..",
    ],
)
def test_names_that_lead_elsewhere_are_refused(full, tmp_path, name):
    good = full.gallery.get("a").path.read_bytes()
    hostile = write(tmp_path / "x.zip", [("clips/z.mp4", good), (name, good)])
    before = files_of(tmp_path)
    with pytest.raises(MediaError, match="leads elsewhere: it is refused"):
        import_zip(full.gallery, hostile)
    assert files_of(tmp_path) == before


def test_links_and_doubles_are_refused(full, tmp_path):
    link = zipfile.ZipInfo("clips/z.mp4")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(MediaError, match="a link or a device"):
        import_zip(full.gallery, write(tmp_path / "x.zip", [(link, "/etc/passwd")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = write(tmp_path / "y.zip", [("clips/z.mp4", "1"), ("clips/z.mp4", "2")])
    with pytest.raises(MediaError, match="twice"):
        import_zip(full.gallery, twice)


def test_bombs_are_refused_before_they_go_off(full, tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clips/z.mp4", bytes(30 << 20))
    with pytest.raises(MediaError, match="unpack to 31457280 bytes"):
        import_zip(full.gallery, bomb)


def test_a_zip_larger_than_the_disk_is_refused(full, tmp_path, monkeypatch):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(StorageError, match="has room for 10"):
        import_zip(full.gallery, target)


def test_what_is_no_zip_is_refused(full, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "folder.zip").mkdir()
    for name in ("x.zip", "empty.zip", "folder.zip", "absent.zip"):
        with pytest.raises(MediaError, match="cannot be read"):
            import_zip(full.gallery, tmp_path / name)


def test_one_bad_member_does_not_stop_the_others(full, make_shelf, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    with zipfile.ZipFile(target) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    good = dict(members)
    lying = {**json.loads(good["clips/a.json"]), "rating": 5, "file_hash": "0" * 64}
    members += [
        ("clips/alone.json", good["clips/a.json"]),
        ("clips/bad.mp4", b"no video"),
        ("clips/long.mp4", good["clips/b.mp4"]),
        ("clips/long.json", b" " * (3 << 20)),
        ("README.txt", b"hello"),
        ("clips/deeper/x.mp4", good["clips/a.mp4"]),
    ]
    members = [(name, json.dumps(lying) if name == "clips/a.json" else content) for name, content in members]
    other = make_shelf("other")
    imported = import_zip(other.gallery, write(tmp_path / "mixed.zip", members))
    assert imported.new == ("a", "b", "c")
    assert dict(imported.skipped).keys() == {"clips/alone", "clips/bad", "clips/long"}
    assert other.gallery.get("a").rating == 0  # its sidecar told of another file
    assert other.names() == full.names()


def test_a_damaged_member_is_skipped(full, make_shelf, tmp_path):
    target = tmp_path / "all.zip"
    export_zip(full.gallery, target)
    content = bytearray(target.read_bytes())
    content[200] ^= 0xFF  # within the first clip
    target.write_bytes(content)
    imported = import_zip(make_shelf("other").gallery, target)
    assert imported.new == ("b", "c") and "CRC" in dict(imported.skipped)["clips/a"]
