"""The named endpoints as scripts meet them: every example of docs/api.md, and what a client may do wrong."""

import contextlib
import json
import shutil
import subprocess
import time

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app.config import ROOT, ConfigError, StudioConfig
from app.media import probe
from app.storage.database import Database
from app.ui.api import endpoints
from app.ui.api.endpoints import MOST_WAITING
from app.ui.server import check_mcp
from tests.app.studios import until
from tests.app.ui.api_page import ADAPTERS, ADDRESS, LOGIN, LONG, PAGE, blocks, run_python, section
from tests.pages.browser import fake_studio


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """A studio whose stages take 0.4 seconds; its address."""
    with fake_studio(tmp_path_factory.mktemp("api"), 0.02) as address:
        yield address


@pytest.fixture(scope="module")
def client(fake, tmp_path_factory):
    return Client(fake, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def sections() -> tuple[str, str]:
    """The page without its parts about logins, long videos and adapters, and that about logins."""
    without, login = section(LOGIN)
    return section(ADAPTERS, section(LONG, without)[0])[0], login


def run_bash(section: str, address: str, folder) -> str:
    script = "set -euo pipefail\n" + "\n".join(blocks("bash", section)).replace(ADDRESS, address)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_examples(fake):
    run_python(sections()[0], fake)


def test_the_examples_with_a_login(tmp_path):
    with fake_studio(tmp_path, 0.02, "ada:secret") as address:
        run_python(sections()[1], address)
        if shutil.which("curl"):
            assert '"total_is_exact": true' in run_bash(sections()[1], address, tmp_path).replace('":true', '": true')


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_examples(fake, tmp_path):
    said = run_bash(sections()[0], fake, tmp_path)
    assert "a red star spinning" in said and '"total_is_exact"' in said
    assert probe(tmp_path / "star.mp4").frames == 4


def test_the_page_names_every_endpoint_and_every_parameter(fake):
    described = httpx.get(f"{fake}/gradio_api/info").json()["named_endpoints"]
    assert list(described) == [f"/{name}" for name in endpoints.NAMES]  # nothing that only serves the page
    for name, facts in described.items():
        assert f"### {name}\n" in PAGE and facts["description"]
        part = PAGE.partition(f"### {name}\n")[2].partition("\n#")[0]
        assert [p["parameter_name"] for p in facts["parameters"] if f"`{p['parameter_name']}`" not in part] == []
        assert all(parameter["type"] for parameter in facts["parameters"])


def test_a_clip_and_its_file(fake, client):
    clip, file = client.predict("a red star", seed=7, interpolate=True, api_name="/render")
    assert set(clip) >= {"id", "url", "frames", "width", "height", "fps", "seed", "frame_hash", "seconds"}
    assert (clip["seed"], clip["frames"], clip["stages"].keys()) == (7, 4, {"base", "interpolation"})
    with open(file, "rb") as stream:
        assert stream.read() == httpx.get(f"{fake}/{clip['url']}").content
    assert all(httpx.get(f"{fake}/{clip[kind]}").status_code == 200 for kind in ("url", "poster", "preview"))
    facts = client.predict(clip["id"], api_name="/clip")
    assert facts["frame_hash"] == clip["frame_hash"] == facts["recipe"]["frame_hash"]
    assert str(ROOT) not in json.dumps(facts) and "path" not in facts


def test_a_job_that_nobody_waits_for(client):
    job, file = client.predict("a red star", wait=False, api_name="/render")
    assert file is None and job["state"] in ("queued", "running")
    while job["state"] != "done":
        time.sleep(0.05)
        job = client.predict(job["id"], api_name="/job")
    assert (job["step"], job["steps"], job["clip"]["id"]) == (20, 20, job["id"])
    assert job["notices"] == ["the word <b>flurb</b> is not known"]
    again = client.predict(job["id"], wait=False, api_name="/regenerate")
    assert again["kind"] == "regenerate" and again["parent"] == job["id"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompt": " "}, "prompt is empty: say what the video should show"),
        ({"prompt": "x" * 100_000}, "prompt has 100000 characters: shorten it to 4000"),
        ({"prompt": None}, "prompt is None: give a text"),
        ({"prompt": ["x"] * 10_000}, "prompt is ['x'"),
        ({"seed": 2**53}, "seed is 9007199254740992: give a whole number from 0 to 9007199254740991"),
        ({"seed": "7"}, "seed is '7': give a whole number"),
        ({"steps": 1.5}, "steps is 1.5: give a whole number from 1 to 1000"),
        ({"guidance": -1}, "guidance is -1: give a number from 0 to 50"),
        ({"sampler": {"a": 1}}, "choose one of ddpm, ddim"),
        ({"negative": 5}, "negative_prompt is 5: give a text"),
        ({"width": 13}, "width is 13: give a multiple of 8"),
        ({"fps": True}, "fps is True: give a number"),
        ({"interpolate": "yes"}, "interpolate is 'yes': give true or false"),
        ({"wait": None}, "wait is None: give true or false"),
        ({"prompt": "refused"}, "prompt is 'refused': say something else"),
    ],
)
def test_wrong_values_are_told_in_one_line(client, values, words):
    with pytest.raises(AppError) as caught:
        client.predict(**{"prompt": "a red star", **values}, api_name="/render")
    assert words in str(caught.value) and len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["../studio.db", "%2e%2e", "", "x" * 100_000, "a/b", "nope", None, 5, ["a"], {"a": 1}]
)
@pytest.mark.parametrize("endpoint", ["/job", "/cancel", "/clip", "/regenerate"])
def test_ids_that_are_none(client, endpoint, value):
    with pytest.raises(AppError, match=r"is none of ours|has the id|no clip"):
        client.predict(value, api_name=endpoint)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"filters": {"path": "/etc"}}, "a search has no field 'path'"),
        ({"filters": {"seed": "x"}}, "seed is 'x'"),
        ({"filters": {"text": "star"}}, "with no text among them"),
        ({"filters": [1]}, "give an object"),
        ({"filters": {"sort": ["newest"]}}, "sort is"),
        ({"text": 5}, "the text to look for is 5"),
        ({"text": "x" * 100_001}, "at most 100000"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": "all"}, "limit is 'all'"),
        ({"after": "nonsense"}, "nonsense"),
        ({"after": 5}, "5"),
    ],
)
def test_wrong_searches_are_told_in_one_line(client, values, words):
    with pytest.raises(AppError) as caught:
        client.predict(**values, api_name="/search")
    assert words in str(caught.value) and len(str(caught.value)) <= 500


def call(fake, path, body) -> httpx.Response:
    return httpx.post(f"{fake}/gradio_api/{path}", content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("call/v2/nosuch", "{}", 404, "no endpoint is called 'nosuch': choose one of render"),
        ("call/nosuch", '{"data": []}', 404, "no endpoint is called 'nosuch'"),
        ("call/v2/render", "{}", 422, "required argument: prompt"),
        ("call/v2/render", '{"prompt": "a", "output": "/tmp/x.mp4"}', 422, "`output` is not a valid"),
        ("call/v2/render", "[1]", 422, "valid dictionary"),
        ("call/v2/render", "{bad", 422, "JSON decode error"),
        ("call/v2/search", '{"filters": {"a":' + "[" * 100_000 + "]" * 100_000 + "}}", 400, "error parsing the body"),
        ("call/v2/render", '{"prompt": "a", "seed": ' + "9" * 5000 + "}", 400, "error parsing the body"),
        ("run/clip", '{"data": []}', 500, "/clip takes 1 values in `data`, not 0"),
        ("run/clip", '{"data": ["nope"]}', 500, "'nope'"),
    ],
)
def test_calls_that_are_none(fake, path, body, status, words):
    answer = call(fake, path, body)
    assert answer.status_code == status and words in answer.text
    assert str(ROOT) not in answer.text and "Traceback" not in answer.text


def test_many_who_wait_starve_nobody_and_outlive_their_clients(tmp_path):
    """More clients than may wait, on one long job; each has hung up when the studio closes."""
    with fake_studio(tmp_path, 0.05) as address:
        values = {"prompt": "a red star", "steps": 1000}
        events = [call(address, "call/v2/render", json.dumps(values)).json()["event_id"] for _ in range(MOST_WAITING)]
        with contextlib.closing(Database(tmp_path / "data")) as database:
            until(lambda: database.query("SELECT count(*) AS number FROM jobs")[0]["number"] == MOST_WAITING)
        answer = call(
            address, "run/render", json.dumps({"data": ["late", *[None] * 4, "", False, False, *[None] * 4, True]})
        )
        assert answer.json()["error"].startswith("24 clients wait for videos already: ask with wait=false")
        client = Client(address, verbose=False, download_files=False)
        found, _ = client.predict("at once", wait=False, api_name="/render")
        assert httpx.get(address).status_code == 200
        assert len(events) == MOST_WAITING and found["state"] == "queued"
    assert (tmp_path / "log").read_text().count("\n") == 1  # nothing but its address


def test_mcp_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--mcp needs .*: pip install 'gradio\[mcp\]'"):
        check_mcp(StudioConfig(mcp=True))
    check_mcp(StudioConfig())
