"""Settings of the page kept under names, in the database. Does not know what they mean."""

from __future__ import annotations

import json
import typing

from app.sharing.visitor import at_home_only
from app.storage.database import Database, now
from lavie.errors import RequestError, short

MAX_NAME = 100  # characters
MAX_VALUES = 100_000  # characters of JSON


class Presets:
    """Name → values. All methods may be called from any thread."""

    def __init__(self, database: Database):
        self._database = database

    def save(self, name: str, values: typing.Mapping[str, typing.Any]) -> None:
        """Keep values, which JSON can hold, in place of those that had the name. Raises RequestError."""
        at_home_only("no preset can be kept")
        name = (name or "").strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise RequestError(f"the preset's name is {short(name)}: give one of 1 to {MAX_NAME} characters")
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RequestError(f"the preset {short(name)} cannot be kept ({error}): look at its numbers") from None
        if len(text) > MAX_VALUES:
            raise RequestError(f"the preset {short(name)} is {len(text)} characters long: shorten its texts")
        with self._database.write() as connection:
            connection["presets"].upsert({"name": name, "settings": text, "created": now()}, pk="name")

    def all(self) -> dict[str, dict[str, typing.Any]]:
        """In the order of their names; what is none, whoever put it there, is passed over."""
        rows = self._database.query("SELECT name, settings FROM presets ORDER BY name COLLATE NOCASE")
        found = {row["name"]: _read(row["settings"]) for row in rows}
        return {name: values for name, values in found.items() if isinstance(values, dict)}

    def delete(self, name: str) -> None:
        """Forget one; nothing happens if it is not there."""
        at_home_only("no preset can be removed")
        with self._database.write() as connection:
            connection.execute("DELETE FROM presets WHERE name = ?", [name])


def _read(text: str) -> typing.Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
