"""Files of clips over HTTP, as they vanish: purged between being found and being read."""

import asyncio

import pytest
from starlette.responses import FileResponse

from app.ui.server import FileOrNotFound

REQUEST = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}


def answer(response, **scope):
    """The messages that a server would send on."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.sleep(3600)

    asyncio.run(response({**REQUEST, **scope}, receive, send))
    return sent


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_file_that_is_there_is_sent(tmp_path, spec):
    (tmp_path / "a.mp4").write_bytes(b"frames")
    start, body = answer(FileOrNotFound(FileResponse(tmp_path / "a.mp4")), asgi={"spec_version": spec})
    assert (start["status"], body["body"]) == (200, b"frames")


@pytest.mark.parametrize("headers", [[], [(b"range", b"bytes=1-2")]])
@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_is_purged_meanwhile_is_not_found(tmp_path, headers, spec, known):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"frames")
    response = FileResponse(path, stat_result=path.stat() if known else None)
    path.unlink()
    sent = answer(FileOrNotFound(response), headers=headers, asgi={"spec_version": spec})
    assert [message.get("status") for message in sent if message["type"] == "http.response.start"] == [404]


def test_other_faults_are_not_hidden():
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        answer(FileOrNotFound(broken))
