"""What pages show, as pure functions: times for people, and text that stays text."""

from html.parser import HTMLParser

import numpy as np
import pytest

from app.ui import html
from app.ui.i18n import Languages

HOSTILE = "<img src=x onerror=alert(1)>\"'&</p>"
EN, DE = Languages().words("en"), Languages().words("de")


class Read(HTMLParser):
    """The text of a piece of HTML, and its elements with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.said, self.elements = "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said += data


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 s"), (0.4, "1 s"), (8.4, "8 s"), (59.4, "59 s"), (59.6, "1 min"), (60, "1 min"), (89, "1 min"),
        (91, "2 min"), (3569, "59 min"), (3590, "1 h 0 min"), (3600, "1 h 0 min"), (7199, "2 h 0 min"),
        (7500, "2 h 5 min"), (360_000, "100 h 0 min"),
    ],
)  # fmt: skip
def test_a_duration_is_told_as_people_do(seconds, words):
    assert html.duration(seconds, EN) == words


def test_an_alert_is_text():
    read = Read(html.alert(HOSTILE))
    assert read.said == HOSTILE and read.elements == [("p", {"class": "lv-alert", "role": "alert"})]


def test_a_button_carries_what_it_is_for():
    read = Read(html.button("cancel", DE, id=HOSTILE))
    ((tag, attributes),) = read.elements
    assert tag == "button" and attributes["data-id"] == HOSTILE and attributes["data-act"] == "cancel"
    assert read.said == "Abbrechen"


def test_an_address_cannot_leave_its_attribute():
    read = Read(f'<img src="{html.media(HOSTILE)}">')
    assert read.elements == [("img", {"src": f"studio/media/{HOSTILE}.mp4"})]


def test_a_bar_shows_how_far_it_is():
    read = Read(html.bar(HOSTILE, 0.25, HOSTILE))
    progress = next(attributes for tag, attributes in read.elements if tag == "progress")
    assert progress == {"aria-label": HOSTILE, "value": "0.250", "max": "1"}
    assert [tag for tag, _ in read.elements] == ["div", "span", "progress", "span"] and read.said == 2 * HOSTILE


def test_a_sprite_holds_all_frames_below_each_other():
    import base64
    import io

    from PIL import Image

    frames = np.arange(3 * 4 * 6 * 3, dtype=np.uint8).reshape(3, 4, 6, 3)
    sprite = html._sprite(frames)
    with Image.open(io.BytesIO(base64.b64decode(sprite["src"].partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image).reshape(3, 4, 6, 3), frames)
    assert (sprite["frames"], sprite["fps"]) == (3, html.PREVIEW_FPS)
