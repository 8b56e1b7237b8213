"""Brings the database in line with the files: finds missing and moved clips, and rebuilds the gallery from files alone.

A missing clip is marked and never forgotten: disks get unplugged, and people tidy folders. Files that cannot be
understood stay where they are and are reported: strangers may have put them there. The database counts before a clip's
sidecar, the sidecar before the recipe in the file.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from app.gallery.clip import age_of, is_id, time_of
from app.gallery.files import hash_file, move, storage_errors
from app.gallery.gallery import Gallery
from app.gallery.sidecar import Sidecar, read_sidecar
from app.media import probe, read_recipe
from app.recipes.recipe import Recipe
from app.storage.database import NAME, DamagedDatabaseError, Database, new_id, now
from app.storage.folder_lock import Ownership
from lavie.errors import LavieError, MediaError, RequestError

_CHECKED_COLUMNS = "id, path, bytes, file_hash, missing"


@dataclass(frozen=True)
class Checked:
    """Outcome of a check. missing: ids of all clips without files. found: ids of clips whose files are back."""

    missing: tuple[str, ...]
    found: tuple[str, ...]


def check_files(gallery: Gallery) -> Checked:
    """Mark clips whose files are gone, and find those files by their content anywhere in the folder of clips."""
    rows = gallery.database.query(f"SELECT {_CHECKED_COLUMNS} FROM clips ORDER BY pk")
    gone = [row for row in rows if not _is_there(gallery, row)]
    lost = {row["id"] for row in gone}
    found = {row["id"]: row["path"] for row in rows if row["missing"] and row["id"] not in lost}
    found |= _find_moved(gallery, gone, used={row["path"] for row in rows if row["id"] not in lost})
    missing = [row["id"] for row in gone if row["id"] not in found]
    _record(gallery, missing, found)
    return Checked(tuple(missing), tuple(found))


def check_file(gallery: Gallery, clip_id: str) -> bool:
    """Whether a clip's file is in its place, unchanged or made again; updates the row. Reads no other file."""
    gallery.require(clip_id)
    (row,) = gallery.database.query(f"SELECT {_CHECKED_COLUMNS} FROM clips WHERE id = ?", [clip_id])
    there = _is_there(gallery, row)
    _record(gallery, [] if there else [clip_id], {clip_id: row["path"]} if there else {})
    return there


def _record(gallery: Gallery, missing: Iterable[str], found: Mapping[str, str]) -> None:
    """Store which clips are missing and where others are. found: id → stored path."""
    with gallery.database.write() as connection:
        for clip_id in missing:
            connection.execute("UPDATE clips SET missing = coalesce(missing, ?) WHERE id = ?", [now(), clip_id])
        for clip_id, path in found.items():
            if (clip := gallery.get(clip_id)) is not None:
                file = gallery.absolute_path(path)
                known = gallery.sidecar_of(clip)
                gallery.put(replace(known, file=path, file_hash=hash_file(file), bytes=file.stat().st_size))


def _is_there(gallery: Gallery, row: dict[str, Any]) -> bool:
    """Whether a clip's file is in its place, or one with the same frames. For a clip not marked as missing, the size
    suffices."""
    path = gallery.absolute_path(row["path"])
    if not os.path.isfile(path):
        return False
    if not row["missing"] and os.path.getsize(path) == row["bytes"]:
        return True
    return hash_file(path) == row["file_hash"] or _has_recipe_of(gallery, row, path)


def _has_recipe_of(gallery: Gallery, row: dict[str, Any], path: Path) -> bool:
    """Whether a file holds the clip's recipe, which names the hash of its frames: encoders may differ."""
    clip = gallery.get(row["id"])
    try:
        return clip is not None and read_recipe(path) == clip.recipe_json
    except MediaError:
        return False


def _find_moved(gallery: Gallery, gone: list[dict[str, Any]], used: set[str]) -> dict[str, str]:
    """Id → stored path of missing clips' files. Reads only unused files of a fitting size."""
    by_size = defaultdict(list)
    for row in gone:
        by_size[row["bytes"]].append(row)
    found: dict[str, str] = {}
    for path in gallery.videos() if gone else ():
        with storage_errors(path):
            rows = [row for row in by_size[path.stat().st_size] if row["id"] not in found]
        if not rows or gallery.relative_path(path) in used:
            continue
        file_hash = hash_file(path)
        same = next((row["id"] for row in rows if row["file_hash"] == file_hash), None)
        if same is not None:
            found[same] = gallery.relative_path(path)
    return found


@dataclass(frozen=True)
class Rebuilt:
    """Outcome of a rebuild. found: ids of new clips. kept: number of known clips. skipped: (file, why)."""

    found: tuple[str, ...]
    kept: int
    skipped: tuple[tuple[Path, str], ...]


def rebuild(gallery: Gallery) -> Rebuilt:
    """Add every clip that only the folder holds. A sidecar without a file becomes a missing clip."""
    check_files(gallery)
    rows = gallery.database.query("SELECT id, path, file_hash, missing FROM clips")
    known, hashes = ({row[name] for row in rows} for name in ("id", "file_hash"))
    paths = {row["path"] for row in rows if not row["missing"]}
    skipped: list[tuple[Path, str]] = []
    sidecars = _read_sidecars(gallery, known, skipped)
    by_hash = {sidecar.file_hash: sidecar for sidecar in sidecars.values()}
    found: list[str] = []
    for path in gallery.videos():
        if gallery.relative_path(path) in paths:
            continue
        try:
            file_hash = hash_file(path)
            if file_hash in hashes:
                raise MediaError("it is a copy of a clip that the gallery has")
            sidecar = by_hash.get(file_hash) or _describe_new(gallery, path, file_hash, known | sidecars.keys())
            gallery.put(replace(sidecar, file=gallery.relative_path(path)))
        except LavieError as error:
            skipped.append((path, str(error)))
            continue
        found.append(sidecar.id)
        hashes.add(file_hash)
        sidecars.pop(sidecar.id, None)
    for sidecar in sidecars.values():
        if sidecar.file_hash not in hashes:
            gallery.put(sidecar, missing=None if _lies_elsewhere(gallery, sidecar) else now())
            found.append(sidecar.id)
    return Rebuilt(tuple(found), len(known), tuple(skipped))


def put_aside_if_damaged(folder: Path) -> Path | None:
    """Rename a damaged database so that a new one can be made; its new name, or None if it is whole.

    Raises StorageError if another process uses the folder, or if the database cannot be opened for another reason, such
    as a newer version.
    """
    if not _is_damaged(folder):
        return None
    with Ownership(folder).hold("close that studio, or wait for that command, and rebuild then"):
        if not _is_damaged(folder):  # another process has rebuilt it meanwhile
            return None
        aside = folder / f"studio.damaged-{new_id()}.db"
        for suffix in ("", "-wal", "-shm"):  # SQLite would take these for the new database's
            path = folder / f"{NAME}{suffix}"
            if path.exists():
                move(path, aside.with_name(f"{aside.name}{suffix}"))
    return aside


def _is_damaged(folder: Path) -> bool:
    try:
        Database(folder).close()
    except DamagedDatabaseError:
        return True
    return False


def describe_file(path: Path, file_hash: str, clip_id: str, stored: str) -> Sidecar:
    """A clip's sidecar from its file alone. Raises LavieError if that is no video or has no recipe."""
    text = read_recipe(path)
    if text is None:
        raise MediaError("it carries no recipe")
    recipe = Recipe.from_json(text)
    info = probe(path)
    with storage_errors(path):
        status = path.stat()
    try:
        age = age_of(recipe.created)
    except RequestError:
        age = age_of(datetime.fromtimestamp(max(0.0, status.st_mtime), timezone.utc).isoformat())
    return Sidecar(
        id=clip_id,
        file=stored,
        file_hash=file_hash,
        recipe=recipe,
        width=info.width,
        height=info.height,
        frames=info.frames,
        fps=info.fps,
        bytes=status.st_size,
        seconds=0.0,  # no file says how long the making took
        frame_hash=recipe.frame_hash or "",
        created=time_of(age),
    )


def _read_sidecars(gallery: Gallery, known: set[str], skipped: list[tuple[Path, str]]) -> dict[str, Sidecar]:
    """Sidecars of clips that the database does not know, by id."""
    found: dict[str, Sidecar] = {}
    with storage_errors(gallery.clips):
        paths = sorted(path for path in gallery.clips.glob("[!.]*.json") if path.stem not in known)
    for path in paths:
        try:
            sidecar = read_sidecar(path)
            if sidecar is None or sidecar.id != path.stem:
                raise RequestError("it is a link, a folder, or the sidecar of a clip of another name")
            found[sidecar.id] = sidecar
        except LavieError as error:
            skipped.append((path, str(error)))
    return found


def _describe_new(gallery: Gallery, path: Path, file_hash: str, taken: set[str]) -> Sidecar:
    """The sidecar of a clip that has no readable one. Its id is the name of the file, unless that is taken."""
    clip_id = path.stem if is_id(path.stem) and path.stem not in taken else new_id()
    found = describe_file(path, file_hash, clip_id, gallery.relative_path(path))
    unread = gallery.sidecar_path(clip_id)
    if unread.exists():
        move(unread, unread.with_suffix(".damaged"))
    return found


def _lies_elsewhere(gallery: Gallery, sidecar: Sidecar) -> bool:
    """Whether a clip outside the data folder lies unchanged where its sidecar says."""
    path = Path(sidecar.file)
    try:
        return path.is_absolute() and path.is_file() and hash_file(path) == sidecar.file_hash
    except (LavieError, OSError):
        return False
