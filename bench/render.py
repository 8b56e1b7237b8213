"""What the whole cascade costs as a person meets it: the command `render` in a process of its own, from start to file.

    python -m bench.render [--model nano] [--prompt TEXT]

Tells each stage's seconds, the wall time of the command and the peak of its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "render.json"
PROMPT = "a red star spinning on a navy background"


def run(model: str, prompt: str, folder: str, *options: str) -> dict:
    """Render once, with these options of the command. The child's peak memory is asked of the system when it has ended;
    Linux never tells less than what the process had that started it, so start it from a small one."""
    command = [sys.executable, str(ROOT / "app.py"), "render", prompt, "--seed", "7", *options]
    command += ["--model", model, "--data", folder, "--output", str(Path(folder) / "clip.mp4"), "--json"]
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"render failed with status {os.waitstatus_to_exitcode(status)}")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": round(kilobytes / 1024),
        "clip": json.loads(printed.splitlines()[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--prompt", default=PROMPT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(asked.model, asked.prompt, folder, "--interpolate", "--upscale")
    clip = result["clip"]
    clip.pop("path")
    table = Table(title=f"{clip['frames']} frames at {clip['width']}×{clip['height']}, {os.cpu_count()} cores")
    table.add_column("part")
    table.add_column("", justify="right")
    for stage, seconds in clip["stages"].items():
        table.add_row(stage, f"{seconds:.1f} s")
    table.add_row("all stages and decoding", f"{clip['seconds']:.1f} s")
    table.add_row("the command, start to file", f"{result['wall_seconds']:.1f} s")
    table.add_row("its processor time", f"{result['cpu_seconds']:.1f} s")
    table.add_row("peak memory", f"{result['peak_memory_mib']} MiB")
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"model": asked.model, "cores": os.cpu_count(), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
