"""Who may fetch what from an open studio: every route, without and with a login, and every way to a file."""

import asyncio
import contextlib
import http.client
import json
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from app.config import ROOT
from app.ui.guard import GUESS_SECONDS, MOST_GUESSES, MOST_GUESSES_IN_ALL, FewGuesses
from tests.pages.browser import free_port, serve, stop

LOGIN = {"username": "ada", "password": "secret"}
PUBLIC = {
    "/", "/login", "/logout", "/favicon.ico", "/theme.css", "/robots.txt", "/manifest.json", "/assets/x", "/static/x",
    "/svelte/x", "/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/token", "/gradio_api/user",
    "/gradio_api/login_check",
}  # fmt: skip
CLOSED = (
    "/studio/live", "/config", "/gradio_api/info", "/gradio_api/queue/status", "/gradio_api/heartbeat/x",
    "/gradio_api/mcp/", "/docs", "/nosuch", "/openapi.json", "/gradio_api/openapi.json", "/assets", "/./config",
    "/static/../config", "/gradio_api/runs",
)  # fmt: skip


@contextlib.contextmanager
def served(folder: Path):
    """A studio that asks for a login, and may grumble on its terminal about what it is fed with; its address."""
    port = free_port()
    with open(folder / "log", "w") as log:
        process = serve(["-m", "tests.servers.fake", folder / "data", port, 0.0, "ada:secret"], port, log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the server: its `data`, and gradio's `cache`."""
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def address(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "cache"))
        with served(folder) as address:
            yield address


@pytest.fixture(scope="module")
def clip(address, folder):
    """A clip of that server: its facts, and the path of its file."""
    with httpx.Client(base_url=address, timeout=60) as client:
        client.post("/login", data=LOGIN)
        values = {"data": ["a red star", 1, None, None, None, "", False, False, None, None, None, None, True]}
        facts, _ = client.post("/gradio_api/run/render", json=values).json()["data"]
    return SimpleNamespace(id=facts["id"], path=str(folder / "data" / "clips" / f"{facts['id']}.mp4"))


@pytest.fixture
def member(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.post("/login", data=LOGIN).json() == {"success": True}
        yield client


def ask(address, method, path, cookie="", **headers) -> tuple[int, bytes]:
    """A request whose path is sent as it is: httpx would tidy up what an attacker would not."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)
    try:
        headers = {"Content-Type": "application/json", "Cookie": cookie} | headers
        connection.request(method, path, body=b"{}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(100_000) if answer.status != 200 or "live" not in path else b""
    finally:
        connection.close()


ROUTES = """
import json, sys
from pathlib import Path
from gradio.routes import App
from app.config import StudioConfig
from app.studio import Studio
from app.ui.build import build
app = App.create_app(build(Studio(StudioConfig(data=Path(sys.argv[1])))))
inside = [getattr(route, "original_router", None) for route in app.routes]
routes = [*app.routes, *(route for router in inside if router for route in router.routes)]
routes = [route for route in routes if hasattr(route, "path")]
print(json.dumps([[route.path, sorted(getattr(route, "methods", None) or ["GET"])] for route in routes]))
"""


def gradio_routes(folder: Path) -> set[tuple[str, str]]:
    """Every method and path that gradio answers for our page, with `x` for what a path leaves open."""
    command = [sys.executable, "-c", ROUTES, str(folder)]  # gradio leaves an event loop behind
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    routes = json.loads(done.stdout.splitlines()[-1])
    return {(method, re.sub(r"{[^}]*}", "x", path)) for path, methods in routes for method in methods}


def test_without_a_login_no_route_gives_anything(address, clip, tmp_path):
    asked = {(method, path) for method, path in gradio_routes(tmp_path) if (path.rstrip("/") or "/") not in PUBLIC}
    asked |= {("GET", path) for path in (*CLOSED, f"/studio/media/{clip.id}.mp4", f"/gradio_api/file={clip.path}")}
    calls = ("call/v2/search", "run/search", "queue/join", "upload", "cancel", "mcp/")
    asked |= {("POST", f"/gradio_api/{path}") for path in calls}
    assert len(asked) > 60
    wrong = {request: status for request in sorted(asked) if (status := ask(address, *request)[0]) != 401}
    # Gradio's own files, which hold nothing of ours: `..` leads out of none of them.
    assert wrong.pop(("GET", "/static/../config"), 404) in (403, 404)
    assert wrong == {}


def test_what_a_login_page_needs_says_nothing_of_ours(address, clip):
    for path in sorted(PUBLIC):
        status, body = ask(address, "GET", path)
        assert status in (200, 302, 307, 401, 404, 405), path
        assert clip.id.encode() not in body and b"a red star" not in body and str(ROOT).encode() not in body
    assert b'"auth_required":true' in ask(address, "GET", "/")[1]


@pytest.mark.parametrize("cookie", ["", "access-token-unsecure-x=y", "access-token-=None", "x=\xff"])
def test_cookies_that_are_none(address, cookie):
    assert ask(address, "GET", "/studio/live", cookie)[0] == 401


def test_with_a_login_it_works(member, clip):
    for path in ("/config", "/gradio_api/info", f"/studio/media/{clip.id}.mp4", f"/studio/media/{clip.id}.poster.webp"):
        assert member.get(path).status_code == 200, path
    with member.stream("GET", "/studio/live") as live:
        assert live.status_code == 200 and next(live.iter_lines()).startswith("data: {")
    found = member.post("/gradio_api/run/search", json={"data": ["star", {}, None, 24]}).json()["data"][0]
    assert [each["id"] for each in found["clips"]] == [clip.id]


def test_signing_out_ends_it(address):
    with httpx.Client(base_url=address) as client:
        client.post("/login", data=LOGIN)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
        assert ask(address, "GET", "/config", cookies)[0] == 200
        client.get("/logout?all_session=false", follow_redirects=False, headers={"Cookie": cookies})
    assert ask(address, "GET", "/config", cookies)[0] == 401


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "localhost.", "[::2]", ""])
@pytest.mark.parametrize("path", ["/", "/studio/live", "/gradio_api/info", "/login"])
def test_foreign_names_are_not_answered(address, host, path):
    assert ask(address, "GET", path, Host=host)[0] == 400


@pytest.mark.parametrize(
    "path",
    ["/openapi.json", "/docs", "/redoc", "/monitoring/x", "/gradio_api/runs", "/gradio_api/run-history/buckets",
     "/gradio_api/profiling/traces"],
)  # fmt: skip
def test_what_is_switched_off(member, path):
    assert member.get(path).status_code in (403, 404), member.get(path).text[:200]


def test_nobody_watches_or_rewrites_the_program(member):
    for path in ("monitoring", "monitoring/summary"):
        assert "a red star" not in member.get(f"/{path}").text
        assert member.get(f"/{path}").status_code in (403, 404)
    for path in ("vibe-edit", "vibe-code"):
        assert member.post(f"/gradio_api/{path}", json={"prompt": "x", "code": "x"}).status_code >= 400


def test_no_file_but_a_clip_is_given(member, address, clip, tmp_path):
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in member.cookies.jar)
    clips = Path(clip.path).parent
    other = tmp_path / "clips" / "other.json"
    other.parent.mkdir()
    other.write_text("{}")
    (clips / "link.mp4").symlink_to(clips.parent / "studio.db")
    secrets = [clips.parent / "studio.db", ROOT / "app.py", ROOT / "app" / "cli.py", other, Path("/etc/passwd"), clips]
    secrets += [clips / "link.mp4", f"{clips}/../studio.db", f"{clips}/%2e%2e/studio.db", f"{clips}/..%2fstudio.db"]
    secrets += ["app.py", "../data/studio.db", "%2e%2e/app.py", "..%5capp.py", f"{clips}/%252e%252e/studio.db"]
    for secret in secrets:
        for route in ("/gradio_api/file=", "/gradio_api/file/"):
            status, body = ask(address, "GET", f"{route}{secret}", cookies)
            assert status in (403, 404), (route, secret, status)
            assert b"SQLite" not in body and b"import" not in body
    names = ["../studio.db", "..%2fstudio.db", "%2e%2e%2fstudio.db", "link.mp4", ".mp4", "%00.mp4", clip.id]
    names += [f"{clip.id}{ending}" for ending in (".json", ".mp4/../x", ".poster.webp%00", ".mp4%2f..%2fx")]
    for name in [*names, f"..%2fclips%2f{clip.id}.mp4"]:
        assert ask(address, "GET", f"/studio/media/{name}", cookies)[0] in (403, 404), name
    (clips / "link.mp4").unlink()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://example.com/x", "//example.com/x", "HTTP://a.b", "http:/x"]
)
def test_nothing_is_fetched_from_elsewhere(member, address, url):
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in member.cookies.jar)
    for route in ("file=", "proxy=", "file/"):
        assert ask(address, "GET", f"/gradio_api/{route}{url}", cookies)[0] in (403, 404), (route, url)


def test_no_event_takes_a_file_of_the_server(member, folder):
    """Every event of the page, fed with a file that nobody uploaded."""
    secret = folder / "data" / "studio.db"
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    events = [each for each in member.get("/config").json()["dependencies"] if each["backend_fn"] and each["inputs"]]
    assert len(events) > 20
    for event in events:
        call = member.post(f"/gradio_api/call/{event['api_name']}", json={"data": [file] * len(event["inputs"])})
        if call.status_code == 200:
            answer = member.get(f"/gradio_api/call/{event['api_name']}/{call.json()['event_id']}").text
            assert "event: error" in answer or "/file=" not in answer, event["api_name"]
            assert str(secret) not in answer
    assert list((folder / "cache").rglob("studio.db")) == []


def test_what_is_uploaded_is_given_back_as_a_download(member):
    files = {"files": ("evil.html", b"<script>alert(1)</script>", "text/html")}
    (path,) = member.post("/gradio_api/upload", files=files).json()
    answer = member.get(f"/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_headers(member, clip):
    with member.stream("GET", "/studio/live") as live:
        assert live.headers["cache-control"] == "no-store"
    for path in ("/", "/config", f"/studio/media/{clip.id}.mp4", "/studio/media/x.mp4", "/nosuch"):
        answer = member.get(path, headers={"Origin": "http://attacker.example"})
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["x-frame-options"] == "SAMEORIGIN" and answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers.get("access-control-allow-origin") not in ("*", "http://attacker.example")
    media = member.get(f"/studio/media/{clip.id}.mp4")
    assert media.headers["cache-control"].startswith("private") and media.headers["content-type"] == "video/mp4"
    part = member.get(f"/studio/media/{clip.id}.mp4", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, media.content[:10])


def test_passwords_cannot_be_tried_without_end(tmp_path):
    with served(tmp_path) as address:
        tried = [httpx.post(f"{address}/login", data={**LOGIN, "password": str(n)}).status_code for n in range(12)]
        assert tried == [400] * MOST_GUESSES + [429] * 2
        late = httpx.post(f"{address}/login", data=LOGIN)
        assert late.status_code == 429 and late.json()["detail"] == "Too many attempts: wait a minute."


def test_guesses_are_counted_by_address_and_forgotten_after_a_minute():
    now = [0.0]

    async def gradio(scope, receive, send):
        await send({"type": "http.response.start", "status": 200 if scope["good"] else 400, "headers": []})

    guarded = FewGuesses(gradio, clock=lambda: now[0])

    def login(address, good=False, path="/login"):
        sent = []

        async def send(message):
            sent.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": path, "client": (address, 1), "good": good}
        asyncio.run(guarded(scope, None, send))
        return sent[0]

    assert [login("a", good=True) for _ in range(50)] == [200] * 50  # what is right counts for nothing
    assert [login("a") for _ in range(MOST_GUESSES + 1)] == [400] * MOST_GUESSES + [429]
    assert login("a", good=True) == 429 and login("a", path="/login/") == 429
    assert login("b", good=True) == 200
    now[0] = GUESS_SECONDS
    assert login("a") == 400
    assert [login(str(n)) for n in range(MOST_GUESSES_IN_ALL)][-2:] == [400, 429]
    assert len(guarded._guesses) == MOST_GUESSES_IN_ALL
