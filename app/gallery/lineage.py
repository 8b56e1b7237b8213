"""Where clips come from: parents, children, and what changed between two. A link outlives what it points at."""

from __future__ import annotations

import json
from typing import Any

from app.gallery.clips import load, require
from app.gallery.store import Store
from app.gallery.values import StoredClip
from app.recipes.recipe import Recipe

_NO_PART = ("created", "frame_hash", "lavie_recipe", "schema")  # of the making
_STAGES = ("interpolation", "super_resolution")  # that may be absent


def parents(store: Store, clip_id: str) -> list[StoredClip]:
    """The clip it was made from, that one's, and so on, as far as they are known. Raises RequestError."""
    require(store, clip_id)
    # UNION leaves out what was seen before: imported files may claim to be each other's parents.
    rows = store.database.query(
        """
        WITH RECURSIVE line (id) AS (
            SELECT parent FROM clips WHERE id = :id
            UNION
            SELECT parent FROM clips JOIN line USING (id)
        )
        SELECT pk FROM line JOIN clips USING (id) WHERE id != :id
        """,
        {"id": clip_id},
    )
    return load(store, [row["pk"] for row in rows])


def children(store: Store, clip_id: str) -> list[StoredClip]:
    """The clips made from it, the oldest first. The clip itself may be gone."""
    rows = store.database.query("SELECT pk FROM clips WHERE parent = ? ORDER BY pk", [clip_id])
    return load(store, [row["pk"] for row in rows])


def difference(this: Recipe, that: Recipe) -> list[tuple[str, Any, Any]]:
    """What two clips were made with that differs, as (name, this, that); None where one has no such thing."""
    one, other = _flat(this), _flat(that)
    names = [*one, *(name for name in other if name not in one)]
    changed = [name for name in names if one.get(name) != other.get(name)]
    switched = tuple(f"{name}: " for name in map(_readable, _STAGES) if name in changed)
    # Of a stage that one of them does not have, it says enough that the other has it.
    return [(name, one.get(name), other.get(name)) for name in changed if not name.startswith(switched)]


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe under a readable name, the request's first."""
    data = json.loads(recipe.to_json())
    values = {**data.pop("request"), **data.pop("provenance"), **data}
    for name in _STAGES:
        values[name] = values[name] or "off"
    return _leaves({name: value for name, value in values.items() if name not in _NO_PART})


def _leaves(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values side by side, under names such as `interpolation: steps`; lists stay whole."""
    flat = {}
    for name, value in values.items():
        readable = above + _readable(name)
        if not isinstance(value, dict):
            flat[readable] = value
            continue
        if name in _STAGES and not above:
            flat[readable] = "on"
        flat |= _leaves(value, above if name == "sampling" else f"{readable}: ")
    return flat


def _readable(name: str) -> str:
    return name.replace("_", " ").replace("super resolution", "super-resolution")
