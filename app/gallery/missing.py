"""Clips whose files went away, and came back under any name.

A file that is gone is marked and never forgotten: disks are unplugged, folders are tidied by hand.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.gallery.clips import get, put, require, sidecar_of
from app.gallery.store import Store, hash_file, storage_errors
from app.media import read_recipe
from app.storage.database import now
from lavie.errors import MediaError

_LOOKED_AT = "id, path, bytes, file_hash, missing"


@dataclass(frozen=True)
class Checked:
    """missing: ids of clips whose files are gone, since this or an earlier look. found: ids whose files are back."""

    missing: tuple[str, ...]
    found: tuple[str, ...]


def check_files(store: Store) -> Checked:
    """Mark clips whose files are gone, and find those again by their content, anywhere among the clips."""
    rows = store.database.query(f"SELECT {_LOOKED_AT} FROM clips ORDER BY pk")
    gone = [row for row in rows if not _there(store, row)]
    lost = {row["id"] for row in gone}
    found = {row["id"]: row["path"] for row in rows if row["missing"] and row["id"] not in lost}
    found |= _look(store, gone, used={row["path"] for row in rows if row["id"] not in lost})
    missing = [row["id"] for row in gone if row["id"] not in found]
    _note(store, missing, found)
    return Checked(tuple(missing), tuple(found))


def check_file(store: Store, clip_id: str) -> bool:
    """Whether the file of one clip is at its place, unchanged or made again; the row then says so. Raises RequestError.

    No other clip and no other file is looked at.
    """
    require(store, clip_id)
    (row,) = store.database.query(f"SELECT {_LOOKED_AT} FROM clips WHERE id = ?", [clip_id])
    there = _there(store, row)
    _note(store, [] if there else [clip_id], {clip_id: row["path"]} if there else {})
    return there


def _note(store: Store, missing: Iterable[str], found: Mapping[str, str]) -> None:
    """Put into the database which clips are gone, and where others are: id → path as it is stored."""
    with store.database.write() as connection:
        for clip_id in missing:
            connection.execute("UPDATE clips SET missing = coalesce(missing, ?) WHERE id = ?", [now(), clip_id])
        for clip_id, path in found.items():
            if (clip := get(store, clip_id)) is not None:
                put(store, replace(sidecar_of(store, clip), file=path, **_facts(store.path(path))))


def _there(store: Store, row: dict[str, Any]) -> bool:
    """Its file at its place: the very file, or one that was made again to the same frames.

    While nothing speaks against it, the size is proof enough.
    """
    path = store.path(row["path"])
    if not os.path.isfile(path):
        return False
    if not row["missing"] and os.path.getsize(path) == row["bytes"]:
        return True
    return hash_file(path) == row["file_hash"] or _made_again(store, row, path)


def _made_again(store: Store, row: dict[str, Any], path: Path) -> bool:
    """Whether a file carries the clip's own recipe, which names the hash of the frames: encoders change, frames not."""
    clip = get(store, row["id"])
    try:
        return clip is not None and read_recipe(path) == clip.recipe_json
    except MediaError:
        return False


def _facts(path: Path) -> dict[str, Any]:
    return {"file_hash": hash_file(path), "bytes": path.stat().st_size}


def _look(store: Store, gone: list[dict[str, Any]], used: set[str]) -> dict[str, str]:
    """Where the files of clips are now, by id. Only files that no clip uses are read, and of those as few as can be."""
    by_size = defaultdict(list)
    for row in gone:
        by_size[row["bytes"]].append(row)
    found: dict[str, str] = {}
    for path in store.videos() if gone else ():
        with storage_errors(path):
            rows = [row for row in by_size[path.stat().st_size] if row["id"] not in found]
        if not rows or store.stored(path) in used:
            continue
        file_hash = hash_file(path)
        same = next((row["id"] for row in rows if row["file_hash"] == file_hash), None)
        if same is not None:
            found[same] = store.stored(path)
    return found
