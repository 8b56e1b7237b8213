"""What the page answers to who wants pictures joined, and how such a job stands in the queue. No browser."""

from dataclasses import replace

import pytest
from PIL import Image

from app.config import StudioConfig
from app.studio import Studio
from app.ui import html, live
from app.ui.context import EventContext
from app.ui.i18n import Languages
from app.ui.long_video.tab import join_files
from lavie.events import BASE

LANGUAGES = Languages()
ASKED = EventContext(LANGUAGES.words("en"), {})


@pytest.fixture
def studio(tmp_path, tiny_bundle, tiny_cascade):
    studio = Studio(StudioConfig(data=tmp_path / "data", model=str(tiny_bundle)), load=lambda config: tiny_cascade)
    yield studio
    studio.close()


@pytest.fixture
def files(tmp_path):
    names = [tmp_path / "a <b>.png", tmp_path / "c.png"]
    for name in names:
        Image.effect_noise((32, 16), 80).save(name)
    return [str(name) for name in names]


def test_each_line_is_a_transition(studio, files):
    said = join_files(studio, ASKED, [*files, files[0]], " a red star \n\n a blue one\n", 1)
    (row,) = studio.queue.line()
    assert [(one.prompt, one.frames) for one in row.job.reel.transitions] == [("a red star", 1), ("a blue one", 1)]
    assert 'role="status"' in said and "a &lt;b&gt;.png: The picture was taken as one frame." in said


@pytest.mark.parametrize(
    ("prompts", "frames", "words"),
    [
        (None, None, "nothing says what leads to c.png: give a prompt"),
        ("a", 2.5, "a transition&#x27;s frames is 2.5: give a whole number"),
        ("a\nb", 1, "there are 2 prompts for 1 transitions"),
    ],
)
def test_a_refusal_is_an_alert_and_queues_nothing(studio, files, prompts, frames, words):
    said = join_files(studio, ASKED, files, prompts, frames)
    assert 'role="alert"' in said and words in said and studio.queue.line() == []


def test_nothing_put_there_and_files_that_are_gone_are_told_without_folders(studio, files, tmp_path):
    assert "to join is 0: give 2 to 1000" in join_files(studio, ASKED, None, "a", None)
    (tmp_path / "c.png").write_bytes(b"")
    said = join_files(studio, ASKED, files, "a", None)
    assert "c.png is empty, 0 bytes" in said and str(tmp_path) not in said


def test_the_queue_says_how_many_are_joined_and_offers_no_edit(studio, files):
    join_files(studio, ASKED, files, "a red star", None)
    queue = live.Live(studio, LANGUAGES).fragments("en")["queue"]
    assert "2 joined" in queue and 'data-act="edit"' not in queue and "a red star" in queue
    row = replace(studio.queue.line()[0], stage=BASE, part=1, parts=1)
    assert html.part_words(row, ASKED.say) == "Transition 1 of 1"
