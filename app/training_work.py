"""Trains adapters: the worker's third hand. The work itself is done by a process of its own (`app.training_child`).

Belongs to the worker's thread. Whatever is stored on the way is that process's checkpoint: a training that was stopped,
killed or has failed goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import typing
from dataclasses import replace
from pathlib import Path

from app.adapters import Adapters
from app.config import StudioConfig
from app.database import Database
from app.job_row import CANCEL, PAUSE, JobRow
from app.jobs import Jobs
from app.models import Models
from app.running import Asked, Running
from app.training_child import Child
from app.training_folder import LOG, MEDIA, drop_partials, drop_work, samples, training_folder
from app.training_job import TRAINING, Training
from app.training_process import values_of
from lavie.errors import MediaError, TrainingError
from lavie.events import Notice, StageStarted, Step

_LOOK_SECONDS = 0.25  # between two looks at what a person asks for
# How long it may take to end behind its step. Where the studio itself ends, or a person wants it gone, not for long:
# then the steps since the last checkpoint may be lost.
_PATIENCE = {PAUSE: 600.0, CANCEL: 15.0, None: 15.0}


class TrainingWork:
    """Jobs of the kind `train`; see `app.worker.Worker`."""

    def __init__(self, config: StudioConfig, database: Database, models: Models, running: Running):
        self._config, self._database, self._models, self._running = config, database, models, running
        self._jobs = Jobs(database)

    def train(self, row: JobRow) -> None:
        """Train, let the adapter into the library, and end the job. Raises Asked, TrainingError, AdapterError."""
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
                    self._running.heed(row.id)
                except Asked as stop:
                    child.stop(_PATIENCE[stop.what])
                    stopping = True
                child.hurry()
            why = None if child.finished else child.why()
        finally:
            child.close()
        if stopping and not child.finished:
            self._running.heed(row.id)
            raise Asked(None)  # a pause that was taken back meanwhile: it goes on at once
        if self._jobs.asked(row.id) == CANCEL:
            raise Asked(CANCEL)
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
