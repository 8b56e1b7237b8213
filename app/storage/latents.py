"""Latents on disk: of finished stages, of frames that long videos continue or join, and of the parts of long videos.

A killed job goes on from them, and a draft is finished from them later. A file is valid if its row is in the database
and its bytes have the stored hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from app.recipes.initial_frames import InitialFrames
from app.recipes.job_row import CANCELLED, CANDIDATES, DONE, FAILED
from app.recipes.options import base_only
from app.storage.database import Database, now
from lavie.errors import RequestError, StorageError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Request

if typing.TYPE_CHECKING:
    from torch import Tensor

    from extensions.long_video.pipeline import Part

S = typing.TypeVar("S", bound=InitialFrames)
_START, _BEGUN_SECONDS = "start-", 3600
_INITIAL_STAGE = "start"
_KEEP = timedelta(days=1)  # for frames that nothing names yet: a person may be about to use them
NAME, _STATE = "latents", "state."  # the name of the latents in a file, and the prefix of a part's other tensors
# Of finished jobs: latents of later stages whose frames are in a file, which are large, and latents without a clip.
# Candidates have no clip: they are kept as long as the parts of failed jobs.
_FORGET = (
    f"""DELETE FROM artefacts WHERE job IN (SELECT id FROM jobs WHERE state = '{DONE}')
    AND (stage = '{SUPER_RESOLUTION}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = artefacts.job))""",
    f"""DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE state = '{DONE}' AND kind <> '{CANDIDATES}')
    AND (stage <> '{BASE}' OR NOT EXISTS (SELECT 1 FROM clips WHERE clips.id = parts.job))""",
)
# Of failed and cancelled jobs, after the time for a new try. Open jobs have no `finished`.
_EXPIRE = (
    f"""DELETE FROM artefacts WHERE job IN
    (SELECT id FROM jobs WHERE state IN ('{FAILED}', '{CANCELLED}') AND finished < ?)""",
    f"""DELETE FROM parts WHERE job IN (SELECT id FROM jobs WHERE finished < ?
    AND (state IN ('{FAILED}', '{CANCELLED}') OR (state = '{DONE}' AND kind = '{CANDIDATES}')))""",
)
# The hashes of the initial frames that jobs and projects name.
_USED = """
    SELECT json_extract(job, '$.start.hash') AS hash FROM jobs WHERE json_extract(job, '$.start') IS NOT NULL
    UNION SELECT json_extract(shots.value, '$.hash') FROM jobs, json_each(jobs.job, '$.shots') AS shots
    UNION SELECT json_extract(start, '$.hash') FROM projects WHERE start IS NOT NULL"""


class StageLatents:
    """The files `work/<job>/<stage>.safetensors` of a data folder, and their rows in the database."""

    def __init__(self, database: Database, folder: Path):
        self._database, self._folder = database, Path(folder)

    def save(self, job_id: str, stage: str, latents: Tensor) -> None:
        """Store the result of a stage in place of an earlier one. Raises StorageError, with nothing half stored."""
        path = self._path(job_id, stage)
        file_hash, size = write_bytes(path, content_of({NAME: latents}), f"the latents of {stage}")
        with self._database.write() as connection:
            stored = path.relative_to(self._folder).as_posix()
            row = {"job": job_id, "stage": stage, "path": stored, "bytes": size}
            connection.table("artefacts").upsert({**row, "file_hash": file_hash, "created": now()}, pk=("job", "stage"))

    def stages(self, job_id: str) -> set[str]:
        """The stages whose latents are stored."""
        return {row["stage"] for row in self._database.query("SELECT stage FROM artefacts WHERE job = ?", [job_id])}

    def load(self, job_id: str, stage: str) -> Tensor | None:
        """The latents of a stage, on the CPU; None if none are stored. Raises StorageError if the file is damaged."""
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

        stages: in the order in which they run. sources: job id → the stages whose latents may be used.
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
            for statement in _FORGET:
                connection.execute(statement)
            for statement in _EXPIRE:
                connection.execute(statement, [oldest.isoformat(timespec="microseconds")])
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


class InitialFramesStore:
    """Latents of frames that long videos continue or join, each stored once under its hash in place of a job's id.

    Queued jobs and projects name them, and so do recipes. All methods may be called from any thread.
    """

    def __init__(self, database: Database, folder: Path):
        self._database, self._latents = database, StageLatents(database, folder)

    def keep(self, kind_of: type[S], latents: Tensor, kind: str, name: str) -> S:
        """Store the last frames of latents 1 C F h w, as many as a `kind_of` may have. Raises StorageError."""
        latents = latents[:, :, -kind_of.most :].float().cpu().contiguous()
        file_hash = hashlib.sha256(content_of({NAME: latents})).hexdigest()
        start = kind_of(kind, name[-500:], file_hash, latents.shape[2])
        if not self.has(start):
            self._latents.save(_START + file_hash, _INITIAL_STAGE, latents)
        return start

    def has(self, start: InitialFrames) -> bool:
        """Whether its latents are stored."""
        return _INITIAL_STAGE in self._latents.stages(_START + start.hash)

    def load(self, start: InitialFrames) -> Tensor:
        """Latents 1 C F h w on the CPU. Raises RequestError if they are gone or damaged."""
        try:
            latents = self._latents.load(_START + start.hash, _INITIAL_STAGE)
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
        used = {_START + row["hash"] for row in self._database.query(_USED)}
        oldest = (datetime.now(timezone.utc) - _KEEP).isoformat(timespec="microseconds")
        rows = self._database.query(
            "SELECT job FROM artefacts WHERE stage = ? AND created < ?", [_INITIAL_STAGE, oldest]
        )
        for row in rows:
            if row["job"] not in used:
                self._latents.drop(row["job"])


class SegmentLatents(MutableMapping):
    """Key (hex) → part of a job, in `work/<job>/<stage>-<number>-<key>.safetensors`. Belongs to one thread.

    A key covers all that decides a part. Parts that another job has made are found too, and become this job's own, by a
    hard link to the same file.
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
        """warn: gets a sentence on each damaged part, which counts as missing. shared: also find other jobs' parts."""
        self._database, self._folder, self._job = database, Path(folder), job_id
        self._warn, self._shared = warn, shared
        self._whole: set[str] = set()  # keys whose files were read and are valid

    def __setitem__(self, key: str, part: Part) -> None:
        """Store a part. Raises StorageError, with nothing half stored."""
        path = self._path(part.stage, part.number, key)
        tensors = {NAME: part.latents, **{_STATE + name: tensor for name, tensor in part.state.items()}}
        file_hash, size = write_bytes(path, content_of(tensors), _describe(part.stage, part.number))
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
        if isinstance(key, str) and key not in self._whole:
            with contextlib.suppress(KeyError):
                self[key]
        return key in self._whole

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
            what = f"the latents of {_describe(row['stage'], row['number'])}"
            tensors = read_tensors(self._folder / row["path"], row["file_hash"], what)
        except StorageError as error:
            self._warn(f"{error}; that part is made again")
            return None
        latents = tensors.pop(NAME)
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
            connection.table("parts").upsert(
                {"job": self._job, "key": key, **values, "created": now()}, pk=("job", "key")
            )

    def _path(self, stage: str, number: int, key: str) -> Path:
        return self._folder / "work" / self._job / f"{stage}-{number:05d}-{key[:12]}.safetensors"


def find_stored(database: Database, folder: Path, keys: Collection[str]) -> set[str]:
    """The keys that any job has stored, by rows and file names alone: nothing is read."""
    found, wanted = set(), list(keys)
    for begin in range(0, len(wanted), 500):
        some = wanted[begin : begin + 500]
        marks = ", ".join("?" * len(some))
        rows = database.query(f"SELECT key, path FROM parts WHERE key IN ({marks})", some)
        found |= {row["key"] for row in rows if (Path(folder) / row["path"]).is_file()}
    return found


def _is_being_begun(folder: Path) -> bool:
    """Whether another process may be storing initial frames there: only these are stored without owning the folder."""
    return folder.name.startswith(_START) and time.time() - folder.stat().st_mtime < _BEGUN_SECONDS


def find_shared_stages(draft: Request, request: Request) -> set[str]:
    """The stages that are the same in both resolved requests: the same weights and machine give the same latents."""
    if base_only(draft) != base_only(request):
        return set()
    same = draft.interpolation is not None and draft.interpolation == request.interpolation
    return {BASE, INTERPOLATION} if same else {BASE}


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


def _describe(stage: str, number: int) -> str:
    """The part's name in messages, counted from 1."""
    return f"segment {number + 1}" if stage == BASE else f"window {number + 1} of {stage}"


def content_of(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file. The same tensors give the same bytes."""
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def write_bytes(path: Path, content: bytes, what: str) -> tuple[str, int]:
    """Store bytes; their SHA-256 and size. what: their name in messages.

    Raises StorageError, with nothing half stored.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # safetensors itself would leave a file of another name when it is killed.
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(f"{what} cannot be kept in {path.parent} ({reason}): free some space") from error
    return hashlib.sha256(content).hexdigest(), len(content)


def read_tensors(path: Path, file_hash: str, what: str) -> dict[str, Tensor]:
    """The stored tensors, on the CPU. Raises StorageError if the file is gone or damaged."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{what} in {path} cannot be read ({reason})") from error
    if hashlib.sha256(content).hexdigest() != file_hash:
        raise StorageError(f"{what} in {path} are damaged: they are not what was stored")
    return load(content)
