"""Latents of finished stages on disk: a killed job goes on from them, and a draft is finished from them later.

A file is valid if its row is in the database and its bytes have the stored hash.
"""

from __future__ import annotations

import shutil
import time
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from app.recipes.job_row import CANCELLED, DONE, FAILED
from app.storage.database import Database, now
from app.storage.segment_latents import remove_outdated_parts
from app.storage.tensor_files import read_tensors, write_tensors
from lavie.errors import StorageError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Request

if typing.TYPE_CHECKING:
    from torch import Tensor

_START, _BEGUN_SECONDS = "start-", 3600
NAME = "latents"  # of the one tensor in a file
# Of finished jobs: those of super-resolution, which are large and whose frames are in a file, and those without a clip.
_FORGET = f"""
    DELETE FROM artefacts WHERE job IN (SELECT id FROM jobs WHERE state = '{DONE}')
    AND (stage = '{SUPER_RESOLUTION}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = artefacts.job))"""
# Of failed and cancelled jobs, after the time for a new try. Open jobs have no `finished`.
_EXPIRE = f"""
    DELETE FROM artefacts WHERE job IN
    (SELECT id FROM jobs WHERE state IN ('{FAILED}', '{CANCELLED}') AND finished < ?)"""


class StageLatents:
    """The files `work/<job>/<stage>.safetensors` of a data folder, and their rows in the database."""

    def __init__(self, database: Database, folder: Path):
        self._database, self._folder = database, Path(folder)

    def save(self, job_id: str, stage: str, latents: Tensor) -> None:
        """Store the result of a stage in place of an earlier one. Raises StorageError, with nothing half stored."""
        path = self._path(job_id, stage)
        file_hash, size = write_tensors(path, {NAME: latents}, f"the latents of {stage}")
        with self._database.write() as connection:
            row = {"job": job_id, "stage": stage, "path": self._relative(path), "bytes": size}
            connection["artefacts"].upsert({**row, "file_hash": file_hash, "created": now()}, pk=("job", "stage"))

    def stages(self, job_id: str) -> set[str]:
        """The stages whose latents are stored."""
        return {row["stage"] for row in self._database.query("SELECT stage FROM artefacts WHERE job = ?", [job_id])}

    def load(self, job_id: str, stage: str) -> Tensor | None:
        """The latents of a stage, on the CPU; None if none are stored.

        Raises StorageError if the file is gone or damaged.
        """
        rows = self._database.query(
            "SELECT path, file_hash FROM artefacts WHERE job = ? AND stage = ?", [job_id, stage]
        )
        if not rows:
            return None
        return read_tensors(self._folder / rows[0]["path"], rows[0]["file_hash"], f"the latents of {stage}")[NAME]

    def latest(
        self, stages: Sequence[str], sources: Mapping[str, Collection[str]]
    ) -> tuple[dict[str, Tensor], list[str]]:
        """The valid latents of the latest stage, as stage → latents or empty; and what is wrong with later ones.

        Args:
            stages: in the order in which they run.
            sources: job id → the stages whose latents may be used.
        """
        wrong = []
        for stage in reversed(stages):
            for job_id in (job_id for job_id, usable in sources.items() if stage in usable):
                try:
                    latents = self.load(job_id, stage)
                except StorageError as error:
                    wrong.append(str(error))
                    continue
                if latents is not None:
                    return {stage: latents}, wrong
        return {}, wrong

    def drop(self, job_id: str, *stages: str) -> None:
        """Remove the latents of these stages [all]."""
        gone = stages or tuple(self.stages(job_id))
        with self._database.write() as connection:
            for stage in gone:
                connection.execute("DELETE FROM artefacts WHERE job = ? AND stage = ?", [job_id, stage])
        for stage in gone:
            self._path(job_id, stage).unlink(missing_ok=True)
        if not stages:
            shutil.rmtree(self._path(job_id, "any").parent, ignore_errors=True)

    def sweep(self, keep_days: float) -> None:
        """Remove latents that are of no use any more, and files that a killed process left.

        keep_days: how long the latents of a failed or cancelled job are kept after its end.
        """
        oldest = datetime.now(timezone.utc) - timedelta(days=keep_days)
        with self._database.write() as connection:
            connection.execute(_FORGET)
            connection.execute(_EXPIRE, [oldest.isoformat(timespec="microseconds")])
        remove_outdated_parts(self._database, keep_days)
        rows = self._database.query("SELECT path FROM artefacts UNION ALL SELECT path FROM parts")
        listed = {self._folder / row["path"] for row in rows}
        used, work = {path.parent for path in listed}, self._folder / "work"
        for folder in list(work.iterdir()) if work.is_dir() else []:
            if not folder.is_dir() or _is_being_begun(folder):
                continue
            for path in list(folder.iterdir()):
                picture = path.suffix == ".webp" and folder not in used  # of removed candidates
                if picture or (path not in listed and path.suffix in (".safetensors", ".partial")):
                    path.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()

    def _path(self, job_id: str, stage: str) -> Path:
        return self._folder / "work" / job_id / f"{stage}.safetensors"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def start_folder(file_hash: str) -> str:
    """The folder, in place of a job's id, of frames that long videos continue: several jobs may use them."""
    return f"{_START}{file_hash}"


def _is_being_begun(folder: Path) -> bool:
    """Whether another process may be storing initial frames there: only these are stored without owning the folder."""
    return folder.name.startswith(_START) and time.time() - folder.stat().st_mtime < _BEGUN_SECONDS


def shared_stages(draft: Request, request: Request) -> set[str]:
    """The stages that are the same in both resolved requests: the same weights and machine give the same latents."""
    without = {"interpolation": None, "super_resolution": None}
    if replace(draft, **without) != replace(request, **without):
        return set()
    same = draft.interpolation is not None and draft.interpolation == request.interpolation
    return {BASE, INTERPOLATION} if same else {BASE}
