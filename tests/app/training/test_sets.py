"""What a training learns from: gathered from anywhere, copied, and what is wrong told of each."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.recipes.job_row import TRAIN
from app.recipes.recipe import Recipe
from app.storage.training_folder import training_folder
from app.training.media import IS_PICTURE, IS_VIDEO
from lavie.errors import RequestError, TrainingError
from lavie.request import Request
from tests.app.training.conftest import TRIGGER, short
from tests.training.folders import clip, write_clip, write_picture


def told(media) -> dict[str, str | None]:
    """Name → what is wrong with it."""
    return {item.name: item.problem for item in media.items}


def nothing_left(studio) -> bool:
    folder = training_folder(studio.config.data, "any").parent
    return not folder.exists() or not any(folder.iterdir())


@pytest.fixture
def zipped(tmp_path):
    """Packs files, each by its bytes."""

    def pack(files: dict[str, bytes], name: str = "media.zip", how: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", how) as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return tmp_path / name

    return pack


@pytest.fixture
def stored(studio):
    """A clip of the gallery, of eight frames."""
    file = write_clip(studio.config.clips / "one.mp4", 3)
    video = clip(3)
    request = Request("a red star", seed=1, width=32, height=16, frames=8, fps=8.0)
    values = {"path": file, "recipe": Recipe(request, "nano", frame_hash=video.frame_hash)}
    size = {"width": 32, "height": 16, "frames": 8, "fps": 8.0}
    with studio.database.write():
        studio.gallery.put(studio.gallery.describe("one", **values, **size, seconds=1.0))
    return studio.gallery.get("one")


def test_files_folders_and_zips_together_and_the_sources_may_go(studio, pictures, tmp_path, zipped):
    packed = zipped({"set/a.png": (pictures / "1.png").read_bytes(), "set/a.txt": f"a {TRIGGER} at night".encode()})
    alone = write_picture(tmp_path / "one/alone.PNG", 5)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/alone.txt").write_text("said elsewhere\n")
    Image.new("L", (48, 40), 255).save(tmp_path / "two/alone.mask.png")
    beside = [tmp_path / "two/alone.txt", tmp_path / "two/alone.mask.png"]
    media = studio.training.collect([pictures, packed, alone, *beside])
    assert told(media) == {"0.png": None, "1.png": None, "a.png": None, "alone.PNG": None}
    assert [item.caption for item in media.items] == [
        f"a red {TRIGGER} on a navy background",
        "",
        f"a {TRIGGER} at night",
        "said elsewhere",
    ]
    names = ["0000-0.png", "0001-1.png", "0002-a.png", "0003-alone.mask.png", "0003-alone.png"]
    assert sorted(path.name for path in media.folder.iterdir()) == names
    assert [path.name for path in media.folder.parent.iterdir()] == ["media"]
    before = alone.read_bytes()
    alone.unlink()
    assert (media.folder / "0003-alone.png").read_bytes() == before


def test_captions_are_a_persons(studio, pictures):
    media = studio.training.collect([pictures])
    usual = {"0000-0.png": f"a red {TRIGGER} on a navy background", "0001-1.png": f"a {TRIGGER}"}
    assert media.captions(TRIGGER) == usual
    job_id = studio.training.start(short(), media, {"0001-1.png": f" {TRIGGER} ünder water "})
    assert job_id == media.id and studio.training.media(job_id) == media.folder
    said = {path.stem: path.read_text(encoding="utf-8") for path in media.folder.glob("*.txt")}
    assert said == {"0000-0": f"a red {TRIGGER} on a navy background\n", "0001-1": f"{TRIGGER} ünder water\n"}
    training = studio.queue.get(job_id).training
    assert [(one.name, one.caption) for one in training.media] == [
        ("0.png", usual["0000-0.png"]),
        ("1.png", f"{TRIGGER} ünder water"),
    ]
    again = studio.training.start(short(rank=2), media, {"0001-1.png": "other words"})
    assert again != job_id and (studio.training.media(again) / "0001-1.txt").read_text() == "other words\n"
    assert (media.folder / "0001-1.txt").read_text(encoding="utf-8") == f"{TRIGGER} ünder water\n"
    with pytest.raises(TrainingError, match=r"'none\.png' is not in this set"):
        studio.training.start(short(), media, {"none.png": "x"})


def test_pictures_of_all_kinds_are_taken_and_a_video_is_told(studio, tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    Image.new("CMYK", (40, 40), (10, 200, 30, 0)).save(folder / "cmyk.jpg")
    Image.new("RGBA", (40, 40), (10, 200, 30, 90)).save(folder / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(folder / "turned.jpg", exif=turned)
    write_clip(folder / "video.mp4", 0)
    media = studio.training.collect([folder])
    assert [item.note for item in media.items] == [None, None, None, IS_VIDEO]
    assert len(media.usable) == 4


def test_what_is_wrong_is_told_of_each(studio, pictures, tmp_path):
    folder = tmp_path / "wrong"
    folder.mkdir()
    (folder / "damaged.png").write_bytes((pictures / "0.png").read_bytes()[:60])
    (folder / "film.mp4").write_bytes(b"no film at all")
    head = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    huge = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + head + zlib.crc32(head).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge + b"\x00\x00\x00\x00IDAT")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "nothing.png")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    media = studio.training.collect([pictures / "0.png", folder, tmp_path / "notes.pdf"])
    said = told(media)
    assert said.pop("0.png") is None and len(media.usable) == 1
    assert said["damaged.png"].startswith("it cannot be read as a picture")
    assert "it cannot be read" in said["film.mp4"] and str(media.folder) not in said["film.mp4"]
    assert "too many pixels" in said["huge.png"] and "leaves nothing" in said["nothing.png"]
    assert said["notes.pdf"] == "it is neither a picture nor a video nor a zip"
    assert len(list(media.folder.iterdir())) == 1
    assert not [text for text in said.values() if str(tmp_path) in text]


def test_a_motion_is_learned_from_videos(studio, pictures, clips):
    media = studio.training.collect([pictures, clips], "motion")
    assert told(media) == {"0.png": IS_PICTURE, "1.png": IS_PICTURE, "0.mp4": None}
    with pytest.raises(TrainingError, match="no usable video: 2 × a picture, a motion is learned from videos"):
        studio.training.collect([pictures], "motion")
    still = studio.training.collect([pictures])
    with pytest.raises(TrainingError, match="a motion is learned from videos"):
        studio.training.start(short(preset="motion"), still)


def test_clips_of_the_gallery(studio, stored):
    moving = studio.training.collect([stored.id], "motion")
    assert [(item.path.name, item.caption) for item in moving.items] == [("0000-one.mp4", "a red star")]
    assert moving.items[0].path.read_bytes() == stored.path.read_bytes()
    assert moving.captions(TRIGGER) == {"0000-one.mp4": f"{TRIGGER}, a red star"}
    frames = studio.training.collect([stored.id])
    names = [f"{place:04}-one-{index:04}.png" for place, index in enumerate((1, 3, 5, 7))]
    assert [item.path.name for item in frames.items] == names
    shown = np.asarray(Image.open(frames.items[1].path)).astype(int)
    assert np.abs(shown - clip(3).frames[3]).mean() < 12  # as the file has it
    stored.path.unlink()
    with pytest.raises(TrainingError, match="its file is gone"):
        studio.training.collect([stored.id])


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"bomb.png": b"\x00" * (3 << 20)}, "which no picture does: leave it out"),
        ({"../out.png": b"x"}, "which leads out of it"),
        ({"notes.md": b"x"}, "there is no usable picture: nothing was given"),
        ({}, "there is no usable picture: nothing was given"),
    ],
)
def test_zips_that_are_refused_leave_nothing(studio, zipped, tmp_path, files, why):
    with pytest.raises(TrainingError, match=why):
        studio.training.start(short(), [zipped(files)])
    assert nothing_left(studio) and studio.queue.line() == []
    assert not (tmp_path / "out.png").exists()


def test_what_is_not_there_is_refused(studio, tmp_path):
    with pytest.raises(TrainingError, match="nowhere is not there"):
        studio.training.collect([tmp_path / "nowhere"])
    with pytest.raises(TrainingError, match="no usable picture"):
        studio.training.collect([])
    with pytest.raises(RequestError, match="preset is 'portrait': choose one of subject, style, motion"):
        studio.training.collect([tmp_path], "portrait")
    assert nothing_left(studio)


def test_more_than_anyone_means_is_refused(studio, pictures, monkeypatch):
    monkeypatch.setattr("app.training.media.MAX_MEDIA", 1)
    with pytest.raises(TrainingError, match="more than 1 pictures and videos"):
        studio.training.collect([pictures])
    assert nothing_left(studio)


def test_a_set_that_is_not_wanted_goes(studio, pictures):
    media = studio.training.collect([pictures])
    studio.training.discard(media)
    assert nothing_left(studio)
    with pytest.raises(TrainingError, match="not kept any more"):
        studio.training.start(short(), media)
    begun = studio.training.collect([pictures])
    studio.training.start(short(), begun)
    studio.training.discard(begun)
    assert begun.folder.is_dir() and [row.kind for row in studio.queue.line()] == [TRAIN]
