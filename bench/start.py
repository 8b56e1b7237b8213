"""What starting costs: commands from their start to their end, the studio until its page can be used, and each import.

    python -m bench.start [--runs 5] [--imports 12]

Commands are told in processor time (user and system, the median of the runs), which other work on the machine hardly
changes, and in wall time. Imports are those of `import app.ui.build`, which opens the page, as `python -X importtime`
tells them: a package with everything that it imports first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.config import ROOT
from bench.pages import usable_after

RESULTS = Path(__file__).parent / "results" / "start.json"
COMMANDS = {
    "--help": ["--help"],
    "gallery list": ["gallery", "list"],
    "jobs list": ["jobs", "list"],
    "models list": ["models", "list"],
    "adapters list": ["adapters", "list"],
}
PAGE = "app.ui.build"


def time_command(arguments: list[str]) -> tuple[float, float]:
    """Runs `app.py` with these arguments and returns its processor seconds and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "app.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measure_commands(runs: int) -> dict[str, dict[str, float]]:
    """The medians of `runs` runs of each command, after one that warms the disk."""
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            data = [] if command == ["--help"] else ["--data", folder]
            times = [time_command([*command, *data]) for _ in range(runs + 1)][1:]
            cpu, wall = (round(statistics.median(column), 2) for column in zip(*times, strict=True))
            measured[name] = {"cpu_seconds": cpu, "wall_seconds": wall}
    return measured


def measure_imports(module: str) -> dict[str, float]:
    """Milliseconds that importing `module` spends in each top-level package, itself only, the dearest first."""
    printed = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    spent: dict[str, float] = {}
    for line in printed.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            package = name.strip().split(".")[0]
            spent[package] = spent.get(package, 0) + int(own) / 1000
    return dict(sorted(((name, round(ms, 1)) for name, ms in spent.items()), key=lambda item: -item[1]))


def print_tables(result: dict, imports: int) -> None:
    table = Table("command", "processor time", "wall time", title=f"starts, {os.cpu_count()} cores")
    for name, times in result["commands"].items():
        table.add_row(name, f"{times['cpu_seconds']:.2f} s", f"{times['wall_seconds']:.2f} s")
    if result["page_seconds"] is not None:
        table.add_row("the page usable in Chromium", "", f"{result['page_seconds']:.1f} s")
    shares = Table("package", "import", title=f"import {PAGE}: {sum(result['imports_ms'].values()) / 1000:.2f} s")
    for name, spent in list(result["imports_ms"].items())[:imports]:
        shares.add_row(name, f"{spent:.0f} ms")
    Console().print(table, shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--imports", type=int, default=12, help="how many packages the table lists")
    parser.add_argument("--no-page", action="store_true", help="leave out the page, which needs Chromium")
    options = parser.parse_args()
    result = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commands": measure_commands(options.runs),
        "page_seconds": None if options.no_page else usable_after(),
        "imports_ms": measure_imports(PAGE),
    }
    print_tables(result, options.imports)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
