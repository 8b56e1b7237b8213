"""The gallery of a data folder: its clips as rows of the database, each with its file, sidecar and pictures.

The database answers questions. The files alone suffice to rebuild it: each clip carries its recipe, and its sidecar
everything else. Searches, lineage, trash, repair and zips are functions over a `Gallery` in modules of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

from app.gallery.clip import Clip, age_of, check_notes, check_rating, check_tag, time_of
from app.gallery.files import hash_file, storage_errors
from app.gallery.sidecar import Sidecar, write_sidecar
from app.gallery.words import index_text
from app.media.encode import write_poster, write_preview
from app.recipes.recipe import Recipe
from app.sharing import check_own, visitor
from app.storage.database import Connection, Database, now
from extensions.long_video.metrics import Report
from lavie.errors import RequestError, short

_FIELDS = (
    "id, parent, path, prompt, negative_prompt, notes, tags, seed, model, stages, width, height, frames, fps, "
    "duration, bytes, seconds, frame_hash, file_hash, stack, rating, favourite, trashed, missing"
)
_BATCH = 500  # ids in one query


class Gallery:
    """The clips of a data folder. Safe to use from several threads and processes at once.

        clips/<id>.mp4      the clip           clips/<id>.json     its sidecar, see `app.gallery.sidecar`
        clips/<id>.*        its pictures       trash/<id>/         files being purged, see `app.gallery.trash`

    Raises RequestError for an unknown id, StorageError and MediaError if the disk refuses.
    """

    def __init__(self, database: Database, folder: Path):
        self.database, self.folder = database, Path(folder)

    @property
    def clips(self) -> Path:
        """The folder of clips, sidecars and pictures."""
        return self.folder / "clips"

    @property
    def trash(self) -> Path:
        """The folder of files that are being purged."""
        return self.folder / "trash"

    def sidecar_path(self, clip_id: str) -> Path:
        """Where a clip's sidecar lies, wherever the clip itself lies."""
        return self.clips / f"{clip_id}.json"

    def poster(self, clip_id: str) -> Path:
        """Where a clip's still lies, if it has one."""
        return self.clips / f"{clip_id}.poster.webp"

    def preview(self, clip_id: str) -> Path:
        """Where a clip's moving picture lies, if it has one."""
        return self.clips / f"{clip_id}.preview.webp"

    def relative_path(self, path: Path) -> str:
        """A path as the database stores it: relative with `/` inside the data folder, else absolute."""
        path, root = Path(os.path.abspath(path)), Path(os.path.abspath(self.folder))
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def absolute_path(self, stored: str) -> Path:
        """The inverse of `relative_path`."""
        if Path(stored).is_absolute():
            return Path(stored)
        return Path(os.path.abspath(self.folder)).joinpath(*PurePosixPath(stored).parts)

    def owns(self, path: Path) -> bool:
        """Whether a file may be moved: it is in the folder of clips, by its name and after following links."""
        within = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self.clips))
        return within and path.resolve().is_relative_to(self.clips.resolve())

    def files_of(self, clip_id: str) -> list[Path]:
        """The files named after a clip: the clip, its sidecar, its pictures."""
        with storage_errors(self.clips):
            return sorted(path for path in self.clips.glob(f"{clip_id}.*") if not path.is_dir())

    def videos(self) -> Iterator[Path]:
        """Every mp4 below the folder of clips. Skips hidden names, which are unfinished, and links."""
        with storage_errors(self.clips):
            for folder, names, files in os.walk(self.clips, followlinks=False):
                names[:] = sorted(name for name in names if not name.startswith("."))
                for name in sorted(files):
                    path = Path(folder, name)
                    if path.suffix.lower() == ".mp4" and not name.startswith(".") and not path.is_symlink():
                        yield path

    def get(self, clip_id: str) -> Clip | None:
        """The clip; None for an unknown id."""
        rows = self.database.query(f"SELECT pk FROM clips WHERE id = ? AND {visitor().seen}", [clip_id])
        return self.load([rows[0]["pk"]])[0] if rows else None

    def require(self, clip_id: str) -> Clip:
        """The clip. Raises RequestError for an unknown id."""
        clip = self.get(clip_id)
        if clip is None:
            raise RequestError(f"there is no clip {short(clip_id)}: `gallery list` names those there are")
        return clip

    def newest(self) -> Clip | None:
        """The newest clip outside the trash."""
        rows = self.database.query(
            f"SELECT pk FROM clips WHERE trashed IS NULL AND {visitor().own} ORDER BY pk DESC LIMIT 1"
        )
        return self.load([rows[0]["pk"]])[0] if rows else None

    def load(self, keys: Sequence[int]) -> list[Clip]:
        """Clips by primary key, in the given order, without those that are gone or hidden from the visitor."""
        found: dict[int, Clip] = {}
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            marks = ", ".join("?" * len(batch))
            rows = self.database.query(
                f"SELECT pk, {_FIELDS}, recipe FROM clips JOIN clip_recipes ON clip = pk "
                f"WHERE pk IN ({marks}) AND {visitor().seen}",
                batch,
            )
            weights: dict[int, dict[str, float]] = {}
            for row in self.database.query(f"SELECT * FROM clip_adapters WHERE clip IN ({marks})", batch):
                weights.setdefault(row["clip"], {})[row["adapter"]] = row["weight"]
            found |= {row["pk"]: self._clip(row, weights.get(row["pk"], {})) for row in rows}
        return [found[key] for key in keys if key in found]

    def report(self, clip_id: str) -> Report | None:
        """The quality report of a long video; None for other clips and unknown ids."""
        rows = self.database.query("SELECT report FROM clip_reports JOIN clips ON pk = clip WHERE id = ?", [clip_id])
        return Report.from_json(rows[0]["report"]) if rows else None

    def describe(
        self,
        clip_id: str,
        path: Path,
        recipe: Recipe,
        *,
        frames: int,
        width: int,
        height: int,
        fps: float,
        seconds: float,
        parent: str | None = None,
        adapters: Mapping[str, float] | None = None,
        report: Report | None = None,
    ) -> Sidecar:
        """A finished clip, its file in place, as `put` takes it. Of a stored clip of this id it has what people wrote.

        seconds: of making it. adapters: hash of each adapter's file → its weight.
        """
        if recipe.request.seed is None:
            raise RequestError(f"the recipe of the clip {clip_id} has no seed: give the one it was made with")
        with storage_errors(path):
            size = path.stat().st_size
        sidecar = Sidecar(
            id=clip_id,
            file=self.relative_path(path),
            file_hash=hash_file(path),
            recipe=recipe,
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            bytes=size,
            seconds=seconds,
            frame_hash=recipe.frame_hash or "",
            created=now(),
            parent=parent,
            adapters=dict(adapters or {}),
            report=report,
        )
        known = self.get(clip_id)
        written = ("tags", "rating", "favourite", "notes", "trashed", "created") if known else ()
        return replace(sidecar, **{name: getattr(known, name) for name in written})

    def add_pictures(self, clip_id: str, path: Path) -> None:
        """Make the poster and the preview of the clip at `path`, unless they exist."""
        with storage_errors(self.clips):
            self.clips.mkdir(parents=True, exist_ok=True)
        for target, write in ((self.poster(clip_id), write_poster), (self.preview(clip_id), write_preview)):
            if not target.exists():
                write(path, target)

    def put(self, sidecar: Sidecar, *, missing: str | None = None) -> Clip:
        """Write a clip to its sidecar file and its rows, in the transaction of the caller if there is one."""
        with self.database.write() as connection:
            known = connection.execute("SELECT pk FROM clips WHERE id = ?", [sidecar.id]).fetchone()
            (pk,) = known or (_free_age(connection, age_of(sidecar.created)),)
            sidecar = replace(sidecar, created=time_of(pk))
            # The file comes first: if the transaction fails, the file says no more than was intended.
            write_sidecar(self.sidecar_path(sidecar.id), sidecar)
            insert(connection, [row_of(sidecar, pk, missing)], replace=known is not None)
            return self.require(sidecar.id)

    def sidecar_of(self, clip: Clip) -> Sidecar:
        """A clip in the form of its sidecar."""
        shared = Sidecar.__dataclass_fields__.keys() & vars(clip).keys()
        values = {name: getattr(clip, name) for name in shared}
        report = self.report(clip.id)
        return Sidecar(file=self.relative_path(clip.path), recipe=clip.recipe, report=report, **values)

    def change(self, clip_id: str, changes: Callable[[Clip], dict[str, Any]]) -> Clip:
        """Change fields of a clip's sidecar, in the row and in the file.

        changes: gives the new fields for the clip as it is inside the transaction.
        """
        with self.database.write():
            clip = self.require(clip_id)
            check_own(self.database, clip_id)
            return self.put(replace(self.sidecar_of(clip), **changes(clip)), missing=clip.missing)

    def tag(self, clip_id: str, *tags: str) -> Clip:
        """Add tags."""
        new = [check_tag(tag) for tag in tags]
        return self.change(clip_id, lambda clip: {"tags": (*clip.tags, *new)})

    def untag(self, clip_id: str, *tags: str) -> Clip:
        """Remove tags."""
        old = {check_tag(tag) for tag in tags}
        return self.change(clip_id, lambda clip: {"tags": tuple(tag for tag in clip.tags if tag not in old)})

    def rate(self, clip_id: str, rating: int) -> Clip:
        """Rate a clip. 0 removes the rating."""
        check_rating(rating)
        return self.change(clip_id, lambda clip: {"rating": rating})

    def favourite(self, clip_id: str, favourite: bool = True) -> Clip:
        """Make a clip a favourite, or not."""
        return self.change(clip_id, lambda clip: {"favourite": bool(favourite)})

    def note(self, clip_id: str, text: str) -> Clip:
        """Replace a clip's note."""
        check_notes(text)
        return self.change(clip_id, lambda clip: {"notes": text})

    def _clip(self, row: dict[str, Any], adapters: dict[str, float]) -> Clip:
        values = {
            **row,
            "path": self.absolute_path(row["path"]),
            "tags": tuple(filter(None, row["tags"].split("\n"))),
            "favourite": bool(row["favourite"]),
            "created": time_of(row["pk"]),
            "recipe_json": row["recipe"],
            "adapters": adapters,
        }
        del values["pk"], values["recipe"]
        return Clip(**values)


def row_of(sidecar: Sidecar, pk: int, missing: str | None) -> dict[str, Any]:
    """The columns of `clips`, and `recipe`, `adapters` and `report`, which have tables of their own."""
    request, recipe = sidecar.recipe.request, sidecar.recipe
    prompts = [request.prompt, *(part.prompt for part in recipe.plan.segments)] if recipe.plan else [request.prompt]
    if recipe.reel:
        prompts += [transition.prompt for transition in recipe.reel.transitions]
        prompts += [shot.prompt for shot in recipe.reel.shots]
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
    """Put rows of `row_of` into all tables of clips. replace: the rows exist under the same pk."""
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


def stack_of(recipe: Recipe, adapters: Mapping[str, float]) -> int:
    """A number that recipes share which differ in the seed alone: same request, model, weights and adapters."""
    request = {**asdict(recipe.request), "seed": None}
    made_of: list[Any] = [request, recipe.model, recipe.provenance.get("weights"), dict(adapters)]
    if recipe.plan is not None:  # with the segments' seeds: variants of a segment are no variants of the video
        made_of += [asdict(replace(recipe.plan, seed=None)), recipe.start and recipe.start.to_dict()]
    if recipe.reel is not None:
        made_of += [asdict(replace(recipe.reel, seed=None))]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11  # 53 bits, which JSON and JavaScript keep exactly


def _free_age(connection: Connection, age: int) -> int:
    """The first microsecond from `age` on without a clip: a clip's age is its primary key."""
    taken = connection.execute("SELECT 1 FROM clips WHERE pk = ?", [age]).fetchone()
    if taken is None:
        return age
    (free,) = connection.execute(
        "SELECT pk + 1 FROM clips AS one WHERE pk >= ? AND NOT EXISTS "
        "(SELECT 1 FROM clips WHERE pk = one.pk + 1) ORDER BY pk LIMIT 1",
        [age],
    ).fetchone()
    return int(free)
