"""An opened data folder: its settings, database, queue, gallery and adapters, and the model that makes new jobs.

The parts of the studio are given this, never the studio itself.
"""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.adapters import Adapters
from app.config import StudioConfig
from app.gallery import Gallery
from app.models.card import FILE as MANIFEST
from app.models.card import ModelCard
from app.models.catalog import NANO, OFFICIAL, KnownModel, find_models
from app.models.loaded import Load, Models, adapt_cascade, load_cascade
from app.queue.estimates import Estimates
from app.queue.queue import JobQueue
from app.sharing import at_home_only
from app.storage.database import Database, now
from lavie.errors import BundleError, RequestError, short
from lavie.values import parse_object

if typing.TYPE_CHECKING:
    from lavie.cascade import Cascade


_MODEL_SETTING = "model"
MAX_PRESET_NAME = 100  # characters
MAX_PRESET = 100_000  # characters of JSON


class Workspace:
    """All methods may be called from any thread. Raises StorageError if the folder cannot be used.

    Attributes:
        config: the settings; another model may be chosen while the folder is open.
        models: the model that is loaded in this process.
        on_change: is called when a job was queued or may go on; wakes the workers.
    """

    def __init__(self, config: StudioConfig, load: Load = load_cascade):
        """load: gives the cascade for the settings."""
        self.config, self.load = config, load
        self.on_change: Callable[[], None] = lambda: None
        self.database = Database(config.data)
        self.queue = JobQueue(self.database, lambda: self.on_change())
        self.gallery = Gallery(self.database, config.data)
        self.adapters = Adapters(self.database, config.data)
        self.presets, self.estimates = Presets(self.database), Estimates(self.database, config)
        self.models: Models = Models(config, load, adapt_cascade)

    @property
    def card(self) -> ModelCard | None:
        """The description of the model for new jobs, whether it is loaded or not."""
        return ModelCard.read(self.config.bundle)

    @property
    def model(self) -> str:
        """The name of the model for new jobs. A folder is absolute: the worker may have been started elsewhere."""
        named, folder = Path(self.config.model).expanduser(), self.config.bundle
        return str(folder.absolute()) if folder == named else self.config.model

    def load_again(self) -> Cascade:
        """The model once more, beside the worker's. Imports torch. Raises BundleError, DeviceError."""
        return self.load(self.config)


class ModelChoice:
    """The choice of the model for new jobs, kept in the database: the one named at the start, else the last chosen.

    Only the page uses it; commands take `--model`. All methods may be called from any thread.
    """

    def __init__(self, workspace: Workspace, warm: Callable[[], None]):
        """warm: loads the chosen model in the background."""
        self._workspace, self._started, self._warm = workspace, workspace.config, warm

    @property
    def open(self) -> bool:
        """Whether a model may be chosen: not where visitors share the studio, nor where each job loads its own."""
        return not (self._workspace.config.shared or self._workspace.config.zero_gpu)

    def restore(self) -> None:
        """Take the last choice if no model was named at the start and the chosen one still exists."""
        config = self._workspace.config
        if config.model_named or not self.open:
            return
        for row in self._workspace.database.query("SELECT value FROM settings WHERE name = ?", [_MODEL_SETTING]):
            chosen = replace(config, model=row["value"])
            if (chosen.bundle / MANIFEST).is_file():
                self._started = self._workspace.config = chosen

    def list_models(self) -> list[KnownModel]:
        """All models that exist, the one of the start included. Imports torch, reads no weights."""
        return find_models(self._started)

    def is_used(self, known: KnownModel) -> bool:
        """Whether new jobs use it."""
        return known.folder.absolute() == self._workspace.config.bundle.absolute()

    def use(self, asked: str) -> None:
        """Use the model `KnownModel.asked` for new jobs, and load it when no job runs. Queued jobs keep theirs.

        Raises BundleError where no model has this name, or it cannot be read.
        """
        found = next((one for one in self.list_models() if one.asked == asked and one.name is not None), None)
        if found is None:
            raise BundleError(f"there is no model {short(asked)} that can be used: choose one of the list")
        name = asked if asked in (NANO, OFFICIAL) else str(found.folder.absolute())
        with self._workspace.database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", [_MODEL_SETTING, name])
        self._workspace.config = replace(self._workspace.config, model=name)
        self._warm()


class Presets:
    """Settings of the page under names. All methods may be called from any thread."""

    def __init__(self, database: Database):
        self._database = database

    def save(self, name: str, values: typing.Mapping[str, typing.Any]) -> None:
        """Store values, which JSON can hold, in place of others of this name. Raises RequestError."""
        at_home_only("no preset can be kept")
        name = (name or "").strip()
        if not name or len(name) > MAX_PRESET_NAME or not name.isprintable():
            raise RequestError(f"the preset's name is {short(name)}: give one of 1 to {MAX_PRESET_NAME} characters")
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RequestError(f"the preset {short(name)} cannot be kept ({error}): look at its numbers") from None
        if len(text) > MAX_PRESET:
            raise RequestError(f"the preset {short(name)} is {len(text)} characters long: shorten its texts")
        with self._database.write() as connection:
            connection.table("presets").upsert({"name": name, "settings": text, "created": now()}, pk="name")

    def all(self) -> dict[str, dict[str, typing.Any]]:
        """All presets by name. Rows that do not parse are skipped."""
        rows = self._database.query("SELECT name, settings FROM presets ORDER BY name COLLATE NOCASE")
        found = {}
        for row in rows:
            with contextlib.suppress(ValueError):
                found[row["name"]] = parse_object(row["settings"])
        return found

    def delete(self, name: str) -> None:
        """Remove a preset, if it exists."""
        at_home_only("no preset can be removed")
        with self._database.write() as connection:
            connection.execute("DELETE FROM presets WHERE name = ?", [name])
