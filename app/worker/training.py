"""Runs `train` jobs: starts the training process and relays its progress.

The process writes checkpoints: a training that was stopped, killed or has failed goes on from the last one. Belongs to
the worker's thread.
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
from dataclasses import replace
from pathlib import Path

from app.config import ROOT
from app.models.loaded import Models
from app.recipes.job_row import CANCEL, PAUSE
from app.recipes.training import TRAINING
from app.storage.training_folder import LOG, MEDIA, drop_partials, drop_work, samples, training_folder
from app.worker.job_run import JobRun, StopRequested
from app.worker.training_process import LESS_MEMORY, values_of
from app.workspace import Workspace
from lavie.errors import MediaError, TrainingError
from lavie.events import Notice, StageStarted, Step

_COMMAND = [sys.executable, "-m", "app.worker.training_process"]
_END_SECONDS = 10  # for a killed process to be gone


class Child:
    """A running `app.worker.training_process`. Belongs to one thread; `close` it."""

    def __init__(self, orders: str, log: Path):
        """orders: see `training_process.values_of`. log: gets what the process and its libraries print."""
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
                # A group of its own, so that Ctrl-C in the terminal reaches the studio alone.
                start_new_session=os.name != "nt",
            )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        threading.Thread(target=self._listen, name="training events", daemon=True).start()
        self._write_line(orders)

    def events(self, seconds: float) -> typing.Iterator[dict[str, typing.Any] | None]:
        """Its events until it ends; None after each silence of this length."""
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
        """Ask it to stop after its step, with a checkpoint, within this time; see `hurry`."""
        if self._end is None:
            self._write_line("stop")
        end = time.monotonic() + seconds
        self._end = end if self._end is None else min(end, self._end)

    def hurry(self) -> None:
        """Kill it if it has not ended in time. Its last checkpoint stays."""
        if self._end is not None and time.monotonic() > self._end:
            self._kill()

    def why(self) -> str:
        """One line on why it failed. Call it after its events have ended."""
        code = self._process.wait()
        if self._error:
            return self._error
        if code == -getattr(signal, "SIGKILL", 9):
            return f"the system ended the training, most likely since the memory did not suffice: {LESS_MEMORY}"
        named = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the training ended without a word ({named}): try it again, it goes on from its last checkpoint"

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        if self._process.poll() is None:
            self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _write_line(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended, and `why` gives the reason
            self._stdin.write(f"{line}\n")
            self._stdin.flush()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        with self._stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and isinstance(event.get("event"), str):
                        self._lines.put(event)
        self._lines.put(None)


_LOOK_SECONDS = 0.25  # between two looks at the person's wishes
# How long it may take to end after its step. When the studio closes or a person cancels, the time is short: the steps
# since the last checkpoint may be lost.
_PATIENCE = {PAUSE: 600.0, CANCEL: 15.0, None: 15.0}


class TrainingWork:
    """Runs jobs of the kind `train`; see `app.worker.worker.Worker`."""

    def __init__(self, workspace: Workspace, models: Models):
        self._workspace, self._models = workspace, models

    def train(self, run: JobRun) -> None:
        """Train, add the adapter to the library, and end the job. Raises StopRequested, TrainingError, AdapterError."""
        row, training, config = run.row, run.row.training, self._workspace.config
        folder = training_folder(config.data, row.id).absolute()
        bundle = replace(config, model=training.model).bundle
        media = training_folder(config.data, training.folder or row.id).absolute() / MEDIA
        output = training.output(folder)
        if not output.is_file():  # else only what follows the training is missing
            if not media.is_dir():
                raise TrainingError("the pictures or videos of this training are not kept any more: begin another one")
            folder.mkdir(parents=True, exist_ok=True)
            drop_partials(folder)
            settings = training.settings(folder, bundle.absolute(), media, config.device)
            loaded = self._models.release()  # memory is for one
            try:
                self._run_process(run, values_of(settings, training.threads), folder)
            finally:
                if loaded is not None:
                    self._models.want(loaded)
        _add_picture(output, folder)
        known = self._workspace.adapters.add(output, bundle=bundle, name=training.adapter_name)
        result = {"adapter": known.sha256, "name": known.name, "trigger": training.trigger}
        run.queue.finish(row.id, json.dumps(result, ensure_ascii=False))
        drop_work(folder)

    def _run_process(self, run: JobRun, orders: str, folder: Path) -> None:
        """Run the process and relay its progress; a wish to stop takes effect at any time."""
        child, stopping = Child(orders, folder / LOG), False
        try:
            for event in child.events(_LOOK_SECONDS):
                if event is not None:
                    _relay(run, event)
                try:
                    run.check_stop()
                except StopRequested as stop:
                    child.stop(_PATIENCE[stop.what])
                    stopping = True
                child.hurry()
            why = None if child.finished else child.why()
        finally:
            child.close()
        if stopping and not child.finished:
            run.check_stop()
            raise StopRequested(None)  # a pause that was taken back meanwhile: it goes on at once
        if run.queue.stop_request(run.row.id) == CANCEL:
            raise StopRequested(CANCEL)
        if why is not None:
            raise TrainingError(why)


def _relay(run: JobRun, event: dict[str, typing.Any]) -> None:
    match event:
        case {"event": "notice", "text": str(text)}:
            run.report(Notice(text))
        case {"event": "step", "step": int(step), "steps": int(steps)}:
            if not run.has_begun:
                run.report(StageStarted(TRAINING, steps))
            run.report(Step(TRAINING, step, steps))


def _add_picture(output: Path, folder: Path) -> None:
    """Write the last sample beside the adapter, as the picture of its card."""
    from app.media import write_poster

    made = samples(folder)
    if made and made[-1].videos:
        with contextlib.suppress(MediaError):  # the picture is optional
            write_poster(made[-1].videos[0], output.with_suffix(".preview.webp"))
