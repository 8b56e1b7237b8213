"""The process that trains, as its parent has it: told what to do, listened to, asked to end, and never left behind.

Knows a process and lines of JSON; nothing of jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import typing
from pathlib import Path

from app.config import ROOT
from app.training_process import LESS_MEMORY

_COMMAND = [sys.executable, "-m", "app.training_process"]
_END_SECONDS = 10  # for what was killed to be gone


class Child:
    """One run of `app.training_process`. Belongs to one thread; `close` it."""

    def __init__(self, asked: str, log: Path):
        """asked: see `training_process.values_of`. log: what it and its libraries print."""
        self._lines: queue.Queue[dict[str, typing.Any] | None] = queue.Queue()
        self._end: float | None = None
        self.finished, self._error = False, ""
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                _COMMAND,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                errors="replace",
                # A group of its own: Ctrl-C in the studio's terminal is the studio's.
                start_new_session=os.name != "nt",
            )
        threading.Thread(target=self._listen, name="training's lines", daemon=True).start()
        self._say(asked)

    def events(self, seconds: float) -> typing.Iterator[dict[str, typing.Any] | None]:
        """What it tells, until it ends; None wherever it is silent for so long."""
        while True:
            try:
                line = self._lines.get(timeout=seconds)
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            self.finished |= line["event"] == "done"
            if line["event"] == "error":
                self._error = str(line.get("text", ""))
            yield line

    def stop(self, seconds: float) -> None:
        """Ask it to end behind its step, with a checkpoint; a second time, with less patience. See `hurry`."""
        if self._end is None:
            self._say("stop")
        end = time.monotonic() + seconds
        self._end = end if self._end is None else min(end, self._end)

    def hurry(self) -> None:
        """Kill it where it has not ended in the time that it was given: what its checkpoint holds stays."""
        if self._end is not None and time.monotonic() > self._end:
            self._kill()

    def why(self) -> str:
        """One line on why it did not come to its end. After its events are over."""
        code = self._process.wait()
        if self._error:
            return self._error
        if code == -getattr(signal, "SIGKILL", 9):
            return f"the system ended the training, most likely since the memory did not suffice: {LESS_MEMORY}"
        named = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the training ended without a word ({named}): try it again, it goes on from its last checkpoint"

    def close(self) -> None:
        """No process is left behind."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if self._process.poll() is None:
            self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone: its end tells why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if isinstance(told, dict) and isinstance(told.get("event"), str):
                        self._lines.put(told)
        self._lines.put(None)
