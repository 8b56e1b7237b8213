"""A person's folder: every layout is read, and each thing that can be wrong is left out with its reason."""

import tarfile

import pytest

from app.media import UPLOAD_LIMITS, frames_of
from lavie.errors import TrainingError
from lavie.training.data.cuts import Cut, Unusable
from lavie.training.data.encoded import summary
from lavie.training.data.items import Fault, Member, find_items, list_members
from tests.training.folders import clip, write_clip, write_picture, write_shard, write_table


def pairs(folder):
    items, faults = find_items(folder)
    assert faults == []
    return {item.name: item.caption for item in items}


def the_fault(folder) -> Fault:
    items, faults = find_items(folder)
    assert items == [] and len(faults) == 1
    return faults[0]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("metadata.csv", ("file_name", "text")),
        ("metadata.jsonl", ("file_name", "text")),
        ("webvid.csv", ("path", "caption")),
    ],
)
def test_a_table_names_files_and_captions(tmp_path, table, columns):
    write_picture(tmp_path / "deep/a.png", 1)
    write_table(tmp_path / table, [("deep/a.png", "a, “red” square")], columns)
    assert pairs(tmp_path) == {"deep/a.png": "a, “red” square"}


def test_a_caption_may_stand_beside_its_file(tmp_path):
    write_picture(tmp_path / "deep/a.png", 1).with_suffix(".txt").write_text("\ufeffa red square\n")
    (tmp_path / "README.md").write_text("not a medium")
    (tmp_path / ".hidden.png").write_bytes(b"not looked at")
    assert pairs(tmp_path) == {"deep/a.png": "a red square"}


@pytest.mark.parametrize(
    ("name", "caption"), [("0.txt", b"a red square\n"), ("0.json", b'{"caption": "a red square"}')]
)
def test_a_shard_holds_media_beside_their_captions(tmp_path, name, caption):
    picture = write_picture(tmp_path / "x/a.png", 1).read_bytes()
    write_shard(tmp_path / "data/shard-000.tar", {"0.png": picture, name: caption})
    (tmp_path / "x/a.png").unlink()
    items, faults = find_items(tmp_path)
    assert faults == []
    assert [(item.name, item.caption, item.is_picture) for item in items] == [
        ("data/shard-000.tar: 0.png", "a red square", True)
    ]
    with items[0].file() as path:
        assert path.read_bytes() == picture
        assert path.name == "medium"
    assert not path.exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname.png", "link.png"])
def test_a_table_cannot_lead_out_of_the_folder(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    secret = write_picture(tmp_path / "secret.png", 1)
    if name == "link.png":
        (folder / name).symlink_to(secret)
    write_table(folder / "metadata.csv", [(name, "a caption")])
    assert the_fault(folder) == Fault(name, "it lies outside the folder")


@pytest.mark.parametrize(
    ("name", "caption", "kind"),
    [
        ("gone.mp4", "a caption", "the file is missing"),
        ("there.png", "", "its caption is empty"),
        ("there.png", " \t", "its caption is empty"),
        ("there.xyz", "a caption", "it is neither a picture nor a video"),
        ("", "a caption", "no file is named"),
        ("a" * 5000 + ".png", "a caption", "its name is none"),
    ],
)
def test_a_row_that_is_wrong_is_left_out(tmp_path, name, caption, kind):
    if name.startswith("there"):
        write_picture(tmp_path / "there.png", 1).rename(tmp_path / name)
    write_table(tmp_path / "metadata.csv", [(name, caption)])
    assert the_fault(tmp_path).kind == kind


def test_lines_that_are_no_rows_are_named(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"\n[1]\n{"other": 1}\n\n')
    _, faults = find_items(tmp_path)
    assert [(fault.name, fault.kind[:11]) for fault in faults] == [
        ("metadata.jsonl line 1", "the line is"),
        ("metadata.jsonl line 2", "the line is"),
        ("metadata.jsonl line 3", "no column f"),
    ]


def test_a_table_that_is_no_text_is_named(tmp_path):
    (tmp_path / "metadata.csv").write_bytes(b"file_name,text\n\xff\xfe,x\n")
    assert the_fault(tmp_path).kind == "the table cannot be read"


def test_a_medium_without_a_caption_is_not_passed_over_in_silence(tmp_path):
    write_picture(tmp_path / "a.png", 1)
    assert the_fault(tmp_path) == Fault("a.png", "it has no caption")


def test_what_is_no_plain_file_in_a_shard_is_left_out(tmp_path):
    link = tarfile.TarInfo("1.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("2.png")
    device.type = tarfile.CHRTYPE
    shard = write_shard(tmp_path / "a.tar", {"../../0.png": b"x", "../../0.txt": b"a caption"}, link, device)
    found = list(list_members(shard))
    assert [each for each in found if not isinstance(each, Member)] == [
        ("1.png", "it is no plain file"),
        ("2.png", "it is no plain file"),
    ]
    # A name that climbs is only a name: nothing is written by it.
    assert [item.name for item in find_items(tmp_path)[0]] == ["a.tar: ../../0.png"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar"]


@pytest.mark.parametrize("length", [0.4, 0.95])
def test_a_shard_that_is_cut_short_gives_what_is_whole(tmp_path, length):
    parts = {f"{number}{ending}": b"a caption" * 100 for number in range(4) for ending in (".png", ".txt")}
    shard = write_shard(tmp_path / "a.tar", parts)
    whole = shard.read_bytes()
    used = 8 * (512 + 1024)
    shard.write_bytes(whole[: int(length * used)])
    items, faults = find_items(tmp_path)
    assert 0 < len(items) < 4
    assert any("cut short" in fault.kind or "cannot be read" in fault.kind for fault in faults)


def test_a_file_that_only_looks_like_a_shard_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    assert the_fault(tmp_path).kind.startswith("the shard cannot be read")


def test_what_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="gone is no folder"):
        find_items(tmp_path / "gone")


def test_a_source_gives_whole_clips_one_behind_the_other(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 1, frames=11)
    clips = Cut(3, 32, 16, stride=2).clips(frames_of(path, UPLOAD_LIMITS))
    assert [each.shape for each in clips] == [(3, 16, 32, 3)] * 2
    assert len(Cut(3, 32, 16).clips(frames_of(path, UPLOAD_LIMITS))) == 3
    assert len(Cut(3, 32, 16, most=2).clips(frames_of(path, UPLOAD_LIMITS))) == 2


@pytest.mark.parametrize(("frames", "stride", "fits"), [(7, 3, True), (6, 3, False), (3, 1, True), (2, 1, False)])
def test_a_source_of_just_enough_frames_is_long_enough(frames, stride, fits):
    source = iter(clip(1, frames).frames)
    if fits:
        assert len(Cut(3, 32, 16, stride).clips(source)) == 1
    else:
        with pytest.raises(Unusable, match="too short"):
            Cut(3, 32, 16, stride).clips(source)


@pytest.mark.parametrize("size", [(48, 48), (90, 16), (16, 90), (31, 17)])
def test_mixed_sizes_are_cut_about_their_middle(size):
    frame = clip(1, 1, *size).frames[0] * 0
    height, width = frame.shape[:2]
    frame[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 255
    fitted = Cut(1, 32, 16).fit(frame)
    assert fitted.shape == (16, 32, 3)
    ys, xs = (fitted[..., 0] > 127).nonzero()
    assert abs(ys.mean() - 7.5) < 1.1 and abs(xs.mean() - 15.5) < 1.1


def test_a_small_source_is_not_blown_up_where_detail_is_learned():
    with pytest.raises(Unusable, match="too small"):
        Cut(1, 64, 32, enlarge=False).clips(iter(clip(1).frames))


def test_the_summary_counts_reasons_and_names_a_few():
    faults = [Fault(f"{n}.png", "its caption is empty") for n in range(5)]
    faults.append(Fault("b.mp4", "it is too short", "2 of 4"))
    assert summary(faults, 4) == (
        "6 of 10 left out: 5 × its caption is empty (0.png, 1.png, 2.png, 2 more); 1 × it is too short (b.mp4: 2 of 4)"
    )
    assert summary([], 4) == "all 4 media are usable"
