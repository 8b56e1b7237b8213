"""A query → the page of clips that it finds, in a time that does not grow with the page's depth.

The statements say which way to walk along the clips, since SQLite would guess, and guess wrong at some sizes: along
what the full-text index finds, or along one of two narrow indexes that hold all there is to filter by (`app.schema`).
What other tables know comes in as sets of numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from app.gallery.clips import load
from app.gallery.query import Query
from app.gallery.store import Store
from app.gallery.values import Page, age_of, short
from app.gallery.words import match_expression
from lavie.errors import RequestError

MAX_LIMIT = 1000
_FEW = 10_000  # clips: a text that more of them match says little about any, so that those come by age, not relevance
_RATING_STEP = 2**52  # above any age, so that a rating before an age is one number
_BEST = f"max(rating * {_RATING_STEP} + pk)"  # of a stack: the best rated clip, of those the newest
# sort → (what to sort by, the same for a stack, which end first)
_ORDERS = {
    "newest": ("0", "0", "DESC"),
    "oldest": ("0", "0", "ASC"),
    "rating": ("rating", f"{_BEST} / {_RATING_STEP}", "DESC"),
    "longest": ("duration", "max(duration)", "DESC"),
    "relevance": ("-rank", "max(-rank)", "DESC"),
}


@dataclass(frozen=True)
class _Walk:
    """What to select from, on which conditions, with which values; pk: what a clip's number is called there."""

    source: str
    where: str
    values: dict[str, Any]
    pk: str


def page(store: Store, query: Query, after: str | None = None, limit: int = 24) -> Page:
    """The clips that follow `after`, an earlier page's `next`. limit: 1 … 1000. Raises RequestError.

    The total is that of the first page: counting again would cost more than the page.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise RequestError(f"limit is {short(limit)}: give a whole number from 1 to {MAX_LIMIT}")
    sort, last, total = _place(query, after) if after is not None else (_sort(store, query), None, None)
    rows = _rows(store, query, sort, last, limit + 1)
    if total is None:
        total = rows[0]["total"] if rows and rows[0]["total"] is not None else count(store, query)
    shown = rows[:limit]
    clips = load(store, [row["pk"] for row in shown])
    if query.stacked:
        counts = {row["pk"]: row["count"] for row in shown}
        clips = [replace(clip, count=counts[age_of(clip.created)]) for clip in clips]
    more = json.dumps([sort, shown[-1]["key"], shown[-1]["tie"], total]) if len(rows) > limit else None
    return Page(tuple(clips), more, total)


def count(store: Store, query: Query) -> int:
    """How many clips, or stacks of clips, a query finds."""
    walk = _walk(query)
    what = "count(DISTINCT stack)" if query.stacked else "count(*)"
    sql = f"SELECT {what} AS n FROM {walk.source} WHERE {walk.where}"
    return store.database.query(sql, walk.values)[0]["n"]


def keys(store: Store, query: Query) -> list[int]:
    """The numbers of all clips that a query finds, the oldest first. A stack gives all its clips."""
    walk = _walk(replace(query, stacked=False))
    sql = f"SELECT pk FROM {walk.source} WHERE {walk.where} ORDER BY {walk.pk}"
    return [row["pk"] for row in store.database.query(sql, walk.values)]


def tags(store: Store) -> dict[str, int]:
    """Every tag outside the trash with its number of clips, the most used first."""
    return _counted(store, "tag", "clip_tags")


def choices(store: Store, name: str) -> dict[Any, int]:
    """The values of a filter outside the trash, each with its number of clips, the most used first."""
    if name == "adapter":
        return _counted(store, "adapter", "clip_adapters")
    if name not in ("model", "stages"):
        raise RequestError(f"there is no list of {short(name)}: choose model, stages or adapter")
    rows = store.database.query(
        f"SELECT {name} AS value, count(*) AS n FROM clips INDEXED BY clips_by_{name} WHERE trashed IS NULL "
        "GROUP BY value ORDER BY n DESC, value"
    )
    return {row["value"]: row["n"] for row in rows}


def _counted(store: Store, column: str, table: str) -> dict[Any, int]:
    """All of a value's clips less those in the trash, which are few: cheaper than to look at each clip."""
    rows = store.database.query(
        f"""
        SELECT value, sum(n) AS n FROM (
            SELECT {column} AS value, count(*) AS n FROM {table} GROUP BY value
            UNION ALL
            SELECT {column}, -1 FROM clips CROSS JOIN {table} ON clip = pk WHERE trashed IS NOT NULL
        ) GROUP BY value HAVING sum(n) > 0 ORDER BY n DESC, value
        """
    )
    return {row["value"]: row["n"] for row in rows}


def _rows(store: Store, query: Query, sort: str, last: tuple[float, int] | None, limit: int) -> list[dict[str, Any]]:
    """pk of the clip to show, count, what the page is sorted by and goes on after (key, tie), and perhaps total."""
    single, stacked, direction = _ORDERS[sort]
    walk = _walk(query, ranked=sort == "relevance")
    columns, group, kept, total = f"pk, 1 AS count, {single} AS key, {walk.pk} AS tie", "", "NOT MATERIALIZED", "NULL"
    if query.stacked:
        tie = "max(pk)" if direction == "DESC" else "min(pk)"
        columns, group = (
            f"{_BEST} % {_RATING_STEP} AS pk, count(*) AS count, {stacked} AS key, {tie} AS tie",
            "GROUP BY stack",
        )
        if query.text:  # all stacks are seen to find the first: kept, they are counted without a second search
            kept, total = "MATERIALIZED", "(SELECT count(*) FROM found)"
    place = ("tie",) if single == "0" else ("key", "tie")
    values, beyond = {**walk.values, "limit": limit}, ""
    if last is not None:
        values |= {"key": last[0], "tie": last[1]}
        beyond = (
            f"WHERE ({', '.join(place)}) {'<' if direction == 'DESC' else '>'} ({', '.join(f':{n}' for n in place)})"
        )
    order = ", ".join(f"{name} {direction}" for name in place)
    return store.database.query(
        f"WITH found AS {kept} (SELECT {columns} FROM {walk.source} WHERE {walk.where} {group}) "
        f"SELECT pk, count, key, tie, {total} AS total FROM found {beyond} ORDER BY {order} LIMIT :limit",
        values,
    )


def _walk(query: Query, *, ranked: bool = False) -> _Walk:
    """The shortest way. ranked: with `rank`, for a text that few clips match."""
    wanted, unwanted = match_expression(query.text)
    along_text = bool(wanted) and (ranked or not query.stacked)
    pk = "hit" if along_text else "pk"
    parts, values = _conditions(query, pk)
    source = f"clips INDEXED BY clips_by_{'stack' if query.stacked else 'age'}"
    if wanted:
        hits = f"(SELECT rowid AS hit{', rank' if ranked else ''} FROM clips_text WHERE clips_text MATCH :text)"
        values["text"] = wanted
        if along_text:
            source = f"{hits} CROSS JOIN {'clips NOT INDEXED' if ranked else source} ON pk = hit"
        else:
            parts.append(f"+pk IN {hits}")
    if unwanted:
        parts.append(f"+{pk} NOT IN (SELECT rowid FROM clips_text WHERE clips_text MATCH :without)")
        values["without"] = unwanted
    return _Walk(source, " AND ".join(parts), values, pk)


def _conditions(query: Query, pk: str) -> tuple[list[str], dict[str, Any]]:
    """What must hold apart from the text, and the values by name."""
    parts = [f"trashed IS {'NOT NULL' if query.trashed else 'NULL'}"]
    if query.missing is not None:
        parts.append(f"missing IS {'NOT NULL' if query.missing else 'NULL'}")
    first, last = query.ages
    filters = [
        (f"{name} =", name, getattr(query, name)) for name in ("model", "stages", "width", "height", "favourite")
    ]
    filters += [(f"{pk} >=", "first", first), (f"{pk} <=", "last", last)]
    filters += [("rating >=", "min_rating", query.min_rating or None)]
    # The + keeps SQLite from visiting the clips of a set one by one, out of order: right only for small sets.
    sets = [(f"{pk} IN (SELECT pk FROM clips WHERE {name}", name, getattr(query, name)) for name in ("seed", "parent")]
    sets += [(f"+{pk} IN (SELECT clip FROM clip_tags WHERE tag", f"tag{n}", tag) for n, tag in enumerate(query.tags)]
    sets += [(f"+{pk} IN (SELECT clip FROM clip_adapters WHERE adapter", "adapter", query.adapter)]
    filters += [(f"{text} =", name, value) for text, name, value in sets]
    values = {name: value for _, name, value in filters if value is not None}
    parts += [f"{text} :{name}{')' if '(' in text else ''}" for text, name, value in filters if value is not None]
    return parts, values


def _is_rare(store: Store, wanted: str) -> bool:
    sql = "SELECT count(*) AS n FROM (SELECT 1 FROM clips_text WHERE clips_text MATCH ? LIMIT ?)"
    return store.database.query(sql, [wanted, _FEW + 1])[0]["n"] <= _FEW


def _sort(store: Store, query: Query) -> str:
    """The sort to use."""
    if query.sort != "relevance":
        return query.sort
    wanted, _ = match_expression(query.text)
    return "relevance" if wanted and _is_rare(store, wanted) else "newest"


def _place(query: Query, after: str) -> tuple[str, tuple[float, int], int]:
    """The sort of an earlier page, where it ended, and its total."""
    try:
        sort, key, tie, total = json.loads(after)
        if any(isinstance(value, (str, bool)) for value in (key, tie, total)):
            raise ValueError
        place = float(key), int(tie)
        fits = sort == query.sort or (query.sort, sort) == ("relevance", "newest")
        fits = fits and (sort != "relevance" or match_expression(query.text)[0])
        if not fits or not math.isfinite(place[0]) or abs(place[1]) >= 2**63:
            raise ValueError
        return sort, place, int(total)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RequestError(f"after is {short(after)}: pass the `next` of the same search, or nothing") from None
