"""What the studio does with trainings of adapters: gathers media, takes jobs, and tells how they stand.

`Studio.training`. Knows sets, jobs and folders; the training itself is `app.worker.training`.
"""

from __future__ import annotations

import shutil
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.clip import new_id
from app.queue.job import RUNNING, TRAIN, JobRow
from app.recipes.training import Medium, Training
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
from app.training.media import TrainingSet, gather, linked, write_captions
from extensions.lora.training.presets import MOTION, NAMES, SUBJECT
from lavie.errors import RequestError, TrainingError, short

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow
    from app.gallery import StoredClip
    from app.studio import Studio


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. needed: at the peak, about. free: what there is now on the device."""

    needed: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needed < self.free


@dataclass(frozen=True)
class TrainingProgress:
    """A training as it stands. row: with its state, stage, step, steps, notices, error and result (JSON with `adapter`,
    its sha256, `name` and `trigger`). stored: steps that it would go on from. eta_seconds: what is left of it, while it
    runs; None as long as no step was measured."""

    row: JobRow
    training: Training
    losses: tuple[Loss, ...]
    samples: tuple[Sample, ...]
    checkpoints: tuple[Checkpoint, ...]
    stored: int
    eta_seconds: float | None


class Trainings:
    """All methods may be called from any thread. Raises RequestError for ids that are not known."""

    def __init__(self, studio: Studio):
        self._studio = studio

    def collect(self, sources: Sequence[str | Path], preset: str = SUBJECT) -> TrainingSet:
        """Copy what can be learned from into the data folder; for its cards, and for `start`.

        sources: ids of clips, pictures, videos, folders and zips, in any number; `.txt` files beside them are captions.
        preset: `motion` takes videos as they are, the others pictures and frames. A set that no training is begun with
        goes after a day. Raises TrainingError where nothing is usable, and for zips beyond the limits.
        """
        if preset not in NAMES:
            raise RequestError(f"preset is {short(preset)}: choose one of {', '.join(NAMES)}")
        set_id = new_id()
        found = [self._source(source) for source in sources]
        return gather(found, self._folder(set_id) / MEDIA, set_id, preset == MOTION)

    def discard(self, media: TrainingSet) -> None:
        """Forget a set that no training was begun with."""
        if self._studio.jobs.get(media.id) is None:
            shutil.rmtree(self._folder(media.id), ignore_errors=True)

    def start(
        self,
        training: Training,
        media: TrainingSet | Sequence[str | Path],
        captions: Mapping[str, str] | None = None,
    ) -> str:
        """Put a training at the end of the line; the job's id.

        media: of `collect`, or what it takes. captions: by the names of the set's files [`TrainingSet.captions`].
        Raises as `collect`.
        """
        chosen = media if isinstance(media, TrainingSet) else self.collect(media, training.preset)
        try:
            return self._queued(training, chosen, captions or {})
        except BaseException:
            if chosen is not media:
                self.discard(chosen)
            raise

    def progress(self, job_id: str) -> TrainingProgress:
        """How a training stands, with its curve and its samples so far."""
        row = self._known(job_id)
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

    def last_checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """The last steps that are kept as files of their own, whatever became of the training."""
        self._known(job_id)
        return checkpoints(self._folder(job_id))

    def take(self, job_id: str, step: int) -> AdapterRow:
        """Let the file of a step into the library. Imports torch."""
        training = self._known(job_id).training
        found = [one for one in self.last_checkpoints(job_id) if one.step == step]
        if not found:
            raise RequestError(f"step {step} of the training {job_id} is not kept: choose one of its last checkpoints")
        bundle = replace(self._studio.config, model=training.model).bundle
        return self._studio.adapters.add(found[0].path, bundle=bundle, name=f"{training.adapter_name}-{step}")

    def media(self, job_id: str) -> Path:
        """The folder of what a training learns from: the files that `Training.media` names."""
        return self._folder(self._known(job_id).training.folder or job_id) / MEDIA

    def memory(self, training: Training) -> MemoryNeed:
        """What it will take and what there is, before it begins. Imports torch. Raises BundleError, DeviceError."""
        from extensions.lora.training.session import memory_for

        config = self._studio.config
        bundle = replace(config, model=training.model or config.model).bundle
        return MemoryNeed(*memory_for(training.settings(Path("work"), bundle, Path(MEDIA), config.device)))

    def forget(self, job_id: str) -> None:
        """Remove the folder of a training that is over: media, samples, checkpoints. What is in the library stays."""
        row = self._known(job_id)
        if row.open:
            raise RequestError(f"the training {job_id} is {row.state}: cancel it first")
        users = [other for other in self._studio.jobs.line() if other.kind == TRAIN and _folder_of(other) == job_id]
        if users:
            raise RequestError(f"the training {users[0].id} learns from the same media: cancel it first")
        shutil.rmtree(self._folder(job_id), ignore_errors=True)

    def _queued(self, training: Training, chosen: TrainingSet, captions: Mapping[str, str]) -> str:
        job_id, folder = chosen.id, chosen.folder
        if not folder.is_dir():
            raise TrainingError("this set is not kept any more: gather it again")
        if training.from_clips and not any(item.kind == "video" for item in chosen.usable):
            raise TrainingError("a motion is learned from videos, these are pictures: gather them for it")
        if self._studio.jobs.get(job_id) is not None:  # another training has begun with it, and may still read it
            job_id = new_id()
            linked(folder, folder := self._folder(job_id) / MEDIA)
        said = chosen.captions(training.trigger) | {name: text for name, text in captions.items() if text.strip()}
        write_captions(folder, said)
        media = tuple(Medium(item.path.name, item.name, said[item.path.name].strip()) for item in chosen.usable)
        training = replace(training, model=training.model or self._studio.model, media=media, folder=job_id)
        self._studio.jobs.add(training, job_id=job_id, kind=TRAIN)
        self._studio.wake()
        return job_id

    def _source(self, source: str | Path) -> Path | StoredClip:
        clip = self._studio.gallery.get(source) if isinstance(source, str) else None
        return Path(source).expanduser() if clip is None else clip

    def _folder(self, job_id: str) -> Path:
        return training_folder(self._studio.config.data, job_id).absolute()

    def _known(self, job_id: str) -> JobRow:
        row = self._studio.jobs.get(job_id)
        if row is None or row.kind != TRAIN:
            raise RequestError(f"no training has the id {job_id[:100]!r}: look at the queue for those that there are")
        return row


def _folder_of(row: JobRow) -> str | None:
    try:
        return row.training.folder
    except RequestError:
        return None
