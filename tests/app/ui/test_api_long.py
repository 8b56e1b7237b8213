"""Endpoints that go on from what is there, and adapters, as scripts meet them: examples of docs/api.md and refusals."""

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from app.adapters import Adapters
from app.storage.database import Database
from extensions.lora.files.read import targets_in
from lavie.bundle import Bundle
from tests.app.ui.api_page import ADAPTERS, BEGIN, LONG, run_python, section
from tests.extensions.lora.files import FAMILIES, Maker
from tests.pages.browser import tiny_studio


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_bundle):
    """A studio that can make long videos, with an adapter called plush; its address."""
    folder = tmp_path_factory.mktemp("long")
    FAMILIES["kohya"](Maker(targets_in(Bundle(tiny_bundle))), folder / "plush.safetensors")
    Adapters(Database(folder / "data"), folder / "data").add(folder / "plush.safetensors", tiny_bundle)
    with tiny_studio(folder, tiny_bundle) as address:
        yield address


def test_the_examples_of_long_videos(tiny):
    run_python(BEGIN + section(LONG)[1], tiny)


def test_the_examples_of_adapters(tiny):
    run_python(BEGIN + section(ADAPTERS)[1], tiny)


@pytest.fixture(scope="module")
def client(tiny, tmp_path_factory):
    return Client(tiny, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "give either the id of a clip or a file"),
        ({"id": "x", "file": {"path": "/etc/passwd"}}, "give either the id of a clip or a file"),
        ({"id": "../studio.db"}, "is none of ours"),
        ({"id": "nope"}, "nope"),
        ({"file": {"path": "/etc/passwd"}, "prompts": ["a"]}, "'passwd' was not uploaded here"),
        ({"file": {"path": "../../etc/passwd"}, "prompts": ["a"]}, "'passwd' was not uploaded here"),
        ({"file": {"path": "a\0b"}, "prompts": ["a"]}, "upload one, as with handle_file"),
        ({"file": ["x"], "prompts": ["a"]}, "upload one, as with handle_file"),
        ({"file": {"path": "/etc/passwd"}}, "nothing says what the video goes on with"),
        ({"file": {"path": "x"}, "prompts": "a star"}, "prompts are 'a star': give a list of texts"),
        ({"file": {"path": "x"}, "prompts": [" "]}, "prompt is empty"),
        ({"file": {"path": "x"}, "prompts": ["a"], "segments": 10_000}, "give 1 to 1000"),
        ({"file": {"path": "x"}, "prompts": ["a"], "segments": 0}, "give 1 to 1000"),
        ({"file": {"path": "x"}, "prompts": ["a"], "seed": -1}, "seed is -1"),
        ({"file": {"path": "x"}, "prompts": ["a"], "steps": 0}, "steps is 0"),
    ],
)
def test_what_cannot_be_extended_is_told_in_one_line(client, values, words):
    with pytest.raises(AppError) as caught:
        client.predict(**values, api_name="/extend")
    assert words in str(caught.value) and len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sources": "x"}, "sources are 'x': give a list of ids of clips and of uploaded files"),
        ({"sources": None}, "sources are None: give a list"),
        ({"sources": []}, "the number of clips and files to join is 0: give 2 to 1000"),
        ({"sources": ["/etc/passwd", "/etc/passwd"]}, "is none of ours"),
        ({"sources": ["nope", "nope"]}, "nope"),
        ({"sources": [{"path": "/etc/passwd"}] * 2}, "'passwd' was not uploaded here"),
        ({"sources": [5, ["x"]]}, "upload one, as with handle_file"),
        ({"sources": [], "prompts": "a star"}, "prompts are 'a star': give a list of texts"),
        ({"sources": [], "fit": "stretch"}, "fit is 'stretch'"),
        ({"sources": [], "seed": -1}, "seed is -1"),
        ({"sources": [], "upscale": 1}, "upscale is 1: give true or false"),
    ],
)
def test_what_cannot_be_joined_is_told_in_one_line(client, values, words):
    with pytest.raises(AppError) as caught:
        client.predict(**values, api_name="/join")
    assert words in str(caught.value) and len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


def test_what_is_to_be_joined_is_refused_by_its_name(client, tmp_path):
    (tmp_path / "note.mp4").write_text("no video")
    files = [handle_file(tmp_path / "note.mp4")] * 2
    for values, words in (
        ({"prompts": ["a star"]}, r"^note\.mp4 is a text, not a video"),
        ({}, r"^nothing says what leads to note\.mp4: give a prompt"),
        ({"prompts": ["a star"], "frames": 2.5}, "frames is 2.5: give a whole number"),
        ({"prompts": ["a star"], "strategy": ["x"]}, "choose one of conditioned"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(files, **values, api_name="/join")


def test_a_file_that_is_no_video_is_refused_by_its_name(client, tmp_path):
    (tmp_path / "note.mp4").write_text("no video")
    with pytest.raises(AppError, match=r"^note\.mp4 is a text, not a video"):
        client.predict(file=handle_file(tmp_path / "note.mp4"), prompts=["a star"], api_name="/extend")
