"""Latents of frames that long videos continue or join, each stored once under its hash: for queued jobs and projects,
and for regenerating their videos later.
"""

from __future__ import annotations

import hashlib
import typing
from datetime import datetime, timedelta, timezone

from app.recipes.initial_frames import MAX_START, InitialFrames, JoinedFrames
from app.storage.database import Database
from app.storage.stage_latents import NAME, StageLatents, start_folder
from app.storage.tensor_files import content_of
from lavie.errors import RequestError, StorageError

if typing.TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

S = typing.TypeVar("S", bound=InitialFrames)
_STAGE = "start"
_KEEP = timedelta(days=1)  # for frames that nothing names yet: a person may be about to use them
_USED = """
    SELECT json_extract(job, '$.start.hash') AS hash FROM jobs WHERE json_extract(job, '$.start') IS NOT NULL
    UNION SELECT json_extract(shots.value, '$.hash') FROM jobs, json_each(jobs.job, '$.shots') AS shots
    UNION SELECT json_extract(start, '$.hash') FROM projects WHERE start IS NOT NULL"""


class InitialFramesStore:
    """The stored initial frames of a data folder. All methods may be called from any thread."""

    def __init__(self, database: Database, folder: Path):
        self._database, self._latents = database, StageLatents(database, folder)

    def keep(self, latents: Tensor, kind: str, name: str) -> InitialFrames:
        """Store the last frames of latents 1 C F h w, at most `MAX_START`. Raises StorageError.

        Args:
            kind, name: see `InitialFrames`.
        """
        return self._keep(InitialFrames, latents[:, :, -MAX_START:], kind, name)

    def keep_whole(self, latents: Tensor, kind: str, name: str) -> JoinedFrames:
        """Store all frames of latents 1 C F h w, at most `MAX_JOINED`. Raises StorageError."""
        return self._keep(JoinedFrames, latents, kind, name)

    def has(self, start: InitialFrames) -> bool:
        """Whether its latents are stored."""
        return _STAGE in self._latents.stages(start_folder(start.hash))

    def load(self, start: InitialFrames | None) -> Tensor | None:
        """Latents 1 C F h w on the CPU; None for None. Raises RequestError if they are gone or damaged."""
        if start is None:
            return None
        try:
            latents = self._latents.load(start_folder(start.hash), _STAGE)
            why = "they were forgotten"
        except StorageError as error:
            latents, why = None, str(error)
        if latents is None:
            raise RequestError(
                f"the frames of {start.name} that are {start.used} in this video are not there any more ({why}): "
                f"{start.way} that clip or file anew"
            )
        return latents

    def sweep(self) -> None:
        """Remove frames that no job and no project names any more."""
        used = {start_folder(row["hash"]) for row in self._database.query(_USED)}
        oldest = (datetime.now(timezone.utc) - _KEEP).isoformat(timespec="microseconds")
        rows = self._database.query("SELECT job FROM artefacts WHERE stage = ? AND created < ?", [_STAGE, oldest])
        for row in rows:
            if row["job"] not in used:
                self._latents.drop(row["job"])

    def _keep(self, kind_of: type[S], latents: Tensor, kind: str, name: str) -> S:
        latents = latents.float().cpu().contiguous()
        file_hash = hashlib.sha256(content_of({NAME: latents})).hexdigest()
        start = kind_of(kind, name[-500:], file_hash, latents.shape[2])
        if not self.has(start):
            self._latents.save(start_folder(file_hash), _STAGE, latents)
        return start
