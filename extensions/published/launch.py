"""Starts the process that opens published files, and hands on what it says. Knows neither torch nor what is in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from extensions.published.isolation import OFFLINE
from lavie.errors import BundleError, short

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "extensions.published.child"]


def in_child(tasks: list[dict]) -> Iterator[dict]:
    """Have `tasks` worked off, see `child`; its messages but the errors. The process ends with this generator.

    Raises BundleError: what the process says, or how it ended.
    """
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        )
        try:
            with process.stdin:
                process.stdin.write(json.dumps({"tasks": tasks}))
            for line in process.stdout:
                message = json.loads(line)
                if "error" in message:
                    raise BundleError(message["error"])
                yield message
            if code := process.wait():
                raise _ended(code, complaints)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _ended(code: int, complaints: IO[bytes]) -> BundleError:
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
    return BundleError(
        f"the process that opens the weights ended before its work was done ({short(said[-1])}): close what else needs "
        "memory and try again"
    )
