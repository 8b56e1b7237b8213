"""The section of the models as HTML: what is offered when, and what is pushed while it is worked on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from app.config import StudioConfig
from app.models.jobs import CONVERT, DOWNLOAD, FAILED, RUNNING, STOPPED, STOPPING, Standing
from app.studio import Studio
from app.ui.context import EventContext
from app.ui.html import weights_progress
from app.ui.i18n import Languages
from app.ui.settings.tab import model_panel
from lavie.files import Kept, write_record
from tests.cascades import with_extension
from tests.extensions.published.toys import write_published

LANGUAGES = Languages()
SAY = LANGUAGES.words("en")
HOSTILE = "<img src=x>"


@pytest.fixture
def studio(tmp_path):
    studio = Studio(StudioConfig(data=tmp_path / "data"))
    yield studio
    studio.close()


def shown(studio, language="en", **told) -> str:
    return model_panel(studio, EventContext(LANGUAGES.words(language), told))


def standing(studio, **values) -> None:
    """Pretend that the work stands so."""
    studio.weights = SimpleNamespace(standing=Standing(**values), close=lambda: None)


def offers(page) -> list[str]:
    return [part.split('"')[0] for part in page.split('data-act="')[1:]]


def test_at_first_the_weights_are_offered(studio):
    page = shown(studio)
    assert offers(page) == ["weights_fetch"] and "12 GB" in page and "not there yet" in page
    assert page.count("Makes new videos") == 1 and 'data-refresh="part"' in page


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ({"state": RUNNING}, ["weights_pause"]),
        ({"state": RUNNING, "work": CONVERT}, ["weights_stop"]),
        ({"state": STOPPING}, []),
        ({"state": STOPPED}, ["weights_resume"]),
        ({"state": FAILED, "problem": HOSTILE, "notices": (HOSTILE,)}, ["weights_resume"]),
    ],
)
def test_what_is_offered_follows_from_how_it_stands(studio, values, offered):
    standing(studio, **values)
    page = shown(studio)
    assert offers(page) == offered and HOSTILE not in page
    assert ('role="alert"' in page) == bool(values.get("problem"))


def test_after_a_restart_it_goes_on_from_what_came(studio):
    partial = studio.config.data / "models" / "published" / ".lavie_base.pt.0123.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(5_000_000))
    page = shown(studio)
    assert offers(page) == ["weights_resume"] and "5.0 MB are here already." in page


def test_files_that_are_whole_are_to_be_converted_and_tell_their_checksums(studio):
    folder = write_published(studio.config.data / "models" / "published")
    write_record(folder, {"lavie_base.pt": Kept.of(folder / "lavie_base.pt", "ab" * 32)}, {})
    page = shown(studio)
    assert offers(page) == ["weights_convert"]
    assert "checksum compared: abababababab…" in page and "checksum not compared yet" in page


def test_a_whole_model_needs_no_download(studio, tiny_bundle):
    (studio.config.data / "models").mkdir()
    (studio.config.data / "models" / "official").symlink_to(tiny_bundle)
    page = shown(studio, act="model_use", value="official")
    assert offers(page) == ["model_use", "weights_extension"] and 'data-value="nano"' in page
    assert "SEINE" in page and "12 GB" not in page
    assert studio.config.model == "official"


def test_one_that_extends_too_needs_none_at_all(studio, tiny_bundle):
    with_extension(tiny_bundle, studio.config.data / "models" / "official")
    assert offers(shown(studio)) == ["model_use"]


def test_the_network_that_extends_is_fetched_where_it_is_asked_for(studio):
    asked = []
    studio.weights = SimpleNamespace(
        standing=Standing(), close=lambda: None, fetch=lambda with_optional=False: asked.append(with_optional)
    )
    for act in ("weights_fetch", "weights_resume", "weights_extension"):
        shown(studio, act=act)
    assert asked == [False, False, True]


def test_a_broken_model_is_told_and_cannot_be_used(studio):
    own = studio.config.data / "models" / "<b>mine"
    own.mkdir(parents=True)
    (own / "cascade.json").write_text("{")
    page = shown(studio)
    assert "cannot be read as JSON" in page and "model_use" not in offers(page) and "<b>mine" not in page
    refused = shown(studio, act="model_use", value=str(own))
    assert "choose one of the list" in refused and studio.config.model == "nano"


def test_a_data_folder_that_is_gone_is_told(studio, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    assert 'role="alert"' in shown(studio)
    (tmp_path / "moved").rename(tmp_path / "data")


def test_how_far_it_is():
    now = Standing(DOWNLOAD, RUNNING, "lavie_base.pt", 3 * 10**9, 12 * 10**9, 11e6, 818.0)
    page = weights_progress(now, SAY)
    for said in ("lavie_base.pt", "3.0 GB of 12.0 GB", "11.0 MB a second", "14 min left", "25%", 'value="0.250"'):
        assert said in page
    assert "comparing the checksum of lavie_base.pt" in weights_progress(replace(now, comparing=True), SAY)
    assert HOSTILE not in weights_progress(replace(now, name=HOSTILE), SAY)
    assert "Looking" in weights_progress(Standing(state=RUNNING), SAY)
    assert "Stops" in weights_progress(replace(now, state=STOPPING), SAY)
    assert weights_progress(replace(now, state=STOPPED), SAY) == "" == weights_progress(Standing(), SAY)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_it_is_written_in_every_language(studio, language):
    assert LANGUAGES.words(language)("act_weights_fetch") in shown(studio, language)
    words = LANGUAGES.words(language)
    assert words("weights_convert") in weights_progress(Standing(CONVERT, RUNNING), words)
