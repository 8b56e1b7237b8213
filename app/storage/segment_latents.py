"""Latents of the parts of long videos on disk: segments, and windows of the later stages.

A part's key covers all that decides it, so that every job that would make the same part finds it. A part is valid if
its row is in the database and its bytes have the stored hash.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import typing
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

from app.recipes.job_row import CANCELLED, CANDIDATES, DONE, FAILED
from app.storage.database import Database, now
from app.storage.tensor_files import read_tensors, write_tensors
from lavie.errors import StorageError
from lavie.events import BASE

if typing.TYPE_CHECKING:
    from extensions.long_video.pipeline import Part

_LATENTS, _STATE = "latents", "state."  # names of tensors in a file
# Of finished jobs: windows of later stages, which are large and whose frames are in a file, and parts without a clip.
# Candidates have no clip: they are kept as long as the parts of failed jobs.
_FORGET = f"""
    DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE state = '{DONE}' AND kind <> '{CANDIDATES}')
    AND (stage <> '{BASE}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = parts.job))"""
_EXPIRE = f"""
    DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE finished < ?
    AND (state IN ('{FAILED}', '{CANCELLED}') OR (state = '{DONE}' AND kind = '{CANDIDATES}')))"""


class SegmentLatents(MutableMapping):
    """Key (hex) → part of a job, in `work/<job>/<stage>-<number>-<key>.safetensors`. Belongs to one thread.

    Parts that another job has made are found too, and become this job's own, by a hard link to the same file.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        job_id: str,
        *,
        warn: Callable[[str], None] = lambda text: None,
        shared: bool = True,
    ):
        """
        Args:
            warn: gets a sentence on each damaged part, which counts as missing.
            shared: also find the parts of other jobs.
        """
        self._database, self._folder, self._job = database, Path(folder), job_id
        self._warn, self._shared = warn, shared
        self._whole: set[str] = set()  # keys whose files were read and are valid

    def __setitem__(self, key: str, part: Part) -> None:
        """Store a part. Raises StorageError, with nothing half stored."""
        path = self._path(part.stage, part.number, key)
        tensors = {_LATENTS: part.latents, **{_STATE + name: tensor for name, tensor in part.state.items()}}
        file_hash, size = write_tensors(path, tensors, _named(part.stage, part.number))
        row = {"stage": part.stage, "number": part.number, "path": path.relative_to(self._folder).as_posix()}
        row |= {"frames": part.latents.shape[2], "bytes": size, "file_hash": file_hash}
        self._insert(key, {**row, "facts": json.dumps(dict(part.facts), ensure_ascii=False)})
        self._whole.add(key)

    def __getitem__(self, key: str) -> Part:
        """Read a part. Raises KeyError if no valid one is stored."""
        for row in self._rows(key):
            part = self._read(row)
            if part is not None:
                self._whole.add(key)
                self._take_over(row)
                return part
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if key in self._whole:
            return True
        try:
            self[key]
        except KeyError:
            return False
        return True

    def __delitem__(self, key: str) -> None:
        rows = self._database.query("SELECT path FROM parts WHERE job = ? AND key = ?", [self._job, key])
        if not rows:
            raise KeyError(key)
        self._remove(rows, "key = ?", [key])

    def __iter__(self) -> Iterator[str]:
        """The keys of the job's own parts, by stage and number."""
        rows = self._database.query("SELECT key FROM parts WHERE job = ? ORDER BY stage, number", [self._job])
        return iter([row["key"] for row in rows])

    def __len__(self) -> int:
        (row,) = self._database.query("SELECT count(*) AS number FROM parts WHERE job = ?", [self._job])
        return row["number"]

    def keys_of(self, stage: str) -> list[str]:
        """The keys of the job's own parts of a stage, in order."""
        rows = self._database.query(
            "SELECT key FROM parts WHERE job = ? AND stage = ? ORDER BY number, created", [self._job, stage]
        )
        return [row["key"] for row in rows]

    def drop(self, *stages: str) -> None:
        """Remove the job's parts of these stages [all]."""
        where = f"stage IN ({', '.join('?' * len(stages))})" if stages else "TRUE"
        rows = self._database.query(f"SELECT path FROM parts WHERE job = ? AND {where}", [self._job, *stages])
        self._remove(rows, where, list(stages))
        if not stages:
            shutil.rmtree(self._folder / "work" / self._job, ignore_errors=True)

    def _remove(self, rows: list[dict], where: str, values: list) -> None:
        with self._database.write() as connection:
            connection.execute(f"DELETE FROM parts WHERE job = ? AND {where}", [self._job, *values])
        self._whole.clear()
        for row in rows:
            (self._folder / row["path"]).unlink(missing_ok=True)

    def _rows(self, key: str) -> list[dict]:
        """The rows of a part: the job's own first, then the latest of others."""
        others = "" if self._shared else "AND job = :job"
        return self._database.query(
            f"SELECT * FROM parts WHERE key = :key {others} ORDER BY job <> :job, created DESC",
            {"key": key, "job": self._job},
        )

    def _read(self, row: dict) -> Part | None:
        """None, with a warning, if the file is gone or damaged."""
        from extensions.long_video.pipeline import Part

        try:
            what = f"the latents of {_named(row['stage'], row['number'])}"
            tensors = read_tensors(self._folder / row["path"], row["file_hash"], what)
        except StorageError as error:
            self._warn(f"{error}; that part is made again")
            return None
        latents = tensors.pop(_LATENTS)
        state = {name.removeprefix(_STATE): tensor for name, tensor in tensors.items()}
        return Part(row["stage"], row["number"], latents, json.loads(row["facts"]), state)

    def _take_over(self, row: dict) -> None:
        """Make another job's part this job's own, so that it stays when that job drops it."""
        if row["job"] == self._job:
            return
        path = self._path(row["stage"], row["number"], row["key"])
        if not _link(self._folder / row["path"], path):
            return  # no room for a second name; the part was read all the same
        values = {name: row[name] for name in ("stage", "number", "frames", "bytes", "file_hash", "facts")}
        self._insert(row["key"], {**values, "path": path.relative_to(self._folder).as_posix()})

    def _insert(self, key: str, values: dict) -> None:
        with self._database.write() as connection:
            connection["parts"].upsert({"job": self._job, "key": key, **values, "created": now()}, pk=("job", "key"))

    def _path(self, stage: str, number: int, key: str) -> Path:
        return self._folder / "work" / self._job / f"{stage}-{number:05d}-{key[:12]}.safetensors"


def find_stored(database: Database, folder: Path, keys: typing.Collection[str]) -> set[str]:
    """The keys that any job has stored, by rows and file names alone: nothing is read."""
    found = set()
    wanted = list(keys)
    for begin in range(0, len(wanted), 500):
        some = wanted[begin : begin + 500]
        marks = ", ".join("?" * len(some))
        rows = database.query(f"SELECT key, path FROM parts WHERE key IN ({marks})", some)
        found |= {row["key"] for row in rows if (Path(folder) / row["path"]).is_file()}
    return found


def remove_outdated_parts(database: Database, keep_days: float) -> None:
    """Remove rows that are of no use any more; `StageLatents.sweep` removes files without a row."""
    oldest = datetime.now(timezone.utc) - timedelta(days=keep_days)
    with database.write() as connection:
        connection.execute(_FORGET)
        connection.execute(_EXPIRE, [oldest.isoformat(timespec="microseconds")])


def _link(source: Path, target: Path) -> bool:
    """Hard-link a file, or copy it where the disk has no links; False if both fail."""
    partial = target.with_suffix(".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _named(stage: str, number: int) -> str:
    """The part's name in messages, counted from 1."""
    return f"segment {number + 1}" if stage == BASE else f"window {number + 1} of {stage}"
