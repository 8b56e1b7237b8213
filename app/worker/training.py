"""Trains adapters: the worker's third hand. The work itself is done by a process of its own (`app.worker.training`).

Belongs to the worker's thread. Whatever is stored on the way is that process's checkpoint: a training that was stopped,
killed or has failed goes on from there.
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

from app.adapters import Adapters
from app.config import ROOT, StudioConfig
from app.queue.job import CANCEL, PAUSE, JobRow
from app.queue.queue import JobQueue
from app.recipes.training import TRAINING, Training
from app.storage.database import Database
from app.storage.training_folder import LOG, MEDIA, drop_partials, drop_work, samples, training_folder
from app.worker.models import Models
from app.worker.running import Running, StopRequested
from app.worker.training_process import LESS_MEMORY, values_of
from lavie.errors import MediaError, TrainingError
from lavie.events import Notice, StageStarted, Step

_COMMAND = [sys.executable, "-m", "app.worker.training_process"]
_END_SECONDS = 10  # for what was killed to be gone


class Child:
    """One run of `app.worker.training_process`. Belongs to one thread; `close` it."""

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


_LOOK_SECONDS = 0.25  # between two looks at what a person asks for
# How long it may take to end behind its step. Where the studio itself ends, or a person wants it gone, not for long:
# then the steps since the last checkpoint may be lost.
_PATIENCE = {PAUSE: 600.0, CANCEL: 15.0, None: 15.0}


class TrainingWork:
    """Jobs of the kind `train`; see `app.worker.worker.Worker`."""

    def __init__(self, config: StudioConfig, database: Database, models: Models, running: Running):
        self._config, self._database, self._models, self._running = config, database, models, running
        self._jobs = JobQueue(database)

    def train(self, row: JobRow) -> None:
        """Train, let the adapter into the library, and end the job. Raises StopRequested, TrainingError, AdapterError."""
        training, folder = row.training, training_folder(self._config.data, row.id).absolute()
        bundle = replace(self._config, model=training.model).bundle
        media = training_folder(self._config.data, training.folder or row.id).absolute() / MEDIA
        output = training.output(folder)
        if not output.is_file():  # else only what comes behind it is missing
            if not media.is_dir():
                raise TrainingError("the pictures or videos of this training are not kept any more: begin another one")
            folder.mkdir(parents=True, exist_ok=True)
            drop_partials(folder)
            settings = training.settings(folder, bundle.absolute(), media, self._config.device)
            loaded = self._models.release()  # memory is for one
            try:
                self._run(row, values_of(settings, training.threads), folder)
            finally:
                if loaded is not None:
                    self._models.want(loaded)
        _add_picture(output, folder)
        self._finish(row, training, output, bundle)
        drop_work(folder)

    def _run(self, row: JobRow, asked: str, folder: Path) -> None:
        """Have the process do it, telling how it goes; at any time a wish to stop is heeded."""
        child, stopping = Child(asked, folder / LOG), False
        try:
            for event in child.events(_LOOK_SECONDS):
                if event is not None:
                    self._note(row, event)
                try:
                    self._running.check_stop(row.id)
                except StopRequested as stop:
                    child.stop(_PATIENCE[stop.what])
                    stopping = True
                child.hurry()
            why = None if child.finished else child.why()
        finally:
            child.close()
        if stopping and not child.finished:
            self._running.check_stop(row.id)
            raise StopRequested(None)  # a pause that was taken back meanwhile: it goes on at once
        if self._jobs.asked(row.id) == CANCEL:
            raise StopRequested(CANCEL)
        if why is not None:
            raise TrainingError(why)

    def _note(self, row: JobRow, event: dict[str, typing.Any]) -> None:
        match event:
            case {"event": "notice", "text": str(text)}:
                self._running.note(row.id, Notice(text))
            case {"event": "step", "step": int(step), "steps": int(steps)}:
                if self._jobs.get(row.id).stage is None:
                    self._running.note(row.id, StageStarted(TRAINING, steps))
                self._running.note(row.id, Step(TRAINING, step, steps))

    def _finish(self, row: JobRow, training: Training, output: Path, bundle: Path) -> None:
        library = Adapters(self._database, self._config.data)
        known = library.add(output, bundle=bundle, name=training.adapter_name)
        result = {"adapter": known.sha256, "name": known.name, "trigger": training.trigger}
        self._jobs.finish(row.id, json.dumps(result, ensure_ascii=False))


def _add_picture(output: Path, folder: Path) -> None:
    """Beside the adapter, where its card looks for one: the last sample of what it was trained for."""
    from app.media import write_poster

    made = samples(folder)
    if made and made[-1].videos:
        with contextlib.suppress(MediaError):  # it is as good without
            write_poster(made[-1].videos[0], output.with_suffix(".preview.webp"))
