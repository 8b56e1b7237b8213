"""What is prepared for a training: files alone hold it, and whoever opens the studio next finds it."""

import pytest
from PIL import Image

from app.config import StudioConfig
from app.storage.training_folder import MEDIA
from app.studio import Studio
from app.training.draft import Drafts, number_of
from app.training.media import thumb_of
from lavie.errors import RequestError, TrainingError
from lavie.request import Request
from tests.fakes import FakeCascade


@pytest.fixture
def studio(tmp_path):
    studio = Studio(StudioConfig(data=tmp_path / "data"), load=lambda config: FakeCascade(steps=1))
    yield studio
    studio.close()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 48), "teal").save(folder / f"{name}.png")
    (folder / "a.txt").write_text("a zkw on a table")
    (folder / "c.png").write_text("no picture")
    return folder


def made(studio) -> str:
    clip = studio.submit(Request("a red star", seed=1))
    assert [snapshot.state for snapshot in studio.follow(clip)][-1] == "done"
    return clip


def files(studio) -> list[str]:
    draft = studio.drafts.current()
    return [item.path.name for item in studio.drafts.media(draft).usable]


def test_what_is_written_is_found_again(studio, pictures):
    assert studio.drafts.current().id == ""
    studio.drafts.set("trigger", "zkw")
    studio.drafts.add([pictures])
    studio.drafts.add([pictures / "b.png"])
    draft = Drafts(studio.workspace, studio.training).current()
    assert (draft.trigger, draft.preset) == ("zkw", "subject")
    assert files(studio) == ["0000-a.png", "0001-b.png", "0002-b.png"]
    (left_out,) = [item for item in draft.items if item.problem]
    assert left_out.name == "c.png"
    studio.drafts.caption("0001-b.png", "a zkw in the rain")
    said = studio.drafts.media(studio.drafts.current()).captions("zkw")
    assert list(said.values()) == ["a zkw on a table", "a zkw in the rain", "a zkw"]
    studio.drafts.drop("0000-a.png")
    studio.drafts.drop("c.png")
    draft = studio.drafts.current()
    assert files(studio) == ["0001-b.png", "0002-b.png"] and len(draft.items) == 2
    media = studio.drafts.media(draft).folder
    assert sorted(file.name for file in media.iterdir()) == ["0001-b.png", "0002-b.png"]
    studio.drafts.add([pictures / "a.png"])
    assert files(studio)[-1] == "0003-a.png"  # no number is given twice: a browser keeps pictures by it
    studio.drafts.clear()
    assert studio.drafts.current().items == () and not media.exists()


def test_values_are_looked_at_when_they_are_written(studio):
    for name, text, words in (
        ("trigger", "two words", "give one word"),
        ("rank", "x", "rank is 'x': give a whole number"),
        ("rank", "9999", "rank is 9999"),
        ("learning_rate", "fast", "learning_rate is 'fast'"),
        ("learning_rate", "nan", "learning rate"),
        ("preset", "x", "preset is 'x'"),
        ("folder", "/etc", "there is no field 'folder'"),
        ("name", "a/b", "name is 'a/b'"),
    ):
        with pytest.raises(RequestError, match=words):
            studio.drafts.set(name, text)
    assert studio.drafts.current().values == {}
    studio.drafts.set("learning_rate", "0,0005")
    studio.drafts.set("prompts", "a zkw\n\n a star ")
    studio.drafts.set("trigger", "zkw")
    training = studio.drafts.current().training()
    assert (training.learning_rate, training.prompts) == (0.0005, ("a zkw", "a star"))
    studio.drafts.set("learning_rate", "")
    assert studio.drafts.current().training().learning_rate is None


def test_clips_are_taken_as_the_preset_wants_them(studio, pictures):
    clip = made(studio)
    studio.drafts.set("trigger", "zkw")
    studio.drafts.add([clip])
    assert [name.endswith(".png") for name in files(studio)] == [True] * 4
    studio.drafts.set("preset", "motion")
    assert [name.endswith(f"{clip}.mp4") for name in files(studio)] == [True]
    studio.drafts.add([clip])
    assert list(studio.drafts.media(studio.drafts.current()).captions("zkw").values()) == ["zkw, a red star"] * 2


def test_it_becomes_a_job_with_its_media_and_captions(studio, pictures):
    with pytest.raises(TrainingError, match="nothing to learn from: add a picture first"):
        studio.drafts.set("trigger", "zkw")
        studio.drafts.start()
    studio.drafts.add([pictures])
    studio.drafts.caption("0001-b.png", "a zkw in the rain")
    before = studio.drafts.current()
    job = studio.drafts.start()
    assert job == before.id and studio.drafts.current().id == ""
    training = studio.queue.get(job).training
    assert [(one.file, one.caption) for one in training.media] == [
        ("0000-a.png", "a zkw on a table"),
        ("0001-b.png", "a zkw in the rain"),
    ]
    assert studio.queue.get(job).state == "queued" and studio.training.media(job).is_dir()


def test_nothing_of_a_set_that_is_refused_stays(studio, tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(TrainingError, match="no usable picture"):
        studio.drafts.add([tmp_path / "x.png"])
    root = studio.config.data / "work" / "training"
    assert not root.exists() or list(root.iterdir()) == []


def test_pictures_of_media_are_small_and_upright(studio, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("CMYK", (900, 300)).save(tmp_path / "turned.jpg", exif=exif)
    studio.drafts.add([tmp_path / "turned.jpg", made(studio)])
    draft = studio.drafts.current()
    media = studio.drafts.media(draft)
    for item, size in zip(media.usable[:2], ((107, 320), (96, 64)), strict=True):
        with Image.open(thumb_of(media.folder, number_of(item))) as picture:
            assert (picture.format, picture.size) == ("WEBP", size)
    assert media.folder.name == MEDIA and thumb_of(media.folder, "9999") is None
