"""Parts of long videos on disk, each as soon as it is made: segments, and windows of the later stages.

A part's key says all that decides it, so that a part made by one job is found by every other that would make the same.
It counts once its row is in the database, and while its bytes are those that were stored.
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

from app.queue.job import CANCELLED, CANDIDATES, DONE, FAILED
from app.storage.database import Database, now
from app.storage.tensor_files import read_tensors, write_tensors
from lavie.errors import StorageError
from lavie.events import BASE

if typing.TYPE_CHECKING:
    from extensions.long_video.pipeline import Part

_LATENTS, _STATE = "latents", "state."  # names of tensors in a file
# Of a job that is done: windows of later stages are large, and the frames in a file; a clip that is gone is not
# finished. Candidates have no clip: they stay as long as what failed does.
_FORGET = f"""
    DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE state = '{DONE}' AND kind <> '{CANDIDATES}')
    AND (stage <> '{BASE}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = parts.job))"""
_EXPIRE = f"""
    DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE finished < ?
    AND (state IN ('{FAILED}', '{CANCELLED}') OR (state = '{DONE}' AND kind = '{CANDIDATES}')))"""


class SegmentLatents(MutableMapping):
    """`work/<job>/<stage>-<number>-<key>.safetensors` of a job, by key (hex). Belongs to one thread.

    One that another job has made is found too, and becomes this job's own: a second name of the same file.

    tell: gets a sentence on each that should be there and is not whole; it counts as not there. shared: look at other
    jobs' parts.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        job_id: str,
        *,
        tell: Callable[[str], None] = lambda text: None,
        shared: bool = True,
    ):
        self._database, self._folder, self._job = database, Path(folder), job_id
        self._tell, self._shared = tell, shared
        self._whole: set[str] = set()  # keys whose files were read and found right

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
        """Read a part. KeyError where none is kept that is whole."""
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
        self._forget(rows, "key = ?", [key])

    def __iter__(self) -> Iterator[str]:
        """The keys of the job's own, in the order of stages and numbers."""
        rows = self._database.query("SELECT key FROM parts WHERE job = ? ORDER BY stage, number", [self._job])
        return iter([row["key"] for row in rows])

    def __len__(self) -> int:
        (row,) = self._database.query("SELECT count(*) AS number FROM parts WHERE job = ?", [self._job])
        return row["number"]

    def keys_of(self, stage: str) -> list[str]:
        """The keys of the job's own parts of a stage, in their order."""
        rows = self._database.query(
            "SELECT key FROM parts WHERE job = ? AND stage = ? ORDER BY number, created", [self._job, stage]
        )
        return [row["key"] for row in rows]

    def drop(self, *stages: str) -> None:
        """Forget the job's parts of these stages, or all of them."""
        where = f"stage IN ({', '.join('?' * len(stages))})" if stages else "TRUE"
        rows = self._database.query(f"SELECT path FROM parts WHERE job = ? AND {where}", [self._job, *stages])
        self._forget(rows, where, list(stages))
        if not stages:
            shutil.rmtree(self._folder / "work" / self._job, ignore_errors=True)

    def _forget(self, rows: list[dict], where: str, values: list) -> None:
        with self._database.write() as connection:
            connection.execute(f"DELETE FROM parts WHERE job = ? AND {where}", [self._job, *values])
        self._whole.clear()
        for row in rows:
            (self._folder / row["path"]).unlink(missing_ok=True)

    def _rows(self, key: str) -> list[dict]:
        """Where a part is kept: the job's own first, then the latest of others."""
        others = "" if self._shared else "AND job = :job"
        return self._database.query(
            f"SELECT * FROM parts WHERE key = :key {others} ORDER BY job <> :job, created DESC",
            {"key": key, "job": self._job},
        )

    def _read(self, row: dict) -> Part | None:
        """None where the file is gone or damaged, which is told."""
        from extensions.long_video.pipeline import Part

        try:
            what = f"the latents of {_named(row['stage'], row['number'])}"
            tensors = read_tensors(self._folder / row["path"], row["file_hash"], what)
        except StorageError as error:
            self._tell(f"{error}; that part is made again")
            return None
        latents = tensors.pop(_LATENTS)
        state = {name.removeprefix(_STATE): tensor for name, tensor in tensors.items()}
        return Part(row["stage"], row["number"], latents, json.loads(row["facts"]), state)

    def _take_over(self, row: dict) -> None:
        """Make another job's part this job's own: what that job drops stays here."""
        if row["job"] == self._job:
            return
        path = self._path(row["stage"], row["number"], row["key"])
        if not _link(self._folder / row["path"], path):
            return  # no room for a second name: it was read, and that is what was asked for
        values = {name: row[name] for name in ("stage", "number", "frames", "bytes", "file_hash", "facts")}
        self._insert(row["key"], {**values, "path": path.relative_to(self._folder).as_posix()})

    def _insert(self, key: str, values: dict) -> None:
        with self._database.write() as connection:
            connection["parts"].upsert({"job": self._job, "key": key, **values, "created": now()}, pk=("job", "key"))

    def _path(self, stage: str, number: int, key: str) -> Path:
        return self._folder / "work" / self._job / f"{stage}-{number:05d}-{key[:12]}.safetensors"


def kept_keys(database: Database, folder: Path, keys: typing.Collection[str]) -> set[str]:
    """Which of these keys any job keeps, by rows and names of files alone: nothing is read."""
    found = set()
    wanted = list(keys)
    for begin in range(0, len(wanted), 500):
        some = wanted[begin : begin + 500]
        marks = ", ".join("?" * len(some))
        rows = database.query(f"SELECT key, path FROM parts WHERE key IN ({marks})", some)
        found |= {row["key"] for row in rows if (Path(folder) / row["path"]).is_file()}
    return found


def forget_parts(database: Database, keep_days: float) -> None:
    """Take rows out that are of no use any more; `StageLatents.sweep` removes the files of what has no row."""
    oldest = datetime.now(timezone.utc) - timedelta(days=keep_days)
    with database.write() as connection:
        connection.execute(_FORGET)
        connection.execute(_EXPIRE, [oldest.isoformat(timespec="microseconds")])


def _link(source: Path, target: Path) -> bool:
    """A second name for a file, or a copy where the disk knows no second names; False if neither can be."""
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
    """For messages; counted from 1."""
    return f"segment {number + 1}" if stage == BASE else f"window {number + 1} of {stage}"
