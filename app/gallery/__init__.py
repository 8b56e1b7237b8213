"""The gallery: every finished clip, what it was made with, what people say of it, and how to find it again.

`Gallery` is all that others use. Behind it: `clips` (rows and sidecars), `search` (queries), `lineage`, `trash`,
`missing` (files gone and back), `rebuild` (all from the files), `exchange` (zips), `searches` and `pictures`.
The database answers; the files alone would suffice: each clip carries its recipe, and its sidecar the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.gallery import clips, exchange, lineage, missing, pictures, rebuild, search, searches, trash
from app.gallery.exchange import Exported, Imported
from app.gallery.missing import Checked
from app.gallery.query import SORTS, Query
from app.gallery.rebuild import Rebuilt, put_aside_if_damaged
from app.gallery.store import Store
from app.gallery.values import NewClip, Page, StoredClip, check_notes, check_rating, check_tag
from app.storage.database import Database
from extensions.long_video.metrics import Report

__all__ = [
    "SORTS",
    "Checked",
    "Exported",
    "Gallery",
    "Imported",
    "NewClip",
    "Page",
    "Query",
    "Rebuilt",
    "StoredClip",
    "put_aside_if_damaged",
]


class Gallery:
    """The clips of a data folder. All methods may be called from any thread, by several processes at once.

    Where an id is not known RequestError names it. StorageError and MediaError: the disk did not do what was asked.
    """

    def __init__(self, database: Database, folder: Path):
        self._store = Store(database, Path(folder))

    def add(self, new: NewClip) -> StoredClip:
        """Store a finished clip; part of the caller's transaction, if there is one.

        The same id again is the same clip: what people wrote about it stays, the file's facts are the new ones.
        """
        return clips.add(self._store, new)

    def add_pictures(self, clip_id: str, path: Path) -> None:
        """Make the poster and the preview of the clip at `path`, where they are not there yet."""
        pictures.add_pictures(self._store, clip_id, path)

    def get(self, clip_id: str) -> StoredClip | None:
        """None for an id that is not known."""
        return clips.get(self._store, clip_id)

    def newest(self) -> StoredClip | None:
        """The clip outside the trash that was made last."""
        return clips.newest(self._store)

    def require(self, clip_id: str) -> StoredClip:
        """A clip that must be there."""
        return clips.require(self._store, clip_id)

    def path(self, clip: StoredClip) -> Path:
        """Where its file lies, absolute."""
        return clip.path

    def poster(self, clip_id: str) -> Path:
        """Where its still lies, if it has been made."""
        return self._store.picture(clip_id, "poster")

    def preview(self, clip_id: str) -> Path:
        """Where its moving picture lies, if it has been made."""
        return self._store.picture(clip_id, "preview")

    def report(self, clip_id: str) -> Report | None:
        """What the meters said of a long video; None for another clip."""
        return clips.report_of(self._store, clip_id)

    def page(self, query: Query = Query(), after: str | None = None, limit: int = 24) -> Page:
        """A part of what a query finds. after: `next` of the page before. limit: 1 … 1000."""
        return search.page(self._store, query, after, limit)

    def tag(self, clip_id: str, *tags: str) -> StoredClip:
        """Give it tags; those it has stay."""
        new = [check_tag(tag) for tag in tags]
        return clips.change(self._store, clip_id, lambda clip: {"tags": (*clip.tags, *new)})

    def untag(self, clip_id: str, *tags: str) -> StoredClip:
        """Take tags away; those it does not have do not matter."""
        old = {check_tag(tag) for tag in tags}
        return clips.change(
            self._store, clip_id, lambda clip: {"tags": tuple(tag for tag in clip.tags if tag not in old)}
        )

    def rate(self, clip_id: str, rating: int) -> StoredClip:
        """0 takes the rating away."""
        check_rating(rating)
        return clips.change(self._store, clip_id, lambda clip: {"rating": rating})

    def favourite(self, clip_id: str, favourite: bool = True) -> StoredClip:
        """Make it a favourite, or not."""
        return clips.change(self._store, clip_id, lambda clip: {"favourite": bool(favourite)})

    def note(self, clip_id: str, text: str) -> StoredClip:
        """Replace its note; an empty one is none."""
        check_notes(text)
        return clips.change(self._store, clip_id, lambda clip: {"notes": text})

    def tags(self) -> dict[str, int]:
        """Every tag in use outside the trash with the number of its clips, the most used first."""
        return search.tags(self._store)

    def choices(self, name: str) -> dict[Any, int]:
        """What there is to filter by: each `model`, `stages` or `adapter` with the number of its clips."""
        return search.choices(self._store, name)

    def save_search(self, name: str, query: Query) -> None:
        """Keep a query under a name, in place of one that had it."""
        searches.save_search(self._store, name, query)

    def searches(self) -> dict[str, Query]:
        """The saved ones by name."""
        return searches.searches(self._store)

    def delete_search(self, name: str) -> None:
        """Raises RequestError for a name that is not known."""
        searches.delete_search(self._store, name)

    def parents(self, clip_id: str) -> list[StoredClip]:
        """The clip it was made from, that one's, and so on, as far as they are known."""
        return lineage.parents(self._store, clip_id)

    def children(self, clip_id: str) -> list[StoredClip]:
        """The clips made from it, the oldest first; it may be purged itself."""
        return lineage.children(self._store, clip_id)

    def difference(self, this: str, that: str) -> list[tuple[str, Any, Any]]:
        """What two clips were made with that differs, as (name, this, that)."""
        return lineage.difference(*(clips.require(self._store, clip_id).recipe for clip_id in (this, that)))

    def delete(self, clip_id: str) -> StoredClip:
        """Into the trash. Its file stays where it is."""
        return trash.delete(self._store, clip_id)

    def restore(self, clip_id: str) -> StoredClip:
        """Out of the trash."""
        return trash.restore(self._store, clip_id)

    def trash(self, after: str | None = None, limit: int = 24) -> Page:
        """The clips in it, the newest first."""
        return self.page(Query(trashed=True), after, limit)

    def purge(self, ids: Iterable[str] | None = None) -> list[str]:
        """Forget clips of the trash, all of them where `ids` is None, and remove their files for good; their ids."""
        return trash.purge(self._store, ids)

    def check_files(self) -> Checked:
        """Mark clips whose files are gone, and find again those that came back, under any name among the clips."""
        return missing.check_files(self._store)

    def check_file(self, clip_id: str) -> bool:
        """Whether one clip's file is at its place; the clip is marked as missing, or as back."""
        return missing.check_file(self._store, clip_id)

    def rebuild(self) -> Rebuilt:
        """Take in every clip that the files tell of and the database does not know."""
        return rebuild.rebuild(self._store)

    def export(self, target: Path, what: Query | Iterable[str] = Query(), *, clean: bool = False) -> Exported:
        """Write clips, named by their ids or found by a query, to one zip; a file of that name is replaced.

        clean: with nothing that tells how they were made.
        """
        if isinstance(what, Query):
            chosen = clips.load(self._store, search.keys(self._store, what))
        else:
            chosen = [clips.require(self._store, clip_id) for clip_id in dict.fromkeys(what)]
        return exchange.export_zip(self._store, target, chosen, clean=clean)

    def import_zip(self, path: Path) -> Imported:
        """Take in the clips of such a zip, each once."""
        return exchange.import_zip(self._store, Path(path))
