"""Rows of clips: put in, read, and changed together with their sidecars.

Knows the tables and which file says the same. Does not know how clips are looked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from app.gallery.sidecar import Sidecar, write_sidecar
from app.gallery.store import Store, hash_file, storage_errors
from app.gallery.values import NewClip, StoredClip, age_of, created_at
from app.gallery.words import index_text
from app.recipes.recipe import Recipe
from app.sharing.visitor import check_own, visitor
from app.storage.database import Connection, now
from extensions.long_video.metrics import Report
from lavie.errors import RequestError, short

_FIELDS = (
    "id, parent, path, prompt, negative_prompt, notes, tags, seed, model, stages, width, height, frames, fps, "
    "duration, bytes, seconds, frame_hash, file_hash, stack, rating, favourite, trashed, missing"
)
_MANY = 500  # ids in one question


def add(store: Store, new: NewClip) -> StoredClip:
    """Store a finished clip. One of the same id keeps what people wrote about it and gets the new file's facts."""
    with storage_errors(new.path):
        size = new.path.stat().st_size
    sidecar = Sidecar(
        id=new.id,
        file=store.stored(new.path),
        file_hash=hash_file(new.path),
        recipe=new.recipe,
        width=new.width,
        height=new.height,
        frames=new.frames,
        fps=new.fps,
        bytes=size,
        seconds=new.seconds,
        frame_hash=new.frame_hash,
        created=now(),
        parent=new.parent,
        adapters=dict(new.adapters),
        report=new.report,
    )
    with store.database.write():
        known = get(store, new.id)
        if known is not None:
            written = {name: getattr(known, name) for name in ("tags", "rating", "favourite", "notes", "trashed")}
            sidecar = replace(sidecar, created=known.created, **written)
        return put(store, sidecar)


def put(store: Store, sidecar: Sidecar, *, missing: str | None = None) -> StoredClip:
    """Make the row, and the file if it differs, say what `sidecar` says."""
    with store.database.write() as connection:
        known = connection.execute("SELECT pk FROM clips WHERE id = ?", [sidecar.id]).fetchone()
        (pk,) = known or (_free_age(connection, age_of(sidecar.created)),)
        sidecar = replace(sidecar, created=created_at(pk))
        # The file before the row is certain: should the rest not happen, a file says no more than was meant.
        write_sidecar(store.sidecar(sidecar.id), sidecar)
        insert(connection, [row_of(sidecar, pk, missing)], replace=known is not None)
        return require(store, sidecar.id)


def row_of(sidecar: Sidecar, pk: int, missing: str | None) -> dict[str, Any]:
    """The columns of `clips`, and `recipe`, `adapters` and `report`, which have tables of their own."""
    request, recipe = sidecar.recipe.request, sidecar.recipe
    parts = recipe.plan.segments if recipe.plan else ()
    parts = (*recipe.reel.transitions, *recipe.reel.shots) if recipe.reel else parts
    prompts = [request.prompt, *(part.prompt for part in parts)]
    return {
        "pk": pk,
        "id": sidecar.id,
        "parent": sidecar.parent,
        "path": sidecar.file,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "notes": sidecar.notes,
        "tags": "\n".join(sidecar.tags),
        "words": index_text(*dict.fromkeys(prompts), sidecar.notes, *sidecar.tags),
        "seed": request.seed,
        "model": recipe.model,
        "stages": "+".join(request.stages),
        "width": sidecar.width,
        "height": sidecar.height,
        "frames": sidecar.frames,
        "fps": sidecar.fps,
        "duration": sidecar.frames / sidecar.fps,
        "bytes": sidecar.bytes,
        "seconds": sidecar.seconds,
        "frame_hash": sidecar.frame_hash,
        "file_hash": sidecar.file_hash,
        "stack": stack_of(recipe, sidecar.adapters),
        "rating": sidecar.rating,
        "favourite": int(sidecar.favourite),
        "trashed": sidecar.trashed,
        "missing": missing,
        "recipe": recipe.to_json(),
        "adapters": sidecar.adapters,
        "report": sidecar.report,
    }


def insert(connection: Connection, rows: Iterable[dict[str, Any]], *, replace: bool = False) -> None:
    """Rows as `row_of` makes them, into all tables of clips. replace: they are there already, under the same pk."""
    for row in rows:
        row = dict(row)
        recipe, adapters, report = row.pop("recipe"), row.pop("adapters"), row.pop("report")
        pk = row["pk"]
        if replace:
            assignments = ", ".join(f"{name} = :{name}" for name in row)
            connection.execute(f"UPDATE clips SET {assignments} WHERE pk = :pk", row)
            for table in ("clip_recipes", "clip_tags", "clip_adapters", "clip_reports"):
                connection.execute(f"DELETE FROM {table} WHERE clip = ?", [pk])
        else:
            connection.execute(f"INSERT INTO clips ({', '.join(row)}) VALUES ({', '.join(f':{n}' for n in row)})", row)
        connection.execute("INSERT INTO clip_recipes VALUES (?, ?)", [pk, recipe])
        for tag in filter(None, row["tags"].split("\n")):
            connection.execute("INSERT INTO clip_tags VALUES (?, ?)", [pk, tag])
        for adapter, weight in adapters.items():
            connection.execute("INSERT INTO clip_adapters VALUES (?, ?, ?)", [pk, adapter, weight])
        if report is not None:
            connection.execute("INSERT INTO clip_reports VALUES (?, ?)", [pk, report.to_json()])


def change(store: Store, clip_id: str, changes: Callable[[StoredClip], dict[str, Any]]) -> StoredClip:
    """Change what people say of a clip, in the row and in the file beside it.

    changes: gives fields of `Sidecar` for the clip as it is when its turn to be changed has come.
    """
    with store.database.write():
        clip = require(store, clip_id)
        check_own(store.database, clip_id)
        return put(store, replace(sidecar_of(store, clip), **changes(clip)), missing=clip.missing)


def sidecar_of(store: Store, clip: StoredClip) -> Sidecar:
    """What is known of a clip, in the form of its file."""
    shared = Sidecar.__dataclass_fields__.keys() & vars(clip).keys()
    values = {name: getattr(clip, name) for name in shared}
    report = report_of(store, clip.id)
    return Sidecar(file=store.stored(clip.path), recipe=clip.recipe, report=report, **values)


def report_of(store: Store, clip_id: str) -> Report | None:
    """What the meters said of a long video; None for another clip, and for an id that is not known."""
    rows = store.database.query("SELECT report FROM clip_reports JOIN clips ON pk = clip WHERE id = ?", [clip_id])
    return Report.from_json(rows[0]["report"]) if rows else None


def newest(store: Store) -> StoredClip | None:
    """The clip outside the trash that was made last; None where there is none."""
    rows = store.database.query(
        f"SELECT pk FROM clips WHERE trashed IS NULL AND {visitor().own} ORDER BY pk DESC LIMIT 1"
    )
    return load(store, [rows[0]["pk"]])[0] if rows else None


def get(store: Store, clip_id: str) -> StoredClip | None:
    """None for an id that is not known."""
    found = store.database.query(f"SELECT pk FROM clips WHERE id = ? AND {visitor().seen}", [clip_id])
    return load(store, [found[0]["pk"]])[0] if found else None


def require(store: Store, clip_id: str) -> StoredClip:
    """Raises RequestError for an id that is not known."""
    clip = get(store, clip_id)
    if clip is None:
        raise RequestError(f"there is no clip {short(clip_id)}: `gallery list` names those there are")
    return clip


def load(store: Store, keys: list[int]) -> list[StoredClip]:
    """Clips by their pk, in the order given. Those gone meanwhile, and those that are nothing to who asks, are left
    out."""
    found: dict[int, StoredClip] = {}
    for start in range(0, len(keys), _MANY):
        some = keys[start : start + _MANY]
        marks = ", ".join("?" * len(some))
        rows = store.database.query(
            f"SELECT pk, {_FIELDS}, recipe FROM clips JOIN clip_recipes ON clip = pk "
            f"WHERE pk IN ({marks}) AND {visitor().seen}",
            some,
        )
        weights: dict[int, dict[str, float]] = {}
        for row in store.database.query(f"SELECT * FROM clip_adapters WHERE clip IN ({marks})", some):
            weights.setdefault(row["clip"], {})[row["adapter"]] = row["weight"]
        found |= {row["pk"]: _clip(store, row, weights.get(row["pk"], {})) for row in rows}
    return [found[key] for key in keys if key in found]


def stack_of(recipe: Recipe, adapters: Mapping[str, float]) -> int:
    """The same number for recipes that differ in the seed alone: same request, model, weights and adapters."""
    request = {**asdict(recipe.request), "seed": None}
    made_of = [request, recipe.model, recipe.provenance.get("weights"), dict(adapters)]
    if recipe.plan is not None:  # with the seeds of its segments: takes of one segment are not takes of the video
        made_of += [asdict(replace(recipe.plan, seed=None)), recipe.start and recipe.start.to_dict()]
    if recipe.reel is not None:
        made_of += [asdict(replace(recipe.reel, seed=None))]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11  # 53 bits, which JSON and JavaScript keep exactly


def _clip(store: Store, row: dict[str, Any], adapters: dict[str, float]) -> StoredClip:
    values = {
        **row,
        "path": store.path(row["path"]),
        "tags": tuple(filter(None, row["tags"].split("\n"))),
        "favourite": bool(row["favourite"]),
        "created": created_at(row["pk"]),
        "recipe_json": row["recipe"],
        "adapters": adapters,
    }
    del values["pk"], values["recipe"]
    return StoredClip(**values)


def _free_age(connection: Connection, age: int) -> int:
    """The first microsecond from `age` on that no other clip has: a clip's age is its number."""
    taken = connection.execute("SELECT 1 FROM clips WHERE pk = ?", [age]).fetchone()
    if taken is None:
        return age
    (free,) = connection.execute(
        "SELECT pk + 1 FROM clips AS one WHERE pk >= ? AND NOT EXISTS "
        "(SELECT 1 FROM clips WHERE pk = one.pk + 1) ORDER BY pk LIMIT 1",
        [age],
    ).fetchone()
    return free
