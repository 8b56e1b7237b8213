"""Which model the page's new jobs are made with: the one that was named at the start, else the one chosen last.

What is chosen is kept in the database. Commands know nothing of it: theirs is `--model`, else Nano.
"""

from __future__ import annotations

import typing
from dataclasses import replace

from app.models.card import FILE as MANIFEST
from app.models.catalog import NANO, OFFICIAL, KnownModel, bundles
from lavie.errors import BundleError, short

if typing.TYPE_CHECKING:
    from app.studio import Studio

_SETTING = "model"


class ModelChoice:
    """The choice among the models that are there. All methods may be called from any thread."""

    def __init__(self, studio: Studio):
        self._studio, self._started = studio, studio.config

    def restore(self) -> None:
        """Go on with what was chosen last, if nobody named a model at the start and it is still there."""
        config = self._studio.config
        if config.model_named or not self.open:
            return
        for row in self._studio.database.query("SELECT value FROM settings WHERE name = ?", [_SETTING]):
            chosen = replace(config, model=row["value"])
            if (chosen.bundle / MANIFEST).is_file():
                self._started = self._studio.config = chosen

    @property
    def open(self) -> bool:
        """Whether the studio is one person's: others' page they would change, and a lent device loads by itself."""
        return not (self._studio.config.shared or self._studio.config.zero_gpu)

    def known(self) -> list[KnownModel]:
        """All that there are, the one of the start included. Imports torch, reads no weights."""
        return bundles(self._started)

    def is_used(self, known: KnownModel) -> bool:
        """Whether new jobs are made with it."""
        return known.folder.absolute() == self._studio.config.bundle.absolute()

    def use(self, asked: str) -> None:
        """Make new jobs with another model, and load it as soon as no job runs. Jobs that wait keep theirs.

        asked: as `known` has it. Raises BundleError where that is none, or cannot be read.
        """
        found = next((one for one in self.known() if one.asked == asked and one.name is not None), None)
        if found is None:
            raise BundleError(f"there is no model {short(asked)} that can be used: choose one of the list")
        name = asked if asked in (NANO, OFFICIAL) else str(found.folder.absolute())
        with self._studio.database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", [_SETTING, name])
        self._studio.config = replace(self._studio.config, model=name)
        self._studio.warm()
