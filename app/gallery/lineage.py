"""Where clips come from: parents, children, and the differences of two recipes."""

from __future__ import annotations

import json
from typing import Any

from app.gallery.clip import Clip
from app.gallery.gallery import Gallery
from app.recipes.recipe import Recipe

_IGNORED = ("created", "frame_hash", "lavie_recipe", "schema")  # these do not affect the video
_STAGES = ("interpolation", "super_resolution")  # optional ones


def find_parents(gallery: Gallery, clip_id: str) -> list[Clip]:
    """The clip that a clip was made from, that one's parent, and so on, as far as the gallery has them."""
    gallery.require(clip_id)
    # UNION drops duplicates: imported files may claim to be each other's parents.
    rows = gallery.database.query(
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
    return gallery.load([row["pk"] for row in rows])


def find_children(gallery: Gallery, clip_id: str) -> list[Clip]:
    """The clips made from a clip, the oldest first. The clip itself may be purged."""
    rows = gallery.database.query("SELECT pk FROM clips WHERE parent = ? ORDER BY pk", [clip_id])
    return gallery.load([row["pk"] for row in rows])


def compare_clips(gallery: Gallery, this: str, that: str) -> list[tuple[str, Any, Any]]:
    """The differences of two clips' recipes as (name, this, that). Raises RequestError for an unknown id."""
    return compare_recipes(gallery.require(this).recipe, gallery.require(that).recipe)


def compare_recipes(this: Recipe, that: Recipe) -> list[tuple[str, Any, Any]]:
    """The differences of two recipes as (name, this, that), with None where one has no such value."""
    one, other = _flatten(this), _flatten(that)
    names = [*one, *(name for name in other if name not in one)]
    changed = [name for name in names if one.get(name) != other.get(name)]
    switched = tuple(f"{name}: " for name in map(_readable, _STAGES) if name in changed)
    # For a stage that only one of them has, one line is enough.
    return [(name, one.get(name), other.get(name)) for name in changed if not name.startswith(switched)]


def _flatten(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe under a readable name, the request first."""
    data = json.loads(recipe.to_json())
    values = {**data.pop("request"), **data.pop("provenance"), **data}
    for name in _STAGES:
        values[name] = values[name] or "off"
    return _flatten_values({name: value for name, value in values.items() if name not in _IGNORED})


def _flatten_values(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values under names such as `interpolation: steps`; lists stay whole."""
    flat = {}
    for name, value in values.items():
        readable = above + _readable(name)
        if not isinstance(value, dict):
            flat[readable] = value
            continue
        if name in _STAGES and not above:
            flat[readable] = "on"
        flat |= _flatten_values(value, above if name == "sampling" else f"{readable}: ")
    return flat


def _readable(name: str) -> str:
    return name.replace("_", " ").replace("super resolution", "super-resolution")
