"""Clips out to one zip file and in again, merged by id and content.

    clips/<id>.mp4   the clip, stored as it is       clips/<id>.json   its sidecar; not in a clean copy

Everything passes through in blocks; a zip appears, and an import shows, whole or not at all. What comes in was written
by a stranger: no name in it is ever used as a path, and nothing is taken on trust but what a hash confirms.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.clip import new_id
from app.gallery.clips import get, put, sidecar_of
from app.gallery.rebuild import describe_file
from app.gallery.sidecar import MAX_BYTES, Sidecar, parse_sidecar
from app.gallery.store import BLOCK, Store, hash_file, move, storage_errors
from app.gallery.values import StoredClip
from app.media import check_output, export
from app.media.files import temporary
from lavie.errors import LavieError, MediaError, StorageError
from lavie.files import publish

_MEMBER = re.compile(r"clips/([A-Za-z0-9][A-Za-z0-9_-]{0,99})\.(mp4|json)")
_MOST_MEMBERS = 1_000_000
_MOST_GROWTH = 100  # times the size of the zip that it may unpack to; videos hardly shrink, sidecars by ten
_SPARE = 10 << 20  # bytes; a small zip of a few sidecars may grow by more


@dataclass(frozen=True)
class Exported:
    """path: of the zip. clips: ids in it. left_out: (id, why)."""

    path: Path
    clips: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Imported:
    """new: ids of clips that came in. kept: ids of those that were here. renamed: id in the zip → id here, where
    another clip had that id. skipped: (name in the zip, why).
    """

    new: tuple[str, ...]
    kept: tuple[str, ...]
    renamed: dict[str, str]
    skipped: tuple[tuple[str, str], ...]


def export_zip(store: Store, target: Path, clips: list[StoredClip], *, clean: bool = False) -> Exported:
    """Write clips to `target`, replacing it. clean: without recipes, notes or anything that tells how they were made.

    Clips whose files are gone are left out. Raises MediaError.
    """
    target = Path(target)
    done, left_out = [], []
    check_output(target, ".zip", sources=tuple(clip.path for clip in clips))
    with temporary(target) as partial:
        with zipfile.ZipFile(partial, "x", strict_timestamps=False) as archive:
            for clip in clips:
                if not clip.path.is_file():
                    left_out.append((clip.id, f"{clip.path} is gone"))
                    continue
                if clean:
                    _add_clean(archive, clip, partial.with_suffix(".mp4"))
                else:
                    archive.write(clip.path, f"clips/{clip.id}.mp4")
                    text = replace(sidecar_of(store, clip), file=f"clips/{clip.id}.mp4").to_json()
                    archive.writestr(f"clips/{clip.id}.json", text, zipfile.ZIP_DEFLATED)
                done.append(clip.id)
        publish(partial, target)
    return Exported(target, tuple(done), tuple(left_out))


def _add_clean(archive: zipfile.ZipFile, clip: StoredClip, partial: Path) -> None:
    try:
        export(clip.path, partial, "h264", recipe=False)
        archive.write(partial, f"clips/{clip.id}.mp4")
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Arrival:
    """A clip of the zip, unpacked to `path`."""

    id: str
    path: Path
    file_hash: str
    sidecar: Sidecar


def import_zip(store: Store, path: Path) -> Imported:
    """Take in the clips of a zip that `export_zip` wrote.

    A clip that is here already, under any id, is kept once; one that is here with other content comes in under a new
    id. Raises MediaError for a zip that is damaged or made to do harm, StorageError; then nothing has come in.
    """
    work = store.folder / "work" / "imports" / secrets.token_hex(8)
    try:
        with _zip_errors(path), zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            _check_size(archive, path, store.folder)
            with storage_errors(work):
                work.mkdir(parents=True)
            arrivals, skipped = _unpack(archive, members, work)
        return replace(_merge(store, arrivals), skipped=tuple(skipped))
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _zip_errors(name: object) -> Iterator[None]:
    try:
        yield
    except LavieError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise MediaError(f"{name} cannot be read as a zip ({error}): it is damaged or of another kind") from error
    except OSError as error:
        raise MediaError(f"{name} cannot be read or unpacked ({error.strerror or error}): check the disk") from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """id → {mp4: …, json: …}. Raises MediaError for a zip that no honest program writes."""
    members: dict[str, dict[str, zipfile.ZipInfo]] = {}
    if len(archive.infolist()) > _MOST_MEMBERS:
        raise MediaError(f"{path} has {len(archive.infolist())} members, more than {_MOST_MEMBERS}: it is refused")
    for info in archive.infolist():
        name = info.orig_filename
        parts = re.split(r"[/\\]", name)
        if name.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts or "\0" in name:
            raise MediaError(f"{path} holds {name!r:.100}, a name that leads elsewhere: it is refused")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise MediaError(f"{path} holds {name!r:.100}, a link or a device: it is refused")
        if match := _MEMBER.fullmatch(name):
            kinds = members.setdefault(match[1], {})
            if match[2] in kinds:
                raise MediaError(f"{path} holds {name!r:.100} twice: it is refused")
            kinds[match[2]] = info
    return members


def _check_size(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    size = sum(info.file_size for info in archive.infolist())
    if size > _MOST_GROWTH * path.stat().st_size + _SPARE:
        raise MediaError(f"{path} would unpack to {size} bytes, far more than videos can: it is refused")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(f"{path} unpacks to {size} bytes, and {folder} has room for {free}: free some space")


def _unpack(
    archive: zipfile.ZipFile, members: dict[str, dict[str, zipfile.ZipInfo]], work: Path
) -> tuple[list[_Arrival], list[tuple[str, str]]]:
    arrivals, skipped = [], []
    for clip_id, kinds in sorted(members.items()):
        try:
            if "mp4" not in kinds:
                raise MediaError("there is no video to it")
            path = work / f"{clip_id}.mp4"
            file_hash = _extract(archive, kinds["mp4"], path)
            sidecar = _sidecar(archive, kinds.get("json"), clip_id, path, file_hash)
            arrivals.append(_Arrival(clip_id, path, file_hash, sidecar))
        except LavieError as error:
            skipped.append((f"clips/{clip_id}", str(error)))
    return arrivals, skipped


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> str:
    """A member to a file; its SHA-256."""
    digest = hashlib.sha256()
    with _zip_errors(info.filename), archive.open(info) as source, open(path, "xb") as target:
        while block := source.read(BLOCK):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _sidecar(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, clip_id: str, path: Path, file_hash: str
) -> Sidecar:
    """What the zip says of a clip; of one whose sidecar tells of other content, what the file says itself."""
    if info is None:
        return describe_file(path, file_hash, clip_id, path.name)
    with _zip_errors(info.filename), archive.open(info) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise MediaError(f"its sidecar has more than {MAX_BYTES} bytes")
    sidecar = parse_sidecar(content)
    if (sidecar.id, sidecar.file_hash) == (clip_id, file_hash):
        return sidecar
    return describe_file(path, file_hash, clip_id, path.name)


def _merge(store: Store, arrivals: list[_Arrival]) -> Imported:
    """Files into place and rows into the database; all of them, or none."""
    new: list[str] = []
    placed: list[Path] = []
    try:
        with store.database.write():
            ids = _ids(store, arrivals)
            for arrival in arrivals:
                clip_id = ids[arrival.id]
                here = get(store, clip_id)
                if here is None:
                    parent = ids.get(arrival.sidecar.parent, arrival.sidecar.parent)
                    _place(store, replace(arrival.sidecar, id=clip_id, parent=parent), arrival.path, placed)
                    placed.append(store.sidecar(clip_id))
                    new.append(clip_id)
                elif not here.path.is_file():  # its file was gone, and comes back
                    _place(store, sidecar_of(store, here), arrival.path, placed)
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        raise
    kept = tuple(dict.fromkeys(clip_id for clip_id in ids.values() if clip_id not in new))
    return Imported(tuple(new), kept, {old: clip_id for old, clip_id in ids.items() if old != clip_id}, ())


def _ids(store: Store, arrivals: list[_Arrival]) -> dict[str, str]:
    """Id in the zip → id here: of the clip with the same content, else its own, else a new one."""
    ids: dict[str, str] = {}
    by_hash: dict[str, str] = {}
    for arrival in arrivals:
        rows = store.database.query(
            "SELECT id FROM clips WHERE file_hash = ? ORDER BY id != ?, pk LIMIT 1", [arrival.file_hash, arrival.id]
        )
        same = rows[0]["id"] if rows else by_hash.get(arrival.file_hash)
        ids[arrival.id] = same or (new_id() if _is_taken(store, arrival) else arrival.id)
        by_hash[arrival.file_hash] = ids[arrival.id]
    return ids


def _is_taken(store: Store, arrival: _Arrival) -> bool:
    """Whether another clip has the id, or files do that no import of this very clip has left when it was killed."""
    video = store.clips / f"{arrival.id}.mp4"
    if get(store, arrival.id) is not None:
        return True
    return hash_file(video) != arrival.file_hash if video.is_file() else store.sidecar(arrival.id).exists()


def _place(store: Store, sidecar: Sidecar, path: Path, placed: list[Path]) -> None:
    """The file among the clips, and the row. path: it moves from there, unless an earlier try has brought it."""
    target = store.clips / f"{sidecar.id}.mp4"
    if target.exists() and hash_file(target) != sidecar.file_hash:
        target = target.with_name(f"{new_id()}.mp4")
    if not target.exists():
        placed.append(target)
        move(path, target)
    put(store, replace(sidecar, file=store.stored(target)))
