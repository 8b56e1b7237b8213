"""`python app.py` as a Space starts it: without arguments, told by its environment, behind a name and in a frame."""

import contextlib
import http.client
import os
import shutil
import socket

import httpx
import pytest

from app.config import ROOT
from tests.pages.browser import free_port, serve, stop

HOST = "ada-studio.hf.space"


@contextlib.contextmanager
def space(folder, port, **environ):
    before = dict(os.environ)
    told = {"SYSTEM": "spaces", "SPACE_ID": "ada/studio", "SPACE_HOST": HOST, "LAVIE_PORT": str(port)}
    os.environ.update({**told, "LAVIE_DATA": str(folder / "data"), **environ})
    try:
        with open(folder / "log", "a") as log:
            process = serve(["app.py"], port, log)
            try:
                yield
            finally:
                stop(process)
    finally:
        os.environ.clear()
        os.environ.update(before)
    # Gradio looks for the package `spaces` there, which is not here; none of our own code may fail.
    assert f'File "{ROOT}' not in (folder / "log").read_text()


def ask(port, host):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))  # sends nothing
            return trial.getsockname()[0]
        except OSError:
            return None


def test_it_serves_everybody_and_the_hub_may_frame_it(tmp_path):
    port = free_port()
    with space(tmp_path, port):
        for host in (HOST, "127.0.0.1", "10.1.2.3:7860"):  # its name, gradio's look at itself, the hub's look at it
            status, headers, page = ask(port, host)
            assert status == 200 and "LaVie Studio" in page
            assert "x-frame-options" not in headers
            assert headers["content-security-policy"].startswith("frame-ancestors 'self' https://huggingface.co ")
        if address := own_address():
            assert httpx.get(f"http://{address}:{port}/", timeout=60).status_code == 200
    assert (tmp_path / "data" / "studio.db").is_file()


def test_what_was_there_before_a_restart_is_there_after_it(tmp_path, tiny_bundle, monkeypatch):
    monkeypatch.setenv("LAVIE_MODEL", str(tiny_bundle))
    port, bucket = free_port(), tmp_path / "bucket"
    values = {"data": ["a red star", 1, 2, None, None, "", False, False, None, None, None, None, True]}
    # The page gives a visitor a cookie, by which the visitor is known again after the restart.
    visitor = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)
    with visitor, space(tmp_path, port, LAVIE_SNAPSHOTS=str(bucket)):
        visitor.get("/")
        made = visitor.post("/gradio_api/run/render", json=values)
        clip, _ = made.json()["data"]
        cookies = dict(visitor.cookies)
    shutil.rmtree(tmp_path / "data")
    visitor = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, cookies=cookies)
    with visitor, space(tmp_path, port, LAVIE_SNAPSHOTS=str(bucket)):
        again = visitor.post("/gradio_api/run/clip", json={"data": [clip["id"]]})
        assert again.json()["data"][0]["frame_hash"] == clip["frame_hash"]
        assert (tmp_path / "data" / "clips" / f"{clip['id']}.mp4").is_file()


@pytest.mark.parametrize("limit", ["JOBS=none", "SECONDS=-1", "SECONDS=nan", "JOBS=0"])
def test_a_limit_that_is_none_stops_it_at_once(tmp_path, limit, run, monkeypatch):
    name, _, value = limit.partition("=")
    monkeypatch.setenv(f"LAVIE_LIMIT_{name}", value)
    done = run()
    assert done.exit_code == 1 and value in done.output
