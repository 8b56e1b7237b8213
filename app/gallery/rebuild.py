"""The whole gallery again from the files alone.

Whatever lies among the clips may have been put there by a stranger: what cannot be understood is left where it is, and
said. Knows the order of trust: the database, then a clip's sidecar, then the recipe inside its file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from app.clip import new_id
from app.gallery.clips import put
from app.gallery.missing import check_files
from app.gallery.sidecar import Sidecar, read_sidecar
from app.gallery.store import Store, hash_file, move, storage_errors
from app.gallery.values import age_of, created_at, is_id
from app.media import probe, read_recipe
from app.recipes.recipe import Recipe
from app.storage.database import NAME, DamagedDatabaseError, Database, now
from app.storage.folder_lock import Ownership
from lavie.errors import LavieError, MediaError, RequestError


@dataclass(frozen=True)
class Rebuilt:
    """found: ids that the gallery did not have. kept: how many it had. skipped: (file, why it is in no gallery)."""

    found: tuple[str, ...]
    kept: int
    skipped: tuple[tuple[Path, str], ...]


def rebuild(store: Store) -> Rebuilt:
    """Take in every clip that the folder holds and the database does not. What is known already stays as it is.

    A clip of which only the sidecar is left comes in as missing.
    """
    check_files(store)
    rows = store.database.query("SELECT id, path, file_hash, missing FROM clips")
    known, hashes = ({row[name] for row in rows} for name in ("id", "file_hash"))
    paths = {row["path"] for row in rows if not row["missing"]}
    skipped: list[tuple[Path, str]] = []
    sidecars = _read_sidecars(store, known, skipped)
    by_hash = {sidecar.file_hash: sidecar for sidecar in sidecars.values()}
    found: list[str] = []
    for path in store.videos():
        if store.stored(path) in paths:
            continue
        try:
            file_hash = hash_file(path)
            if file_hash in hashes:
                raise MediaError("it is a copy of a clip that the gallery has")
            sidecar = by_hash.get(file_hash) or _from_file(store, path, file_hash, known | sidecars.keys())
            put(store, replace(sidecar, file=store.stored(path)))
        except LavieError as error:
            skipped.append((path, str(error)))
            continue
        found.append(sidecar.id)
        hashes.add(file_hash)
        sidecars.pop(sidecar.id, None)
    for sidecar in sidecars.values():
        if sidecar.file_hash not in hashes:
            put(store, sidecar, missing=None if _lies_elsewhere(store, sidecar) else now())
            found.append(sidecar.id)
    return Rebuilt(tuple(found), len(known), tuple(skipped))


def put_aside_if_damaged(folder: Path) -> Path | None:
    """Give a damaged database another name, so that a new one can be made; the name, or None for one that is whole.

    Raises StorageError where another process works on the folder, whose database would go from under it, and for one
    that cannot be opened for another reason, such as being of a newer version.
    """
    if not _is_damaged(folder):
        return None
    with Ownership(folder).held("close that studio, or wait for that command, and rebuild then"):
        if not _is_damaged(folder):  # another process has rebuilt it meanwhile
            return None
        aside = folder / f"studio.damaged-{new_id()}.db"
        for suffix in ("", "-wal", "-shm"):  # what SQLite keeps beside it would be taken for the new one's
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
    """A clip by nothing but its file. Raises LavieError for one that is no video or carries no recipe of ours."""
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
        seconds=0.0,  # how long the making took, no file says
        frame_hash=recipe.frame_hash or "",
        created=created_at(age),
    )


def _read_sidecars(store: Store, known: set[str], skipped: list[tuple[Path, str]]) -> dict[str, Sidecar]:
    """Those of clips that the database does not know, by id."""
    found: dict[str, Sidecar] = {}
    with storage_errors(store.clips):
        paths = sorted(path for path in store.clips.glob("[!.]*.json") if path.stem not in known)
    for path in paths:
        try:
            sidecar = read_sidecar(path)
            if sidecar is None or sidecar.id != path.stem:
                raise RequestError("it is a link, a folder, or the sidecar of a clip of another name")
            found[sidecar.id] = sidecar
        except LavieError as error:
            skipped.append((path, str(error)))
    return found


def _from_file(store: Store, path: Path, file_hash: str, taken: set[str]) -> Sidecar:
    """A clip without a sidecar that could be read. It is called what its file is called, where no other clip is."""
    clip_id = path.stem if is_id(path.stem) and path.stem not in taken else new_id()
    found = describe_file(path, file_hash, clip_id, store.stored(path))
    unread = store.sidecar(clip_id)
    if unread.exists():
        move(unread, unread.with_suffix(".damaged"))
    return found


def _lies_elsewhere(store: Store, sidecar: Sidecar) -> bool:
    """Whether a clip outside the data folder is where its sidecar says, unchanged."""
    path = Path(sidecar.file)
    try:
        return path.is_absolute() and path.is_file() and hash_file(path) == sidecar.file_hash
    except (LavieError, OSError):
        return False
