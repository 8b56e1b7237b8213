"""A shared Space over HTTP: cookies tell visitors apart on every route, in gradio's queue too."""

import json

import httpx
import pytest

from app.ui.public.visitors import COOKIE
from tests.app.space.test_space_server import space
from tests.pages.browser import free_port

ADA, BOB = "a" * 32, "b" * 32
VALUES = ["a red star spinning on a navy background", 1, 1, None, None, "", False, False, None, None, None, None, True]


@pytest.fixture(scope="module")
def address(tmp_path_factory, tiny_bundle):
    port = free_port()
    with space(tmp_path_factory.mktemp("shared"), port, LAVIE_LIMIT_JOBS="2", LAVIE_MODEL=str(tiny_bundle)):
        yield f"http://127.0.0.1:{port}"


def asked(address, who, method, path, **more):
    headers = {"Cookie": f"{COOKIE}={who}"} if who else {}
    return httpx.request(method, f"{address}{path}", headers=headers, timeout=300, **more)


@pytest.fixture(scope="module")
def clip(address):
    """Of Ada's."""
    return asked(address, ADA, "POST", "/gradio_api/run/render", json={"data": VALUES}).json()["data"][0]["id"]


def queued(address, who, name, data):
    """A call through gradio's queue; its answer."""
    event = asked(address, who, "POST", f"/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    lines = asked(address, who, "GET", f"/gradio_api/call/{name}/{event}").text.splitlines()
    return json.loads(lines[-2 if lines[-1] == "" else -1].removeprefix("data: "))


def test_a_cookie_is_given_to_who_has_none(address):
    first = asked(address, None, "GET", "/")
    given = first.headers["set-cookie"]
    assert given.startswith(f"{COOKIE}=") and "HttpOnly; Secure; SameSite=None; Partitioned" in given
    token = given.partition("=")[2].partition(";")[0]
    assert len(token) == 32 and "set-cookie" not in asked(address, token, "GET", "/").headers
    for forged in ("x", "x" * 33, "a b", "'; DROP"):
        assert "set-cookie" in asked(address, forged, "GET", "/").headers


def test_a_clip_is_its_makers_on_every_way_to_it(address, clip):
    for who, there in ((ADA, True), (BOB, False), (None, False)):
        for kind in ("mp4", "poster.webp"):
            assert asked(address, who, "GET", f"/studio/media/{clip}.{kind}").status_code == (200 if there else 404)
        search = {"data": ["", {}, None, 24]}
        found = asked(address, who, "POST", "/gradio_api/run/search", json=search).json()["data"][0]
        assert [each["id"] for each in found["clips"]] == ([clip] if there else [])
        told = asked(address, who, "POST", "/gradio_api/run/job", json={"data": [clip]})
        assert (told.status_code == 200) is there
        if who:
            assert ("recipe" in json.dumps(queued(address, who, "clip", [clip]))) is there
            assert bool(queued(address, who, "search", search["data"])[0]["clips"]) is there


def test_what_is_pushed_to_pages_is_their_visitors(address, clip):
    for who, there in ((ADA, True), (BOB, False)):
        headers = {"Cookie": f"{COOKIE}={who}"}
        with httpx.stream("GET", f"{address}/studio/live", headers=headers, timeout=60) as live:
            first = next(line for line in live.iter_lines() if line.startswith("data: "))
        assert (clip in first) is there


def test_the_page_has_a_wall_and_no_trainings(address):
    labels = json.dumps(asked(address, ADA, "GET", "/config").json()["components"])
    assert "lv-wall" in labels and "lv-zip" in labels and "lv-space" in labels
    assert '"id": "personalize"' not in labels


def test_the_files_of_the_folder_go_out_by_no_other_way(address, clip, tmp_path_factory):
    data = next(tmp_path_factory.getbasetemp().glob("shared*/data"))
    assert (data / "clips" / f"{clip}.mp4").is_file()
    for who in (ADA, BOB):
        assert asked(address, who, "GET", f"/gradio_api/file={data}/clips/{clip}.mp4").status_code in (403, 404)
