"""The trash: out of sight, back again, and gone for good.

A clip in the trash keeps its row and its files where they are. Only purging moves files, in three steps, each of which
can be the last one before a kill: the files go to `trash/<id>/`, the row goes, `trash/<id>/` goes. Where the row is
still there afterwards the clip is taken back whole; where it is not, what is left is removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from app.gallery.clips import change, get, require
from app.gallery.store import Store, move, storage_errors
from app.gallery.values import StoredClip, age_of, is_id
from app.sharing.visitor import ANONYMOUS, as_visitor, check_own, visitor
from app.storage.database import now
from lavie.errors import RequestError, StorageError

_VIDEO = "_clip"  # the name in the trash of a file that does not bear its clip's id; itself no id


def delete(store: Store, clip_id: str) -> StoredClip:
    """Into the trash. One that is there already stays as it is."""
    return change(store, clip_id, lambda clip: {"trashed": clip.trashed or now()})


def restore(store: Store, clip_id: str) -> StoredClip:
    """Out of the trash, also when a purge of it was cut short."""
    with store.database.write():
        clip = require(store, clip_id)
        check_own(store.database, clip_id)
        _take_back(store, clip)
    return change(store, clip_id, lambda clip: {"trashed": None})


def purge(store: Store, ids: Iterable[str] | None = None) -> list[str]:
    """Forget clips of the trash, all where `ids` is None, and remove their files; the ids.

    Files outside the folder of clips are left alone. Raises RequestError, before anything is done, for a clip that is
    not in the trash.
    """
    with as_visitor(ANONYMOUS):  # what is another's is not what has no row
        sweep(store)
    if ids is None:
        rows = store.database.query(f"SELECT id FROM clips WHERE trashed IS NOT NULL AND {visitor().own} ORDER BY pk")
        ids = [row["id"] for row in rows]
    ids = list(dict.fromkeys(ids))
    for clip_id in ids:
        if require(store, clip_id).trashed is None:
            raise RequestError(f"the clip {clip_id} is not in the trash: delete it first")
        check_own(store.database, clip_id)
    return [clip_id for clip_id in ids if _purge(store, clip_id)]


def sweep(store: Store) -> None:
    """Finish or undo what purges that were cut short have left in `trash/`."""
    with storage_errors(store.trash):
        left = sorted(path for path in store.trash.iterdir() if path.is_dir()) if store.trash.is_dir() else []
    for folder in left:
        with store.database.write():  # no purge is under way elsewhere while we look
            clip = get(store, folder.name)
            if clip is not None:
                _take_back(store, clip)
            elif is_id(folder.name):
                _remove(folder)


def _purge(store: Store, clip_id: str) -> bool:
    """False for a clip that was restored or purged by someone else meanwhile."""
    target = store.trash / clip_id
    with store.database.write() as connection:
        clip = get(store, clip_id)
        if clip is None or clip.trashed is None:
            return False
        try:
            for path in store.beside(clip_id):
                if not _of_another(store, clip, path):
                    move(path, target / path.name)
            if store.owns(clip.path) and clip.path.is_file() and not _of_another(store, clip, clip.path):
                move(clip.path, target / f"{_VIDEO}{clip.path.suffix}")
        except StorageError:
            _take_back(store, clip)
            raise
        connection.execute("DELETE FROM clips WHERE pk = ?", [age_of(clip.created)])
    _remove(target)
    return True


def _of_another(store: Store, clip: StoredClip, path: Path) -> bool:
    """Files can be renamed behind our back, to the name that another clip's file would have."""
    sql = "SELECT 1 FROM clips WHERE path = ? AND id != ?"
    return bool(store.database.query(sql, [store.stored(path), clip.id]))


def _remove(folder: Path) -> None:
    with storage_errors(folder):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)


def _take_back(store: Store, clip: StoredClip) -> None:
    """Files to where they were, those that are not there anyway."""
    folder = store.trash / clip.id
    with storage_errors(folder):
        left = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in left:
        target = clip.path if path.stem == _VIDEO else store.clips / path.name
        if not target.exists():
            move(path, target)
    _remove(folder)
