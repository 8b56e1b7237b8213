"""Media as people bring them: turned, transparent, masked, far too large, in a zip that means harm."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from extensions.lora.training import media
from extensions.lora.training.losses import MovedSet
from extensions.lora.training.media import find_media, middle_frame, unpack
from extensions.lora.training.pictures import GREY, ROUNDS, MaskedCut, MovedCut, read_picture
from lavie.errors import TrainingError
from lavie.training.data.cuts import Unusable
from lavie.training.data.encoded import Encoded
from lavie.training.data.items import Item
from tests.extensions.lora.training.conftest import TRIGGER, notices, read, run
from tests.training.folders import write_clip, write_picture, write_table

RED = (200, 30, 30)


def picture(path: Path, mode="RGB", size=(48, 32), colour=RED, **saved) -> Path:
    Image.new(mode, size, colour).save(path, **saved)
    return path


def test_a_photograph_is_turned_as_the_camera_was_held(tmp_path):
    turned = Image.new("RGB", (48, 32), RED)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (48, 32, 4)


@pytest.mark.parametrize(("mode", "colour"), [("CMYK", (0, 255, 255, 30)), ("L", 90), ("P", 3), ("I;16", 30000)])
def test_every_pixel_format_is_taken(tmp_path, mode, colour):
    ending = "jpg" if mode == "CMYK" else "png"
    found = read_picture(picture(tmp_path / f"a.{ending}", mode, colour=colour))
    assert found.shape == (32, 48, 4) and found.dtype == np.uint8 and (found[..., 3] == 255).all()
    if mode == "CMYK":
        assert found[0, 0, 0] > 150 and found[0, 0, 1] < 60


def test_transparency_is_grey_and_does_not_count(tmp_path):
    half = Image.new("RGBA", (48, 32), (*RED, 255))
    half.paste((0, 0, 0, 0), (0, 0, 24, 32))
    half.save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    assert found[0, 0].tolist() == [GREY, GREY, GREY, 0] and found[0, 40].tolist() == [*RED, 255]


def test_a_mask_beside_it_counts_and_is_no_picture(tmp_path):
    picture(tmp_path / "a.png")
    mask = Image.new("L", (48, 32), 0)
    mask.paste(255, (0, 0, 24, 32))
    mask.save(tmp_path / "a.mask.png")
    found = read_picture(tmp_path / "a.png")
    assert found[0, 0].tolist() == [*RED, 255] and found[0, 40].tolist() == [*RED, 0]
    fitted = MaskedCut(1, 24, 16).fit(found)
    assert fitted[0, 0].tolist() == [*RED, 255] and fitted[0, 20].tolist() == [*RED, 0]  # unseen, and still red
    items, _ = find_media((tmp_path,), tmp_path / "un", f"a {TRIGGER}")
    assert [item.name for item in items] == ["a.png"]
    before = items[0].digest()
    Image.new("L", (48, 32), 255).save(tmp_path / "a.mask.png")
    assert items[0].digest() != before


def test_views_of_a_picture_are_moved_and_scaled_and_count_as_far_as_it_goes():
    frame = np.zeros((32, 48, 4), np.uint8)
    frame[...] = (*RED, 255)
    frame[12:20, 20:28, :3] = 255
    views = [clip[0] for clip in MaskedCut(1, 48, 32, most=1, views=12).clips(iter([frame]))]
    assert len(views) == 12 and np.array_equal(views[0], frame)
    again = MaskedCut(1, 48, 32, most=1, views=12).clips(iter([frame]))
    assert all(np.array_equal(view, clip[0]) for view, clip in zip(views, again, strict=True))
    white = [np.argwhere(view[..., 1] > 200) for view in views]
    middles = {tuple(places.mean(0).round().astype(int)) for places in white}
    assert len(middles) == 12 and len({len(places) for places in white}) > 4
    beyond = next(view for view in views if not view[0, 0, 3])
    assert beyond[0, 0, :3].tolist() == list(RED) and 0.3 < (beyond[..., 3] == 255).mean() < 1


def test_a_picture_goes_the_ways_that_there_are_words_for():
    frame = np.zeros((32, 48, 4), np.uint8)
    frame[...] = (*RED, 255)
    frame[12:20, 20:28, :3] = 255
    clips = MovedCut(1, 48, 32, most=1, length=5, ways=("moving up", "moving left", "growing")).clips(iter([frame]))
    assert len(clips) == 3 * ROUNDS and all(clip.shape == (5, 32, 48, 4) for clip in clips)
    seen = [[np.argwhere(each[..., 1] > 200) for each in clip] for clip in clips]
    for up, left, growing in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        down, across = (np.array([places.mean(0) for places in way]).T for way in (up, left))
        assert (np.diff(down[0]) < -1).all() and np.ptp(down[1]) < 1
        assert (np.diff(across[1]) < -1).all() and np.ptp(across[0]) < 1
        assert len(growing[-1]) > 3 * len(growing[0]) > 0
    assert all(clip[..., 3].min() == 0 for clip in clips)  # what is beyond the picture's edges counts for nothing


def test_a_picture_in_motion_says_how_it_moves(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"latents": torch.zeros(4, 4, 2, 2, 2)}, file)
    media = [Encoded(Item(f"{n}.png", text, tmp_path), "00", file, 4) for n, text in enumerate(("a zkw", "no word"))]
    moved = MovedSet(media, lambda texts: torch.arange(len(texts))[:, None], 2, ("growing", "moving up"), "zkw")
    assert [moved.caption(n) for n in range(4)] == ["a zkw growing", "a zkw moving up"] * 2
    assert {moved.caption(n) for n in range(4, 8)} == {"no word"}
    latents, tokens, weights = moved.draw(64, torch.Generator().manual_seed(0))
    assert latents.shape == (64, 4, 2, 2, 2) and weights.shape == (64, 1, 2, 2, 2)
    assert set(tokens.flatten().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("mask", "kind"), [((48, 31), "another size"), ((48, 32), "leaves nothing")])
def test_masks_that_cannot_be(tmp_path, mask, kind):
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.mask.png", "L", mask, 0)
    with pytest.raises(Unusable, match=kind):
        read_picture(tmp_path / "a.png")


def test_a_huge_picture_is_refused_by_its_header(tmp_path, settings, pictures):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    whole = (pictures / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, said in (("huge", "too many pixels"), ("bad", "cannot be read"), ("cut", "cannot be read")):
        with pytest.raises(Unusable, match=said):
            read_picture(tmp_path / f"{name}.png")
    with pytest.raises(TrainingError, match="holds no usable picture: 2 × it cannot be read as a picture"):
        run(settings(images=(tmp_path,)))


def test_captions_come_from_tables_and_files_and_else_from_the_trigger(tmp_path):
    for number in range(4):
        write_picture(tmp_path / f"{number}.png", number)
    write_table(tmp_path / "metadata.csv", [("0.png", "from the table")])
    (tmp_path / "1.txt").write_text("from the file\n")
    (tmp_path / "2.txt").write_text("\n")
    items, faults = find_media((tmp_path,), tmp_path / "un", f"a {TRIGGER}")
    assert [item.caption for item in items] == ["from the table", "from the file", f"a {TRIGGER}", f"a {TRIGGER}"]
    assert faults == []


def test_a_list_of_files_and_what_is_none(tmp_path):
    one, other = (write_picture(tmp_path / f"{n}.png", n) for n in range(2))
    assert [item.name for item in find_media((other, one), tmp_path / "un", "x")[0]] == ["1.png", "0.png"]
    with pytest.raises(TrainingError, match="is not there"):
        find_media((tmp_path / "none.png",), tmp_path / "un", "x")
    (tmp_path / "a.pdf").write_text("")
    with pytest.raises(TrainingError, match="neither a picture, a video nor a zip"):
        find_media((tmp_path / "a.pdf",), tmp_path / "un", "x")


def test_a_video_among_pictures_gives_its_middle_frame(tmp_path, settings):
    write_clip(tmp_path / "a.mp4", 0, frames=9)
    (frame,) = middle_frame(read)(tmp_path / "a.mp4")
    assert np.array_equal(frame[..., :3], list(read(tmp_path / "a.mp4"))[4]) and (frame[..., 3] == 255).all()
    assert "1 of 1 are videos: the frame in the middle" in notices(run(settings(images=(tmp_path,), steps=1)))


def test_a_motion_needs_videos(pictures, settings):
    with pytest.raises(TrainingError, match="holds no usable video: 2 × a picture, a motion is learned from videos"):
        run(settings("motion", images=(pictures,)))


def test_nothing_and_very_many(tmp_path, settings, pictures):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="holds no usable picture: there is no file that is one"):
        run(settings(images=(tmp_path / "empty",)))
    many = tmp_path / "many"
    many.mkdir()
    for number in range(500):
        Image.new("RGB", (32, 16), (number % 256, number // 2, 90)).save(many / f"{number}.png")
    assert len(find_media((many,), tmp_path / "un", "x")[0]) == 500


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_a_zip_is_as_its_folder(tmp_path, pictures):
    inside = {f"mine/{path.name}": path.read_bytes() for path in pictures.iterdir()}
    archive = zipped(tmp_path / "a.zip", **inside, **{"__MACOSX/mine/._0.png": b"x"})
    items, _ = find_media((archive,), tmp_path / "unpacked", "x")
    assert [item.caption for item in items] == [f"a red {TRIGGER} on a navy background", "x"]
    assert [item.digest() for item in items] == [item.digest() for item in find_media((pictures,), tmp_path, "x")[0]]


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png", "..\\out.png", "C:\\out.png"])
def test_no_name_leads_out_of_a_zip(tmp_path, name):
    with pytest.raises(TrainingError, match="which leads out of it"):
        unpack(zipped(tmp_path / "a.zip", **{name: b"x"}), tmp_path / "in/out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_zips_that_mean_harm(tmp_path, monkeypatch):
    bomb = zipped(tmp_path / "bomb.zip", **{"a.png": bytes(50 << 20)})
    link = zipfile.ZipInfo("a.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    (tmp_path / "cut.zip").write_bytes(bomb.read_bytes()[:-30])
    monkeypatch.setattr(media, "MAX_MEMBERS", 2)
    many = zipped(tmp_path / "many.zip", **{str(number): b"x" for number in range(3)})
    for archive, said in (
        (bomb, "unpacks from .* which no picture does"),
        (tmp_path / "link.zip", "holds the link"),
        (tmp_path / "cut.zip", "cannot be unpacked"),
        (many, "holds 3 files, more than 2"),
    ):
        with pytest.raises(TrainingError, match=said):
            unpack(archive, tmp_path / "out")
    monkeypatch.setattr(media, "MAX_BYTES", 1)
    with pytest.raises(TrainingError, match="more than 1: pack fewer or smaller"):
        unpack(zipped(tmp_path / "large.zip", a=b"xx"), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_zip_whose_numbers_lie_unpacks_no_more_than_it_says(tmp_path):
    archive = zipped(tmp_path / "a.zip", **{"a.txt": b"x" * 1000})
    data = bytearray(archive.read_bytes())
    for place in (22, data.rindex(b"PK\x01\x02") + 24):  # the size, in both of its headers
        data[place : place + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(TrainingError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
