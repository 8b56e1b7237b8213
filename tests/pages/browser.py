"""Real servers and what is asked of every page, for the tests in this folder."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from app.config import ROOT, StudioConfig
from app.studio import Studio
from lavie.request import Request, Sampling

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 150_000  # milliseconds; only a broken page needs them


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def serve(command, port, log):
    """Start a server and wait until it answers; the process."""
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(f"the server did not start: {Path(log.name).read_text()}")


def stop(process) -> int:
    process.terminate()
    return process.wait(60)


@contextlib.contextmanager
def fake_studio(folder: Path, step_seconds: float, *auth: str):
    """The page over a `FakeCascade` of 20 steps a stage; its address. Fails on a traceback in its output."""
    port = free_port()
    with open(folder / "log", "w") as log:
        process = serve(["-m", "tests.servers.fake", folder / "data", port, step_seconds, *auth], port, log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)
    assert "Traceback" not in (folder / "log").read_text()


def tiny_clip(folder: Path, bundle: Path) -> str:
    """A clip in the data folder that `tiny_studio` will serve; its id."""
    studio = Studio(StudioConfig(data=folder / "data", model=str(bundle), device="cpu"))
    clip = studio.submit(Request("a red star", seed=1, base=Sampling(steps=1)))
    assert [snapshot.state for snapshot in studio.follow(clip)][-1] == "done"
    studio.close()
    return clip


@contextlib.contextmanager
def tiny_studio(folder: Path, bundle: Path):
    """The page over real networks at toy size (`tests.tiny`); its address. Fails on a traceback in its output."""
    port = free_port()
    with open(folder / "log", "w") as log:
        process = serve(["app.py", "--data", folder / "data", "--model", bundle, "--port", port], port, log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)
    assert "Traceback" not in (folder / "log").read_text()


# Pages that wait for their next visitor, and what they complain of, by how their browser is set up. A page that was
# used before has its scripts compiled, which takes longer than all else about it.
waiting: dict[str, list[tuple]] = {}


@contextlib.contextmanager
def watched(browser, address: str | None = None, **context):
    """A page of a visitor who was never here, at the address where one is given. Fails on what a page must not do.

    Says yes to every question that the page asks.
    """
    left = waiting.setdefault(repr(sorted(context.items())), [])
    page, complaints = left.pop() if left else _open_page(browser, context)
    try:
        if address:
            page.goto(address)
        yield page
        assert not complaints, complaints
        again = address and not page.is_closed() and page.context.pages == [page]
    except BaseException:
        page.context.close()
        raise
    if not again:
        page.context.close()
        return
    page.unroute_all()
    page.context.clear_cookies()
    page.evaluate("localStorage.clear(), sessionStorage.clear()")
    page.goto(f"{address}/theme.css")  # where nothing runs
    complaints.clear()
    left.append((page, complaints))


def _open_page(browser, context: dict) -> tuple:
    opened = browser.new_context(**context)
    opened.set_default_timeout(PATIENCE)
    page, complaints = opened.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url) else None)
    page.on("dialog", lambda dialog: dialog.accept())
    return page, complaints


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def unfold(page, name, field):
    """Open a fold by the name on it, and wait for a field that is in it."""
    page.get_by_role("button", name=name).click()
    settled(field)


def settled(field):
    """Wait for a field in a tab or a fold that was just opened: in the frame after the first, gradio gives it its value
    once more, and what is typed by then, as nobody can, is lost."""
    field.wait_for()
    field.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def generate(page, prompt, seed="", **switches):
    """Fill in the form and ask for a video."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed", exact=True).fill(seed)
    for name, on in switches.items():
        page.get_by_label(name).set_checked(on)
    button(page, "Generate").click()
