"""A hub at toy size in the place of the real one."""

from functools import partial

import pytest

from app.models import hub as talking
from extensions.published import convert as converting
from tests.app.weights.hubs import published_hub
from tests.extensions.published.toys import published


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with all that is published; what comes from it can be converted."""
    hub = published_hub(tmp_path / "handed out")
    monkeypatch.setenv("LAVIE_HUB_ENDPOINT", hub.address)
    monkeypatch.setattr(talking, "WAITS", ())
    monkeypatch.setattr(converting, "convert", partial(converting.convert, published=published()))
    yield hub
    hub.close()
