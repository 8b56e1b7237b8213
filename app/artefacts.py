"""Latents of finished stages, on disk as soon as they are there: what a killed job goes on from, and what a draft is
finished from later. A file counts once its row is in the database.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from app.database import Database, now
from app.recipe import Recipe
from lavie.errors import StorageError
from lavie.events import BASE, INTERPOLATION, STAGES, SUPER_RESOLUTION

if typing.TYPE_CHECKING:
    from torch import Tensor

_NAME = "latents"
# Of a job that is done: super-resolution's are large, and the frames in a file; a clip that is gone is not finished.
_FORGET = f"""
    DELETE FROM artefacts WHERE job IN (SELECT id FROM jobs WHERE state = 'done')
    AND (stage = '{SUPER_RESOLUTION}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = artefacts.job))"""


class Artefacts:
    """`work/<job>/<stage>.safetensors` of a data folder, and the table that lists them."""

    def __init__(self, database: Database, folder: Path):
        self._database, self._folder = database, Path(folder)

    def save(self, job_id: str, stage: str, latents: Tensor) -> None:
        """Store a stage's result; one that was there is replaced. Raises StorageError, with nothing half stored."""
        from safetensors.torch import save

        path = self._path(job_id, stage)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written by us: safetensors leaves a file of its own name behind when it is killed.
            with partial.open("wb") as file:
                file.write(save({_NAME: latents.contiguous()}))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            size = path.stat().st_size
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise StorageError(
                f"the latents of {stage} cannot be kept in {path.parent} ({error.strerror or error}): free some space"
            ) from error
        with self._database.write() as connection:
            row = {"job": job_id, "stage": stage, "path": self._relative(path), "bytes": size, "created": now()}
            connection["artefacts"].upsert(row, pk=("job", "stage"))

    def stages(self, job_id: str) -> set[str]:
        """The stages whose latents are kept."""
        return {row["stage"] for row in self._database.query("SELECT stage FROM artefacts WHERE job = ?", [job_id])}

    def load(self, job_id: str, among: Collection[str] = STAGES) -> dict[str, Tensor]:
        """Stage → latents on the CPU, of the stages in `among`. What cannot be read any more is left out: it can be
        made again."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        latents = {}
        for row in self._database.query("SELECT stage, path FROM artefacts WHERE job = ?", [job_id]):
            if row["stage"] not in among:
                continue
            try:
                latents[row["stage"]] = load_file(self._folder / row["path"])[_NAME]
            except (OSError, SafetensorError, KeyError):
                continue
        return latents

    def drop(self, job_id: str, *stages: str) -> None:
        """Forget the latents of these stages, or of all."""
        gone = stages or tuple(self.stages(job_id))
        with self._database.write() as connection:
            for stage in gone:
                connection.execute("DELETE FROM artefacts WHERE job = ? AND stage = ?", [job_id, stage])
        for stage in gone:
            self._path(job_id, stage).unlink(missing_ok=True)
        if not stages:
            shutil.rmtree(self._path(job_id, "any").parent, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what is of no use any more, and what a process left that was killed while it saved or dropped."""
        with self._database.write() as connection:
            connection.execute(_FORGET)
        listed = {self._folder / row["path"] for row in self._database.query("SELECT path FROM artefacts")}
        work = self._folder / "work"
        for path in list(work.glob("*/*")) if work.is_dir() else []:
            if path not in listed and path.suffix in (".safetensors", ".partial"):
                path.unlink(missing_ok=True)
        for folder in list(work.iterdir()) if work.is_dir() else []:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _path(self, job_id: str, stage: str) -> Path:
        return self._folder / "work" / job_id / f"{stage}.safetensors"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def shared_stages(draft: Recipe, recipe: Recipe) -> set[str]:
    """The stages that both recipes run alike on the same weights and machine, so that their latents are the same."""
    if draft.provenance != recipe.provenance:
        return set()
    one, other = draft.request, recipe.request
    without = {"interpolation": None, "super_resolution": None}
    if replace(one, **without) != replace(other, **without):
        return set()
    same = one.interpolation is not None and one.interpolation == other.interpolation
    return {BASE, INTERPOLATION} if same else {BASE}
