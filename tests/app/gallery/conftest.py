"""A gallery in a folder of its own, and clips with real, small files to put into it."""

import numpy as np
import pytest

from app.gallery import Gallery
from app.gallery.gallery import insert
from app.media import write_mp4
from app.recipes.recipe import Recipe
from app.storage.database import Database
from lavie.request import Request
from lavie.video import Video
from tests.app.gallery.rows import row

WEIGHTS = {"weights": {"base": "ab" * 32}, "device": "cpu", "versions": {"torch": "2.13"}}


class Shelf:
    """A gallery with its folder, and how clips come into it."""

    def __init__(self, folder):
        self.folder = folder
        self.clips = folder / "clips"
        self.open()

    def open(self):
        self.database = Database(self.folder)
        self.gallery = Gallery(self.database, self.folder)

    def lose_database(self):
        """What a person does who deletes studio.db."""
        self.database.close()
        for path in self.folder.glob("studio.db*"):
            path.unlink()
        self.open()

    def new(self, clip_id="a", prompt="a red star", seed=1, path=None, parent=None, adapters=None, **request):
        path = path or self.clips / f"{clip_id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {"width": 96, "height": 64, "frames": 4, "fps": 8.0, **request}
        recipe = Recipe(Request(prompt, seed=seed, **values), "nano", WEIGHTS, frame_hash="ab" * 32)
        # The seed in the picture, so that no two files are the same.
        video = Video(np.full((2, 16, 16, 3), seed % 200, np.uint8), 8.0)
        write_mp4(path, video.frames, video.fps, recipe.to_json())
        facts = {"frames": 2, "width": 16, "height": 16, "fps": 8.0, "seconds": 1.5, "parent": parent}
        return {"clip_id": clip_id, "path": path, "recipe": recipe, **facts, "adapters": adapters or {}}

    def add(self, clip_id="a", prompt="a red star", **values):
        return self.gallery.put(self.gallery.describe(**self.new(clip_id, prompt, **values)))

    def names(self):
        """The files among the clips."""
        return sorted(path.relative_to(self.clips).as_posix() for path in self.clips.rglob("*") if path.is_file())


@pytest.fixture
def make_shelf(tmp_path):
    """Shelves by name; all are closed at the end."""
    shelves = []

    def make(name="data"):
        shelves.append(Shelf(tmp_path / name))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.database.close()


@pytest.fixture
def shelf(make_shelf):
    return make_shelf()


@pytest.fixture
def gallery(shelf):
    return shelf.gallery


@pytest.fixture
def fill(tmp_path):
    """A gallery of rows without files, each a day younger than the one before."""
    database = Database(tmp_path)

    def fill(*clips):
        with database.write() as connection:
            insert(connection, [row(number, **values) for number, values in enumerate(clips)])
        return Gallery(database, tmp_path)

    yield fill
    database.close()
