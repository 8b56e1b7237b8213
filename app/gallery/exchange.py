"""Exports clips to one zip file and imports such zips, merging by id and content.

    clips/<id>.mp4   the clip, uncompressed       clips/<id>.json   its sidecar; not in a clean copy

Data is copied in blocks. Exports and imports complete or leave nothing behind. A zip is untrusted: its names are never
used as paths, and its claims count only if a hash confirms them.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.gallery.clip import Clip
from app.gallery.files import hash_file, move, storage_errors
from app.gallery.gallery import Gallery
from app.gallery.query import Query
from app.gallery.rebuild import describe_file
from app.gallery.search import find_keys
from app.gallery.sidecar import MAX_BYTES, Sidecar, parse_sidecar
from app.media import check_output, export_clip
from app.media.files import temporary
from app.storage.database import new_id
from lavie.errors import LavieError, MediaError, StorageError
from lavie.files import publish

_BLOCK = 1 << 20  # bytes copied at once
_MEMBER = re.compile(r"clips/([A-Za-z0-9][A-Za-z0-9_-]{0,99})\.(mp4|json)")
_MOST_MEMBERS = 1_000_000
_MOST_GROWTH = 100  # most size of the content by that of the zip; videos hardly shrink, sidecars by ten
_SPARE = 10 << 20  # bytes that any zip may grow by, such as one of a few sidecars


@dataclass(frozen=True)
class Exported:
    """Outcome of an export. path: of the zip. clips: ids in it. left_out: (id, why)."""

    path: Path
    clips: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Imported:
    """Outcome of an import.

    Attributes:
        new: ids of added clips.
        kept: ids of clips that the gallery had.
        renamed: id in the zip → id in the gallery, where another clip had that id.
        skipped: (name in the zip, why).
    """

    new: tuple[str, ...]
    kept: tuple[str, ...]
    renamed: dict[str, str]
    skipped: tuple[tuple[str, str], ...]


def export_zip(
    gallery: Gallery, target: Path, what: Query | Iterable[str] = Query(), *, clean: bool = False
) -> Exported:
    """Write clips to a zip, without those whose files are gone. Raises MediaError.

    Args:
        target: the zip; replaced if it exists.
        what: a query, or ids.
        clean: leave out recipes, notes and everything else that tells how the clips were made.
    """
    if isinstance(what, Query):
        clips = gallery.load(find_keys(gallery, what))
    else:
        clips = [gallery.require(clip_id) for clip_id in dict.fromkeys(what)]
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
                    text = replace(gallery.sidecar_of(clip), file=f"clips/{clip.id}.mp4").to_json()
                    archive.writestr(f"clips/{clip.id}.json", text, zipfile.ZIP_DEFLATED)
                done.append(clip.id)
        publish(partial, target)
    return Exported(target, tuple(done), tuple(left_out))


def _add_clean(archive: zipfile.ZipFile, clip: Clip, partial: Path) -> None:
    try:
        export_clip(clip.path, partial, "h264", recipe=False)
        archive.write(partial, f"clips/{clip.id}.mp4")
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Arrival:
    """An unpacked clip of a zip."""

    id: str
    path: Path
    file_hash: str
    sidecar: Sidecar


def import_zip(gallery: Gallery, path: Path) -> Imported:
    """Add the clips of a zip that `export_zip` wrote.

    Skips clips whose content the gallery has, under any id. A clip whose id another clip has gets a new id. Raises
    MediaError for a damaged or malicious zip, StorageError; then nothing is added.
    """
    work = gallery.folder / "work" / "imports" / secrets.token_hex(8)
    try:
        with _zip_errors(path), zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            _check_size(archive, path, gallery.folder)
            with storage_errors(work):
                work.mkdir(parents=True)
            arrivals, skipped = _unpack(archive, members, work)
        return replace(_merge(gallery, arrivals), skipped=tuple(skipped))
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
    """id → {mp4: …, json: …}. Raises MediaError for a malicious zip."""
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
            sidecar = _read_sidecar(archive, kinds.get("json"), clip_id, path, file_hash)
            arrivals.append(_Arrival(clip_id, path, file_hash, sidecar))
        except LavieError as error:
            skipped.append((f"clips/{clip_id}", str(error)))
    return arrivals, skipped


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> str:
    """Write a member to a file; its SHA-256."""
    digest = hashlib.sha256()
    with _zip_errors(info.filename), archive.open(info) as source, open(path, "xb") as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def _read_sidecar(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, clip_id: str, path: Path, file_hash: str
) -> Sidecar:
    """A clip's sidecar from the zip; from its file if the zip has none or one of other content."""
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


def _merge(gallery: Gallery, arrivals: list[_Arrival]) -> Imported:
    """Move the files into place and add the rows; all of them, or none."""
    new: list[str] = []
    placed: list[Path] = []
    try:
        with gallery.database.write():
            ids = _choose_ids(gallery, arrivals)
            for arrival in arrivals:
                clip_id = ids[arrival.id]
                here = gallery.get(clip_id)
                if here is None:
                    parent = arrival.sidecar.parent and ids.get(arrival.sidecar.parent, arrival.sidecar.parent)
                    _place(gallery, replace(arrival.sidecar, id=clip_id, parent=parent), arrival.path, placed)
                    placed.append(gallery.sidecar_path(clip_id))
                    new.append(clip_id)
                elif not here.path.is_file():  # its file was missing
                    _place(gallery, gallery.sidecar_of(here), arrival.path, placed)
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        raise
    kept = tuple(dict.fromkeys(clip_id for clip_id in ids.values() if clip_id not in new))
    return Imported(tuple(new), kept, {old: clip_id for old, clip_id in ids.items() if old != clip_id}, ())


def _choose_ids(gallery: Gallery, arrivals: list[_Arrival]) -> dict[str, str]:
    """Id in the zip → id in the gallery: of the clip with the same content, else its own, else a new one."""
    ids: dict[str, str] = {}
    by_hash: dict[str, str] = {}
    for arrival in arrivals:
        rows = gallery.database.query(
            "SELECT id FROM clips WHERE file_hash = ? ORDER BY id != ?, pk LIMIT 1", [arrival.file_hash, arrival.id]
        )
        same = rows[0]["id"] if rows else by_hash.get(arrival.file_hash)
        ids[arrival.id] = same or (new_id() if _is_taken(gallery, arrival) else arrival.id)
        by_hash[arrival.file_hash] = ids[arrival.id]
    return ids


def _is_taken(gallery: Gallery, arrival: _Arrival) -> bool:
    """Whether another clip has the id, or files that are not left from a killed import of this clip."""
    video = gallery.clips / f"{arrival.id}.mp4"
    if gallery.get(arrival.id) is not None:
        return True
    return hash_file(video) != arrival.file_hash if video.is_file() else gallery.sidecar_path(arrival.id).exists()


def _place(gallery: Gallery, sidecar: Sidecar, path: Path, placed: list[Path]) -> None:
    """Move the file from `path` into the folder of clips, unless an earlier import did, and add the row."""
    target = gallery.clips / f"{sidecar.id}.mp4"
    if target.exists() and hash_file(target) != sidecar.file_hash:
        target = target.with_name(f"{new_id()}.mp4")
    if not target.exists():
        placed.append(target)
        move(path, target)
    gallery.put(replace(sidecar, file=gallery.relative_path(target)))
