"""The library of adapters: imported files, their cards, and the names by which prompts call them.

data/adapters/<sha256>.safetensors   and <sha256>.webp if the file came with a picture
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.media.files import temporary
from app.media.reading import PICTURE_FORMATS
from app.models.loaded import Model, import_networks
from app.recipes.recipe import Job
from app.storage.database import Database, now
from extensions.lora.adapter import Adapter, AdapterCard, safe_name
from extensions.lora.tags import TagWeights, find_adapters, take_tags
from lavie.errors import AdapterError, LavieError, MediaError, RequestError, short
from lavie.files import publish

if typing.TYPE_CHECKING:
    from extensions.lora.files.read import AdapterDeltas

FOLDER = "adapters"
_SIDE = 512  # pixels of a preview's longer side
_LEAST = 6  # digits of a hash that name an adapter


@dataclass(frozen=True)
class AdapterRow:
    """An adapter of the library.

    Attributes:
        name: unique name for prompts.
        path: of its file, which may be gone.
        preview: of its picture, if it has one.
        created: time of the import, UTC, ISO 8601.
        set_weight, set_text_weight: default weights that a person has set.
    """

    sha256: str
    name: str
    card: AdapterCard
    path: Path
    preview: Path | None
    created: str
    set_weight: float | None = None
    set_text_weight: float | None = None

    @property
    def weight(self) -> float:
        """The default weight: the set one, else the one that its maker recommends, else 1."""
        known = (self.set_weight, self.card.preferred_weight)
        return next((weight for weight in known if weight is not None), 1.0)

    def adapter(self, weight: float | None = None, text_weight: float | None = None) -> Adapter:
        """The adapter at these weights [default: the default weights]."""
        if weight is None and text_weight is None:
            text_weight = self.set_text_weight
        return Adapter(self.sha256, self.name, self.weight if weight is None else weight, text_weight)


class Adapters:
    """The adapters of a data folder. Thread-safe. Raises RequestError for an unknown adapter."""

    def __init__(self, database: Database, data: Path):
        self._database, self.folder = database, data / FOLDER

    def add(self, path: Path | str, bundle: Path | str, name: str | None = None) -> AdapterRow:
        """Import a file, unless the library has it. Imports torch.

        bundle: the model that it must fit. name: [that of the file]; gets a number if another adapter has it. Raises
        AdapterError for an unusable file, BundleError, StorageError.
        """
        import_networks()
        from extensions.lora.files.inspection import keep
        from extensions.lora.files.read import targets_in
        from lavie.bundle import Bundle

        card, kept = keep(Path(path).expanduser(), self.folder, targets_in(Bundle(bundle)))
        picture = _save_picture(card.preview, kept.with_suffix(".webp"))
        card = replace(card, preview=picture)
        with self._database.write() as connection:
            if (known := self.get(card.sha256)) is not None:
                return known
            named = self._free_name(safe_name(name or card.name) or "adapter")
            values = {"hash": card.sha256, "name": named, "path": f"{FOLDER}/{kept.name}", "about": card.to_json()}
            connection.table("adapters").insert({**values, "created": now()})
        return self.require(card.sha256)

    def all(self) -> list[AdapterRow]:
        """The adapters, the newest first, without rows that this version cannot read."""
        rows = self._database.query("SELECT * FROM adapters ORDER BY created DESC, name")
        return [found for row in rows if (found := self._row(row)) is not None]

    def get(self, sha256: str) -> AdapterRow | None:
        """The adapter of this hash."""
        rows = self._database.query("SELECT * FROM adapters WHERE hash = ?", [sha256])
        return self._row(rows[0]) if rows else None

    def find(self, text: str) -> AdapterRow:
        """The adapter of this name, hash or beginning of a hash."""
        rows = self.all()
        given = text.strip()
        hashed = [row for row in rows if len(given) >= _LEAST and row.sha256.startswith(given.lower())]
        exact = [row for row in rows if row.name == given] or hashed
        if len(exact) == 1:
            return exact[0]
        (adapter,) = find_adapters([TagWeights(given)], self.names())
        return self.require(adapter.sha256)

    def names(self) -> dict[str, str]:
        """Name → sha256."""
        return {row["name"]: row["hash"] for row in self._database.query("SELECT name, hash FROM adapters")}

    def rename(self, sha256: str, name: str) -> AdapterRow:
        """Rename an adapter for prompts. Clips refer to it by hash."""
        wanted = safe_name(name)
        if not wanted or wanted != name.strip():
            raise RequestError(f"the name is {short(name)}: use letters, digits, spaces, dots, dashes or underscores")
        with self._database.write() as connection:
            self.require(sha256)
            if self.names().get(wanted, sha256) != sha256:
                raise RequestError(f"another adapter is called {wanted!r}: choose another name")
            connection.execute("UPDATE adapters SET name = ? WHERE hash = ?", [wanted, sha256])
        return self.require(sha256)

    def weigh(self, sha256: str, weight: float, text_weight: float | None) -> None:
        """Set the default weights, −2 … 2. text_weight: None for the same as `weight`."""
        row = self.require(sha256)
        Adapter(row.sha256, row.name, weight, text_weight)  # checks the weights
        values = [weight, text_weight, sha256]
        with self._database.write() as connection:
            connection.execute("UPDATE adapters SET weight = ?, text_weight = ? WHERE hash = ?", values)

    def remove(self, sha256: str) -> None:
        """Forget an adapter and delete its file. To make its clips again, import the same file again."""
        row = self.require(sha256)
        with self._database.write() as connection:
            connection.execute("DELETE FROM adapters WHERE hash = ?", [sha256])
        for path in filter(None, (row.path, row.preview)):
            with suppress(OSError):
                path.unlink()

    def require(self, sha256: str) -> AdapterRow:
        """The adapter of this hash. Raises RequestError for an unknown one."""
        row = self.get(sha256)
        if row is None:
            raise RequestError(f"no adapter has the hash {short(sha256[:12])}: import its file")
        return row

    def resolve_tags(self, job: Job) -> Job:
        """The job with the adapters of its prompts' tags.

        A clip's prompt loses its tags. A long video's prompts keep them, since each sets weights of its own; an adapter
        that only tags name has weight 0 elsewhere. Raises RequestError for an unknown name, and for an adapter that a
        clip names twice.
        """
        if job.long is None:
            text, tags = take_tags(job.request.prompt)
            adapters = (*job.adapters, *find_adapters(tags, self.names()))
            return replace(job, request=replace(job.request, prompt=text), adapters=adapters)
        found, names = {adapter.sha256: adapter for adapter in job.adapters}, self.names()
        for prompt in job.prompts:
            for one in find_adapters(take_tags(prompt)[1], names):
                found.setdefault(one.sha256, Adapter(one.sha256, one.name, 0.0))
        return replace(job, adapters=tuple(found.values()))

    def check(self, adapters: Sequence[Adapter]) -> None:
        """Raises AdapterError for an adapter that is missing or without its file."""
        for adapter in adapters:
            row = self.get(adapter.sha256)
            if row is None or not row.path.is_file():
                raise AdapterError(
                    f"the adapter {adapter.name!r} ({adapter.sha256[:12]}…) is not here: import its file again, by the "
                    "hash it is known whatever it is called"
                )

    def attach(self, model: Model, adapters: Sequence[Adapter]) -> Model:
        """The model with adapters on its networks. Raises AdapterError for an adapter that is missing."""
        if not adapters:
            return model
        self.check(adapters)
        return model.with_adapters(adapters, lambda adapter: self.read(adapter, model.cascade.bundle.folder))

    def read(self, adapter: Adapter, bundle: Path) -> AdapterDeltas:
        """An adapter's changes to the networks of a bundle. Imports torch. Raises AdapterError."""
        import_networks()
        from extensions.lora.files.read import AdapterDeltas, read_deltas, read_embedding, targets_in
        from lavie.bundle import Bundle

        self.check([adapter])
        row, targets = self.require(adapter.sha256), targets_in(Bundle(bundle))
        if row.card.vectors:
            return AdapterDeltas(
                {}, {}, words={row.card.trigger_words[0]: read_embedding(row.path, targets.text_width)}
            )
        return read_deltas(row.path, targets, adapter.sha256)

    def _free_name(self, name: str) -> str:
        names, number, free = {known.casefold() for known in self.names()}, 2, name
        while free.casefold() in names:
            free, number = f"{name[:190]}-{number}", number + 1
        return free

    def _row(self, row: dict[str, Any]) -> AdapterRow | None:
        try:
            card = AdapterCard.from_json(row["about"])
        except LavieError:
            return None
        path = self.folder.parent / row["path"]
        preview = self.folder / card.preview if card.preview else None
        weights = row["weight"], row["text_weight"]
        return AdapterRow(row["hash"], row["name"], card, path, preview, row["created"], *weights)


def _save_picture(path: str | None, place: Path) -> str | None:
    """Save a small copy of a picture; its file name, or None if there is no readable picture."""
    if path is None:
        return None
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture, temporary(place) as partial:
            picture.draft("RGB", (_SIDE, _SIDE))
            small = ImageOps.exif_transpose(picture).convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            small.save(partial, "WEBP", quality=85)
            publish(partial, place)
    except (OSError, ValueError, MediaError, Image.DecompressionBombError):
        return None
    return place.name
