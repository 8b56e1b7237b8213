"""The trash: hides clips, restores them, removes them for good.

A clip in the trash keeps its row and its files. Only purging moves files, in three steps that a kill may interrupt:
move the files to `trash/<id>/`, delete the row, remove `trash/<id>/`. `finish_purges` then restores the clip if its row
still exists, and else removes the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from app.gallery.clip import Clip, age_of, is_id
from app.gallery.files import move, storage_errors
from app.gallery.gallery import Gallery
from app.sharing import ANONYMOUS, as_visitor, check_own, visitor
from app.storage.database import now
from lavie.errors import RequestError, StorageError

_VIDEO = "_clip"  # name in the trash of a file not named after its clip; not a valid id


def move_to_trash(gallery: Gallery, clip_id: str) -> Clip:
    """Move a clip to the trash. Its files stay where they are."""
    return gallery.change(clip_id, lambda clip: {"trashed": clip.trashed or now()})


def restore(gallery: Gallery, clip_id: str) -> Clip:
    """Take a clip out of the trash, also after an interrupted purge."""
    with gallery.database.write():
        clip = gallery.require(clip_id)
        check_own(gallery.database, clip_id)
        _move_back(gallery, clip)
    return gallery.change(clip_id, lambda clip: {"trashed": None})


def purge(gallery: Gallery, ids: Iterable[str] | None = None) -> list[str]:
    """Forget clips of the trash, all if `ids` is None, and remove their files; the ids of the purged clips.

    Files outside the folder of clips stay. Raises RequestError before any change for a clip that is not in the trash.
    """
    with as_visitor(ANONYMOUS):  # another visitor's clip must not look like one without a row
        finish_purges(gallery)
    if ids is None:
        rows = gallery.database.query(f"SELECT id FROM clips WHERE trashed IS NOT NULL AND {visitor().own} ORDER BY pk")
        ids = [row["id"] for row in rows]
    ids = list(dict.fromkeys(ids))
    for clip_id in ids:
        if gallery.require(clip_id).trashed is None:
            raise RequestError(f"the clip {clip_id} is not in the trash: delete it first")
        check_own(gallery.database, clip_id)
    return [clip_id for clip_id in ids if _purge(gallery, clip_id)]


def finish_purges(gallery: Gallery) -> None:
    """Finish or undo interrupted purges, whose files lie in `trash/`."""
    with storage_errors(gallery.trash):
        left = sorted(path for path in gallery.trash.iterdir() if path.is_dir()) if gallery.trash.is_dir() else []
    for folder in left:
        with gallery.database.write():  # no purge runs elsewhere meanwhile
            clip = gallery.get(folder.name)
            if clip is not None:
                _move_back(gallery, clip)
            elif is_id(folder.name):
                _remove(folder)


def _purge(gallery: Gallery, clip_id: str) -> bool:
    """False if the clip was restored or purged by another process meanwhile."""
    target = gallery.trash / clip_id
    with gallery.database.write() as connection:
        clip = gallery.get(clip_id)
        if clip is None or clip.trashed is None:
            return False
        try:
            for path in gallery.files_of(clip_id):
                if not _belongs_to_another(gallery, clip, path):
                    move(path, target / path.name)
            if gallery.owns(clip.path) and clip.path.is_file() and not _belongs_to_another(gallery, clip, clip.path):
                move(clip.path, target / f"{_VIDEO}{clip.path.suffix}")
        except StorageError:
            _move_back(gallery, clip)
            raise
        connection.execute("DELETE FROM clips WHERE pk = ?", [age_of(clip.created)])
    _remove(target)
    return True


def _belongs_to_another(gallery: Gallery, clip: Clip, path: Path) -> bool:
    """Whether the file is that of another clip: people rename files to such names too."""
    sql = "SELECT 1 FROM clips WHERE path = ? AND id != ?"
    return bool(gallery.database.query(sql, [gallery.relative_path(path), clip.id]))


def _remove(folder: Path) -> None:
    with storage_errors(folder):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)


def _move_back(gallery: Gallery, clip: Clip) -> None:
    """Move files back to where they were, unless there are files."""
    folder = gallery.trash / clip.id
    with storage_errors(folder):
        left = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in left:
        target = clip.path if path.stem == _VIDEO else gallery.clips / path.name
        if not target.exists():
            move(path, target)
    _remove(folder)
