"""What open pages cost, and how quickly a click is answered while a job runs: a real studio over a cascade that only
sleeps, so that all that is measured is the studio's own work; and how soon the page is there.

    python -m bench.pages [--pages 20] [--seconds 30] [--clicks 60] [--browser]

A page is the connection to `studio/live` that each browser tab holds; `--browser` opens real ones in a Chromium too.
Exits with 1 if the pages cost more than 5 % of a core, or the 95th percentile of a click is above 200 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from app.config import ROOT
from tests.pages.browser import CHROMIUM, free_port, serve, stop

RESULTS = Path(__file__).parent / "results" / "pages.json"
MOST_SHARE, MOST_MS = 5.0, 200.0  # percent of a core; of a click
STEP_SECONDS, STEPS = 0.25, 1000  # of the job: it outlasts every measurement
SETTLE_SECONDS = 3.0  # for pages to be told everything once


class Server:
    """A studio in a process of its own. address: where it answers."""

    def __init__(self, process, address: str):
        self._process, self.address = psutil.Process(process.pid), address
        self._client = httpx.Client(base_url=address, timeout=60)  # keeps its connection open, as browsers do

    def share(self, seconds: float) -> float:
        """Processor time in percent of a core."""
        before, began = self._process.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, wall = self._process.cpu_times(), time.monotonic() - began
        return round(100 * (after.user + after.system - before.user - before.system) / wall, 2)

    def call(self, path: str, **values) -> httpx.Response:
        """POST JSON to gradio; raises for what is refused."""
        return self._client.post(f"/gradio_api/{path}", json=values).raise_for_status()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Open a studio on an empty data folder."""
    port = free_port()
    with open(folder / "log", "w") as log:
        process = serve(["-m", "tests.servers.fake", folder / "data", port, STEP_SECONDS], port, log)
        try:
            yield Server(process, f"http://127.0.0.1:{port}")
        finally:
            stop(process)


@contextlib.contextmanager
def connected(address: str, pages: int) -> Iterator[list[int]]:
    """Connections as browsers hold them; how many bytes came over each."""
    ended, bytes_of = threading.Event(), [0] * pages

    def hold(number: int) -> None:
        with httpx.stream("GET", f"{address}/studio/live", timeout=60) as live:
            for chunk in live.iter_raw():
                bytes_of[number] += len(chunk)
                if ended.is_set():
                    break

    threads = [threading.Thread(target=hold, args=(number,), daemon=True) for number in range(pages)]
    for thread in threads:
        thread.start()
    try:
        yield bytes_of
    finally:
        ended.set()


@contextlib.contextmanager
def browsed(address: str, pages: int) -> Iterator[None]:
    """Real pages in one Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(pages):
            page = chromium.new_context().new_page()
            page.goto(address, timeout=120_000)
            page.locator(".lv-chip").wait_for(timeout=120_000)
        yield
        chromium.close()


def click_times(server: Server, clicks: int) -> dict[str, float]:
    """Milliseconds in which the queue's buttons answer, pressed in turn as the page does it."""
    config = httpx.get(f"{server.address}/config", timeout=60).json()
    board = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "lv-queue")
    event = next(each["id"] for each in config["dependencies"] if [board, "act"] in each["targets"])
    pressed = {"data": [], "fn_index": event, "trigger_id": board, "session_hash": "bench"}
    times = []
    for number in range(clicks + 1):
        act = {"act": "pause_queue" if number % 2 else "resume_queue"}
        began = time.perf_counter()
        server.call("run/predict", **pressed, event_data=act)
        times.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.1)
    server.call("run/predict", **pressed, event_data={"act": "resume_queue"})
    times = sorted(times[1:])  # the first one opens what the others use
    return {
        "p50_ms": round(times[len(times) // 2], 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
        "max_ms": round(times[-1], 1),
    }


def usable_after() -> float:
    """Seconds from the start of `python app.py` over Nano until the button of the page can be pressed."""
    from playwright.sync_api import Error, sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page, port = chromium.new_page(), free_port()
        command, began = ["app.py", "--data", folder, "--port", str(port)], time.monotonic()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(Error):  # as long as nobody listens
                    page.goto(f"http://127.0.0.1:{port}")
                    break
                time.sleep(0.05)
            page.locator("#lv-generate:enabled").wait_for(timeout=60_000)
            return round(time.monotonic() - began, 1)
        finally:
            chromium.close()
            stop(process)


def measure(server: Server, asked: argparse.Namespace) -> dict:
    """Idle and with a job under way, without and with pages."""
    shares: dict[str, float] = {}

    def look(what: str) -> None:
        shares[f"{what}, no page"] = server.share(asked.seconds)
        with connected(server.address, asked.pages) as received:
            time.sleep(SETTLE_SECONDS)
            before, began = sum(received), time.monotonic()
            shares[f"{what}, {asked.pages} pages"] = server.share(asked.seconds)
            rates[what] = round((sum(received) - before) / (time.monotonic() - began) / asked.pages)
            clicks[what] = click_times(server, asked.clicks)
        if asked.browser:
            with browsed(server.address, asked.pages):
                time.sleep(SETTLE_SECONDS)
                shares[f"{what}, {asked.pages} pages in Chromium"] = server.share(asked.seconds)

    rates: dict[str, int] = {}
    clicks: dict[str, dict[str, float]] = {}
    look("idle")
    server.call("call/v2/render", prompt="a red star", steps=STEPS, wait=False)
    time.sleep(SETTLE_SECONDS)
    look("job")
    return {"cpu_percent": shares, "bytes_a_second_and_page": rates, "clicks": clicks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--browser", action="store_true", help="real pages in a Chromium too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        time.sleep(SETTLE_SECONDS)
        result = measure(server, asked)
    if Path(CHROMIUM).exists():
        usable_after()  # so that the disk is warm
        result["start_seconds"] = usable_after()
    table = Table(title=f"{asked.pages} pages, steps of {STEP_SECONDS} s, {os.cpu_count()} cores")
    table.add_column("")
    table.add_column("", justify="right")
    for what, share in result["cpu_percent"].items():
        table.add_row(f"processor, {what}", f"{share:.1f} % of a core")
    for what, rate in result["bytes_a_second_and_page"].items():
        table.add_row(f"told, {what}", f"{rate / 1024:.1f} KiB/s a page")
    for what, times in result["clicks"].items():
        table.add_row(f"a click, {what}", f"p50 {times['p50_ms']} · p95 {times['p95_ms']} · max {times['max_ms']} ms")
    if "start_seconds" in result:
        table.add_row("from the start to a usable page", f"{result['start_seconds']} s")
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "pages": asked.pages, **result}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    dear = max(share for what, share in result["cpu_percent"].items() if "pages" in what)
    slow = max(times["p95_ms"] for times in result["clicks"].values())
    if dear > MOST_SHARE or slow > MOST_MS:
        raise SystemExit(f"too dear or too slow: {dear} % of a core, a click {slow} ms")


if __name__ == "__main__":
    main()
