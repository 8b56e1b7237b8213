"""Trainings of adapters for the studio: gathers media, queues jobs and reports their progress."""

from __future__ import annotations

import shutil
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.recipes.job_row import RUNNING, TRAIN, JobRow
from app.recipes.training import Medium, Training
from app.storage.database import new_id
from app.storage.training_folder import (
    MEDIA,
    Checkpoint,
    Loss,
    Sample,
    checkpoint_step,
    checkpoints,
    losses,
    samples,
    training_folder,
)
from app.training.media import TrainingSet, gather, link_files, write_captions
from app.workspace import Workspace
from extensions.lora.training.settings import MOTION, NAMES, SUBJECT
from lavie.errors import LavieError, RequestError, TrainingError, short

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow
    from app.gallery import Clip


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: the estimated peak of a training, and what is free on the device now."""

    needed: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needed < self.free


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training.

    Attributes:
        row: its job; the result is JSON with `adapter` (a SHA-256), `name` and `trigger`.
        stored: the step of the checkpoint to go on from.
        eta_seconds: time left while it runs; None until a step was measured.
    """

    row: JobRow
    training: Training
    losses: tuple[Loss, ...]
    samples: tuple[Sample, ...]
    checkpoints: tuple[Checkpoint, ...]
    stored: int
    eta_seconds: float | None


class Trainings:
    """The trainings of a data folder. All methods may be called from any thread.

    Raises RequestError for ids that are not known.
    """

    def __init__(self, workspace: Workspace):
        self._workspace = workspace

    def collect(self, sources: Sequence[str | Path], preset: str = SUBJECT) -> TrainingSet:
        """Copy media into the data folder, as a set for `start`. A set without a training is removed after a day.

        Raises TrainingError if nothing is usable, and for zips beyond the limits.

        Args:
            sources: ids of clips, pictures, videos, folders and zips; `.txt` files beside them are captions.
            preset: `motion` takes videos as they are, the others pictures and frames.
        """
        if preset not in NAMES:
            raise RequestError(f"preset is {short(preset)}: choose one of {', '.join(NAMES)}")
        set_id = new_id()
        found = [self._source(source) for source in sources]
        return gather(found, self._folder(set_id) / MEDIA, set_id, preset == MOTION)

    def discard(self, media: TrainingSet) -> None:
        if self._workspace.queue.get(media.id) is None:
            shutil.rmtree(self._folder(media.id), ignore_errors=True)

    def start(
        self,
        training: Training,
        media: TrainingSet | Sequence[str | Path],
        captions: Mapping[str, str] | None = None,
    ) -> str:
        """Queue a training; the job's id. Raises as `collect`.

        Args:
            media: a set of `collect`, or sources for it.
            captions: name of a file in the set → caption [`TrainingSet.captions`].
        """
        chosen = media if isinstance(media, TrainingSet) else self.collect(media, training.preset)
        try:
            return self._queue(training, chosen, captions or {})
        except BaseException:
            if chosen is not media:
                self.discard(chosen)
            raise

    def progress(self, job_id: str) -> TrainingProgress:
        """The progress of a training, with its curve and samples so far."""
        row = self._require(job_id)
        folder = self._folder(job_id)
        curve = losses(folder)
        left = curve[-1].seconds_a_step * (row.steps - row.step) if curve and row.steps else None
        return TrainingProgress(
            row,
            row.training,
            curve,
            samples(folder),
            checkpoints(folder),
            checkpoint_step(folder),
            left if row.state == RUNNING else None,
        )

    def recent(self, limit: int) -> list[JobRow]:
        """Trainings that are open or whose folder is kept, the last created first."""
        query = f"SELECT id FROM jobs WHERE kind = '{TRAIN}' ORDER BY created DESC LIMIT {limit}"
        rows = [self._workspace.queue.get(found["id"]) for found in self._workspace.database.query(query)]
        readable = [row for row in rows if row is not None and _is_readable(row)]
        return [row for row in readable if row.open or self._folder(row.id).is_dir()]

    def take(self, job_id: str, step: int) -> AdapterRow:
        """Add the adapter of a step to the library. Imports torch."""
        training = self._require(job_id).training
        found = [one for one in checkpoints(self._folder(job_id)) if one.step == step]
        if not found:
            raise RequestError(f"step {step} of the training {job_id} is not kept: choose one of its last checkpoints")
        bundle = replace(self._workspace.config, model=training.model).bundle
        return self._workspace.adapters.add(found[0].path, bundle=bundle, name=f"{training.adapter_name}-{step}")

    def media(self, job_id: str) -> Path:
        """The folder of a training's media: the files that `Training.media` names."""
        return self._folder(self._require(job_id).training.folder or job_id) / MEDIA

    def memory(self, training: Training) -> MemoryNeed:
        """The memory that a training will need, and what is free. Imports torch. Raises BundleError, DeviceError."""
        from extensions.lora.training.session import memory_for

        config = self._workspace.config
        bundle = replace(config, model=training.model or config.model).bundle
        return MemoryNeed(*memory_for(training.settings(Path("work"), bundle, Path(MEDIA), config.device)))

    def forget(self, job_id: str) -> None:
        """Remove the folder of a closed training: media, samples, checkpoints. Its adapter stays in the library."""
        row = self._require(job_id)
        if row.open:
            raise RequestError(f"the training {job_id} is {row.state}: cancel it first")
        users = [other for other in self._workspace.queue.line() if other.kind == TRAIN and _folder_of(other) == job_id]
        if users:
            raise RequestError(f"the training {users[0].id} learns from the same media: cancel it first")
        shutil.rmtree(self._folder(job_id), ignore_errors=True)

    def _queue(self, training: Training, chosen: TrainingSet, captions: Mapping[str, str]) -> str:
        job_id, folder = chosen.id, chosen.folder
        if not folder.is_dir():
            raise TrainingError("this set is not kept any more: gather it again")
        if training.from_clips and not any(item.kind == "video" for item in chosen.usable):
            raise TrainingError("a motion is learned from videos, these are pictures: gather them for it")
        if self._workspace.queue.get(job_id) is not None:  # another training uses the set and may still read it
            job_id = new_id()
            link_files(folder, folder := self._folder(job_id) / MEDIA)
        said = chosen.captions(training.trigger) | {name: text for name, text in captions.items() if text.strip()}
        write_captions(folder, said)
        media = tuple(Medium(item.file.name, item.name, said[item.file.name].strip()) for item in chosen.usable)
        training = replace(training, model=training.model or self._workspace.model, media=media, folder=job_id)
        return self._workspace.queue.add(training, job_id=job_id, kind=TRAIN)

    def _source(self, source: str | Path) -> Path | Clip:
        clip = self._workspace.gallery.get(source) if isinstance(source, str) else None
        return Path(source).expanduser() if clip is None else clip

    def _folder(self, job_id: str) -> Path:
        return training_folder(self._workspace.config.data, job_id).absolute()

    def _require(self, job_id: str) -> JobRow:
        row = self._workspace.queue.get(job_id)
        if row is None or row.kind != TRAIN:
            raise RequestError(f"no training has the id {job_id[:100]!r}: look at the queue for those that there are")
        return row


def _is_readable(row: JobRow) -> bool:
    try:
        _ = row.training
    except LavieError:
        return False
    return True


def _folder_of(row: JobRow) -> str | None:
    try:
        return row.training.folder
    except RequestError:
        return None
