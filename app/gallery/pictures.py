"""The still and the moving picture of a clip, which lists show instead of the clip itself. They can be made again."""

from __future__ import annotations

from pathlib import Path

from app.gallery.store import Store, storage_errors
from app.media import write_poster, write_preview

_WRITERS = {"poster": write_poster, "preview": write_preview}


def add_pictures(store: Store, clip_id: str, path: Path) -> None:
    """Make those that are not there, from the clip at `path`. Raises MediaError, StorageError."""
    with storage_errors(store.clips):
        store.clips.mkdir(parents=True, exist_ok=True)
    for kind, write in _WRITERS.items():
        target = store.picture(clip_id, kind)
        if not target.exists():
            write(path, target)
