"""The adapters that are there: files let in under their hash, told of by cards, found by the names that prompts use.

    data/adapters/<sha256>.safetensors   and, where the file came with a picture, <sha256>.webp

Knows the folder and the table; what is in a file is `extensions.lora`'s, what a clip was made with its recipe's.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from app.clip import import_networks
from app.media.files import temporary
from app.recipes.recipe import Job
from app.storage.database import Database, now
from extensions.lora.adapter import Adapter, safe_name
from extensions.lora.card import AdapterCard
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
    """An adapter of the library. name: as prompts call it, unlike any other. path: of its file, which may be gone.
    preview: of its picture, None where there is none. created: when it was let in, UTC, ISO 8601. set_weight,
    set_text_weight: as somebody has set them, None where nobody has."""

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
        """What to begin with: what was set, else what its maker recommends, else 1."""
        known = (self.set_weight, self.card.preferred_weight)
        return next((weight for weight in known if weight is not None), 1.0)

    def adapter(self, weight: float | None = None, text_weight: float | None = None) -> Adapter:
        """It, at weights [those to begin with]."""
        if weight is None and text_weight is None:
            text_weight = self.set_text_weight
        return Adapter(self.sha256, self.name, self.weight if weight is None else weight, text_weight)


class Adapters:
    """All methods may be called from any thread. Raises RequestError for an adapter that is not known."""

    def __init__(self, database: Database, data: Path):
        self._database, self.folder = database, data / FOLDER

    def add(self, path: Path | str, bundle: Path | str, name: str | None = None) -> AdapterRow:
        """Let a file in; one that is there already stays as it is. Imports torch.

        bundle: the model that it has to fit. name: [the file's own]; where another has it, a number is put behind.
        Raises AdapterError for a file that cannot be used, BundleError, StorageError.
        """
        import_networks()
        from extensions.lora.files.inspection import keep
        from extensions.lora.files.read import targets_in
        from lavie.bundle import Bundle

        card, kept = keep(Path(path).expanduser(), self.folder, targets_in(Bundle(bundle)))
        picture = _kept_picture(card.preview, kept.with_suffix(".webp"))
        card = replace(card, preview=picture)
        with self._database.write() as connection:
            if (known := self.get(card.sha256)) is not None:
                return known
            named = self._free_name(safe_name(name or card.name) or "adapter")
            values = {"hash": card.sha256, "name": named, "path": f"{FOLDER}/{kept.name}", "about": card.to_json()}
            connection["adapters"].insert({**values, "created": now()})
        return self.get(card.sha256)

    def all(self) -> list[AdapterRow]:
        """The last to come first. A row that this version cannot read is passed over."""
        rows = self._database.query("SELECT * FROM adapters ORDER BY created DESC, name")
        return [found for row in rows if (found := self._row(row)) is not None]

    def get(self, sha256: str) -> AdapterRow | None:
        """The one of this hash; None if there is none."""
        rows = self._database.query("SELECT * FROM adapters WHERE hash = ?", [sha256])
        return self._row(rows[0]) if rows else None

    def find(self, text: str) -> AdapterRow:
        """The one of this name, hash or beginning of a hash."""
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
        """Call it something else: prompts do from then on; what was made with it knows it by its hash."""
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
        """Keep the weights to begin with, −2 … 2; text_weight: None for the same. What prompts wear stays as it is."""
        row = self.require(sha256)
        Adapter(row.sha256, row.name, weight, text_weight)  # refuses what is none
        values = [weight, text_weight, sha256]
        with self._database.write() as connection:
            connection.execute("UPDATE adapters SET weight = ?, text_weight = ? WHERE hash = ?", values)

    def remove(self, sha256: str) -> None:
        """Forget an adapter and delete its file. Clips stay; to make them again the same file has to be let in anew."""
        row = self.require(sha256)
        with self._database.write() as connection:
            connection.execute("DELETE FROM adapters WHERE hash = ?", [sha256])
        for path in filter(None, (row.path, row.preview)):
            with suppress(OSError):
                path.unlink()

    def require(self, sha256: str) -> AdapterRow:
        """As `get`, of one that must be there."""
        row = self.get(sha256)
        if row is None:
            raise RequestError(f"no adapter has the hash {short(sha256[:12])}: import its file")
        return row

    def resolve_tags(self, job: Job) -> Job:
        """The job with what the tags in its prompts ask for beside its own adapters.

        A clip's prompt loses its tags. A long video's prompts keep them: each says a weight where it stands, and an
        adapter that only tags name has none elsewhere. Raises RequestError for a name that is not known, and where a
        clip asks for one adapter twice.
        """
        if job.long is None:
            text, asked = take_tags(job.request.prompt)
            adapters = (*job.adapters, *find_adapters(asked, self.names()))
            return replace(job, request=replace(job.request, prompt=text), adapters=adapters)
        found, names = {adapter.sha256: adapter for adapter in job.adapters}, self.names()
        for prompt in job.prompts:
            for one in find_adapters(take_tags(prompt)[1], names):
                found.setdefault(one.sha256, Adapter(one.sha256, one.name, 0.0))
        return replace(job, adapters=tuple(found.values()))

    def check(self, adapters: Sequence[Adapter]) -> None:
        """Raises AdapterError where one is not here, or its file is gone."""
        for adapter in adapters:
            row = self.get(adapter.sha256)
            if row is None or not row.path.is_file():
                raise AdapterError(
                    f"the adapter {adapter.name!r} ({adapter.sha256[:12]}…) is not here: import its file again, by the "
                    "hash it is known whatever it is called"
                )

    def read(self, adapter: Adapter, bundle: Path) -> AdapterDeltas:
        """What it changes in the networks of a bundle. Imports torch. Raises AdapterError."""
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

    def _row(self, row: dict) -> AdapterRow | None:
        try:
            card = AdapterCard.from_json(row["about"])
        except LavieError:
            return None
        path = self.folder.parent / row["path"]
        preview = self.folder / card.preview if card.preview else None
        weights = row["weight"], row["text_weight"]
        return AdapterRow(row["hash"], row["name"], card, path, preview, row["created"], *weights)


def _kept_picture(path: str | None, place: Path) -> str | None:
    """A stranger's picture as one of ours, small; its name, or None where there is none that can be read."""
    if path is None:
        return None
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture, temporary(place) as partial:
            picture.draft("RGB", (_SIDE, _SIDE))
            small = ImageOps.exif_transpose(picture).convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            small.save(partial, "WEBP", quality=85)
            publish(partial, place)
    except (OSError, ValueError, MediaError, Image.DecompressionBombError):
        return None
    return place.name
