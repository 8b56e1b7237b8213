"""The folder of a training: its files as values, and how long they are kept.

    work/training/<job>/media/        pictures and videos, each with its caption beside it
                        progress.jsonl, samples/, checkpoints/, log.txt     for people
                        checkpoint.safetensors, latents/, …                 to go on from; removed when it is done

Needs no torch: the checkpoint's header holds its step.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import typing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from app.media.files import sweep_partials
from app.recipes.job_row import CANCELLED, DONE, FAILED, OPEN, TRAIN
from app.storage.database import Database, sql_list

if typing.TYPE_CHECKING:
    from lavie.training.tuning.session import Samples


FOLDER, MEDIA = "training", "media"
CHECKPOINT, LOSSES, LOG = "checkpoint.safetensors", "progress.jsonl", "log.txt"
SAMPLES, CHECKPOINTS = "samples", "checkpoints"
_UNSTARTED_SECONDS = 24 * 3600  # how long a set without a training is kept
_TEMPORARY = ("latents", "unpacked", "adapter")  # folders, once the adapter is in the library


@dataclass(frozen=True)
class Loss:
    """The mean loss of the latest steps up to `step`, and the time of one of them."""

    step: int
    loss: float
    seconds_a_step: float


@dataclass(frozen=True)
class Sample:
    """Samples after a step. sheet: a picture of all, a video a row. videos: one for each prompt."""

    step: int
    sheet: Path
    videos: tuple[Path, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The adapter as it was after a step."""

    step: int
    path: Path


def training_folder(data: Path, job_id: str) -> Path:
    """The folder of a training."""
    return data / "work" / FOLDER / job_id


def checkpoint_step(folder: Path) -> int:
    """The step of the stored checkpoint; 0 if there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / CHECKPOINT, "np") as file:
            return int((file.metadata() or {}).get("step", 0))
    except (OSError, SafetensorError, ValueError):
        return 0


def losses(folder: Path) -> tuple[Loss, ...]:
    """The curve so far. Steps that were made again after a kill count once, as they were made last."""
    try:
        lines = (folder / LOSSES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found: list[Loss] = []
    for line in lines:
        try:
            said = json.loads(line)
            point = Loss(int(said["step"]), float(said["loss"]), float(said["seconds_a_step"]))
        except (ValueError, TypeError, KeyError):  # a kill has cut the line short
            continue
        if math.isfinite(point.loss):
            while found and found[-1].step >= point.step:
                found.pop()
            found.append(point)
    return tuple(found)


def samples(folder: Path) -> tuple[Sample, ...]:
    """The samples so far, the first step first."""
    sheets = sorted((folder / SAMPLES).glob("step_*.png"))
    numbers = [int(sheet.stem.removeprefix("step_")) for sheet in sheets]
    return tuple(
        Sample(number, sheet, tuple(sorted(sheet.parent.glob(f"{sheet.stem}_*.mp4"))))
        for number, sheet in zip(numbers, sheets, strict=True)
    )


def checkpoints(folder: Path) -> tuple[Checkpoint, ...]:
    """The last steps that are stored as adapters, the first step first."""
    files = (folder / CHECKPOINTS).glob("*.safetensors")
    found = [Checkpoint(int(file.stem.rpartition("-")[2]), file) for file in files]
    return tuple(sorted(found, key=lambda one: one.step))


def write_samples(samples: Samples, folder: Path) -> Path:
    """Write a sheet of all samples, `step_000100.png`, and a video of each, `step_000100_1.mp4`; the sheet's path.

    The sheet is written last, so that it exists only with all videos. Raises MediaError.
    """
    from app.media import write_mp4
    from app.media.files import temporary
    from lavie.files import publish
    from lavie.training.media import contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / f"step_{samples.step:06}.png"
    for number, video in enumerate(samples.videos, 1):
        write_mp4(folder / f"step_{samples.step:06}_{number}.mp4", video.frames, video.fps, "")
    with temporary(sheet) as partial:
        contact_sheet([video.frames for video in samples.videos]).save(partial)
        publish(partial, sheet)
    return sheet


def drop_work(folder: Path) -> None:
    """Remove the files that a finished training does not need any more."""
    for name in _TEMPORARY:
        shutil.rmtree(folder / name, ignore_errors=True)
    for file in [folder / CHECKPOINT, *folder.glob("ordinary_*.safetensors")]:
        file.unlink(missing_ok=True)
    drop_partials(folder)


def drop_partials(folder: Path) -> None:
    """Remove partial files that a killed process left."""
    sweep_partials(folder / SAMPLES)
    for file in [
        *folder.glob("*.partial"),
        *folder.glob(f"{CHECKPOINTS}/.*.partial"),
        *folder.glob("latents/*/*.partial"),
    ]:
        file.unlink(missing_ok=True)


def sweep_trainings(database: Database, data: Path, keep_days: float) -> None:
    """Remove sets without a training after a day, trainings `keep_days` after they failed or were cancelled, and the
    temporary files of finished ones."""
    root = training_folder(data, "any").parent
    rows = {row["id"]: row for row in database.query(f"SELECT id, state, finished FROM jobs WHERE kind = '{TRAIN}'")}
    used = {
        row["folder"]
        for row in database.query(
            f"SELECT json_extract(job, '$.folder') AS folder FROM jobs WHERE kind = '{TRAIN}' "
            f"AND state IN ({sql_list(OPEN)})"
        )
    }
    oldest = (datetime.now(timezone.utc) - timedelta(days=keep_days)).isoformat(timespec="microseconds")
    for folder in list(root.iterdir()) if root.is_dir() else []:
        row = rows.get(folder.name)
        if row is None:
            gone = time.time() - folder.stat().st_mtime > _UNSTARTED_SECONDS
        else:
            gone = row["state"] in (FAILED, CANCELLED) and row["finished"] < oldest
        if gone and folder.name not in used:  # a duplicate of a training uses the media of the first
            shutil.rmtree(folder, ignore_errors=True)
        elif row is not None and row["state"] == DONE:
            drop_work(folder)
