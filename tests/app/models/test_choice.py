"""Which model new jobs are made with: chosen while the studio runs, kept for its next start, named at one."""

import pytest

from app.config import Space, StudioConfig
from app.studio import Studio
from lavie.errors import BundleError
from lavie.request import Request
from tests.app.studios import ended, until
from tests.fakes import FakeCascade


@pytest.fixture
def data(tmp_path, tiny_bundle):
    """A data folder with a model of one's own."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    (models / "mine").symlink_to(tiny_bundle)
    return tmp_path / "data"


@pytest.fixture
def start(data):
    """Studios that serve, each as after a restart; they tell in `asked` which models they have loaded."""
    opened = []

    def make(**settings) -> Studio:
        if opened:
            opened[-1].close()
        asked = []
        studio = Studio(StudioConfig(data, **settings), lambda config: asked.append(config.model) or FakeCascade())
        studio.asked = asked
        opened.append(studio)
        studio.serve()
        return studio

    yield make
    opened[-1].close()


def mine(studio) -> str:
    return next(one.asked for one in studio.choice.list_models() if one.folder.name == "mine")


def used(studio) -> list[str]:
    return [one.folder.name for one in studio.choice.list_models() if studio.choice.is_used(one)]


def test_another_model_needs_no_restart(start, data):
    studio = start()
    before = ended(studio, studio.submit(Request("a red star", seed=1))).clip
    assert used(studio) == ["nano"]
    studio.choice.use(mine(studio))
    assert used(studio) == ["mine"] and studio.card.name == "Tiny"
    until(lambda: studio.asked[-1] == str((data / "models" / "mine").absolute()))  # before any job asks for it
    clip = ended(studio, studio.submit(Request("a red star", seed=1))).clip
    recipes = [studio.gallery.get(one.id).recipe for one in (before, clip)]
    assert [recipe.model for recipe in recipes] == ["nano", str((data / "models" / "mine").absolute())]
    studio.choice.use("nano")
    assert studio.queue.get(studio.submit(Request("a"))).job.model == "nano"


def test_jobs_that_wait_keep_their_model(start):
    studio = start()
    studio.queue.pause_queue()
    waiting = studio.submit(Request("a red star", seed=1))
    studio.choice.use(mine(studio))
    studio.queue.resume_queue()
    assert studio.gallery.get(ended(studio, waiting).clip.id).recipe.model == "nano"


def test_the_choice_holds_for_the_next_start_unless_one_is_named(start):
    studio = start()
    studio.choice.use(mine(studio))
    assert used(start()) == ["mine"]
    assert used(start(model_named=True)) == ["nano"]
    assert used(start()) == ["mine"]


def test_a_model_that_is_gone_is_not_gone_on_with(start, data):
    studio = start()
    studio.choice.use(mine(studio))
    (data / "models" / "mine").unlink()
    assert used(start()) == ["nano"]


def test_the_model_of_the_start_can_be_chosen_again(start, tiny_bundle):
    studio = start(model=str(tiny_bundle), model_named=True)
    studio.choice.use("nano")
    assert used(studio) == ["nano"]
    studio.choice.use(str(tiny_bundle))
    assert studio.config.bundle == tiny_bundle


@pytest.mark.parametrize("asked", ["official", "/", "", "../nano"])
def test_only_what_is_there_can_be_chosen(start, asked):
    studio = start()
    with pytest.raises(BundleError, match="choose one of the list"):
        studio.choice.use(asked)
    assert used(studio) == ["nano"]


def test_where_strangers_share_a_studio_nobody_chooses(start):
    studio = start()
    studio.choice.use(mine(studio))
    shared = start(space=Space())
    assert not shared.choice.open and shared.config.model == "nano"
    assert start(space=Space(shared=False)).choice.open
