"""Pictures of adapters and trainings over HTTP: what is there is given, and nothing that lies beside it."""

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.config import StudioConfig
from app.storage.training_folder import training_folder
from app.studio import Studio
from app.training.draft import number_of
from app.ui.server import Files
from extensions.lora.files.read import targets_in
from lavie.bundle import Bundle
from tests.extensions.lora.files import FAMILIES, Maker

HASH = "ab" * 32


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_bundle):
    """A client, the hash of an adapter with a picture, and the id of a set with one medium."""
    folder = tmp_path_factory.mktemp("served")
    studio = Studio(StudioConfig(data=folder / "data", model=str(tiny_bundle), device="cpu"))
    FAMILIES["kohya"](Maker(targets_in(Bundle(tiny_bundle))), folder / "plush.safetensors")
    Image.new("RGB", (90, 60), "teal").save(folder / "plush.png")
    row = studio.adapters.add(folder / "plush.safetensors", tiny_bundle)
    studio.drafts.add([folder / "plush.png"])
    draft = studio.drafts.current()
    samples = training_folder(studio.config.data, draft.id) / "samples"
    samples.mkdir()
    (samples / "step_000000_1.mp4").write_bytes(b"frames")
    (samples / "notes.txt").write_text("secret")
    with TestClient(Starlette(routes=Files(studio).routes())) as client:
        yield client, row.sha256, draft.id, number_of(draft.items[0])
    studio.close()


def test_pictures_are_given_with_their_kind(served):
    client, sha256, draft, number = served
    for address, kind in (
        (f"adapter/{sha256}.webp", "image/webp"),
        (f"training/{draft}/media/{number}.webp", "image/webp"),
        (f"training/{draft}/samples/step_000000_1.mp4", "video/mp4"),
    ):
        answer = client.get(f"/studio/{address}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "address",
    [
        "adapter/{hash}.safetensors",
        "adapter/{hash}",
        f"adapter/{HASH}.webp",
        "adapter/..%2F..%2Fstudio.db",
        "adapter/..%2F{hash}.webp",
        "training/{id}/samples/notes.txt",
        "training/{id}/samples/step_000001_1.mp4",
        "training/{id}/samples/..%2Fdraft.json",
        "training/{id}/samples/step_000000_1.mp4%00.png",
        "training/../samples/step_000000_1.mp4",
        "training/..%2F..%2Fwork/samples/step_000000_1.mp4",
        "training/{id}/media/0000-plush.png",
        "training/{id}/media/*.webp",
        "training/{id}/media/9999.webp",
        "training/nothing/media/0000.webp",
    ],
)
def test_nothing_else_is(served, address):
    client, sha256, draft, _ = served
    assert client.get(f"/studio/{address.format(hash=sha256, id=draft)}").status_code == 404
