"""A query → the page of clips that it finds, in a time that does not grow with the page's depth.

The statements say which way to walk along the clips, since SQLite would guess, and guess wrong at some sizes: along
what the full-text index finds, or along one of the narrow indexes that hold all there is to filter by (`app.storage.schema`).
What other tables know comes in as sets of numbers.

Few clips or stacks are all found and then sorted. Of many, only those of the page are looked at: clips are walked in
the order of the sort, and for stacks each is asked whether it is the one by which its stack is placed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from app.gallery.clips import load
from app.gallery.query import Query
from app.gallery.store import Store
from app.gallery.values import Page, age_of
from app.gallery.words import match_expression
from app.sharing.visitor import visitor
from lavie.errors import RequestError, short

_RATING_STEP = 2**52  # above any age, so that a rating before an age is one number
_BEST = f"max(rating * {_RATING_STEP} + pk)"  # of a stack: the best rated clip, of those the newest
BEST_PK = f"{_BEST} % {_RATING_STEP}"


@dataclass(frozen=True)
class Order:
    """A sort. key: what a clip goes by, and then by its number. ascending: the smallest first.

    stack_key, stack_tie: the same of a stack, which stands where one of its clips does. index: walks all clips in this
    order. mates: walks the clips of a stack, the one it stands by first if sorted by `mates_order`.
    """

    key: str
    stack_key: str
    stack_tie: str
    index: str = ""
    mates: str = ""
    mates_order: str = ""
    ascending: bool = False

    def sorted(self, key: str, tie: str) -> str:
        """The terms of ORDER BY, for what the two are called there."""
        direction = "ASC" if self.ascending else "DESC"
        return ", ".join(f"{name} {direction}" for name in self._place(key, tie))

    def beyond(self, key: str, tie: str) -> str:
        """What holds of the clips or stacks that come after :key and :tie."""
        names, values = (", ".join(self._place(*pair)) for pair in ((key, tie), (":key", ":tie")))
        return f"({names}) {'>' if self.ascending else '<'} ({values})"

    def _place(self, key: str, tie: str) -> tuple[str, ...]:
        return (tie,) if self.key == "0" else (key, tie)


_BY_BEST = {"stack_tie": BEST_PK, "mates": "clips_by_stack_rating", "mates_order": "rating DESC, pk DESC"}
_BY_AGE = {"key": "0", "stack_key": "0", "index": "clips_by_age", "mates": "clips_by_stack"}
ORDERS = {
    "newest": Order(**_BY_AGE, stack_tie="max(pk)", mates_order="pk DESC"),
    "oldest": Order(**_BY_AGE, stack_tie="min(pk)", mates_order="pk", ascending=True),
    "rating": Order("rating", f"{_BEST} / {_RATING_STEP}", index="clips_by_rating", **_BY_BEST),
    # SQLite takes a column beside max() from the row that has the maximum: here the best clip's.
    "longest": Order("duration", "duration", index="clips_by_duration", **_BY_BEST),
    "relevance": Order("-rank", "max(-rank)", "max(pk)"),  # of few clips, which are all sorted
}


MAX_LIMIT = 1000
_FEW = 10_000  # clips: a text that more of them match says little about any, so that those come by age, not relevance
_MANY = 1_000  # clips or stacks: more are not all sorted for a page, and more stacks of a text not counted
_GLANCE = 10_000  # clips of a text: they hold many stacks, or all that there are can be found in good time


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
    if after is None:
        sort, last = _sort(store, query), None
        total, many = _extent(store, query, sort)
    else:
        sort, last, total = _place(query, after)
        many = total is None if _counts_few_only(query) else total > _MANY
    rows = _rows(store, query, sort, many, last, limit + 1) if total != 0 else []
    if total is None and not many:
        total = rows[0]["total"] if rows else 0
    shown = rows[:limit]
    clips = load(store, [row["pk"] for row in shown])
    if query.stacked:
        counts = {row["pk"]: row["count"] for row in shown}
        clips = [replace(clip, count=counts[age_of(clip.created)]) for clip in clips]
    more = json.dumps([sort, shown[-1]["key"], shown[-1]["tie"], total]) if len(rows) > limit else None
    return Page(tuple(clips), more, _MANY if total is None else total, total is not None)


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
    if visitor().name:
        return _own(store, name, "clips")
    rows = store.database.query(
        f"SELECT {name} AS value, count(*) AS n FROM clips INDEXED BY clips_by_{name} WHERE trashed IS NULL "
        "GROUP BY value ORDER BY n DESC, value"
    )
    return {row["value"]: row["n"] for row in rows}


def _counted(store: Store, column: str, table: str) -> dict[Any, int]:
    """All of a value's clips less those in the trash, which are few: cheaper than to look at each clip."""
    if visitor().name:
        return _own(store, column, f"{table} JOIN clips ON pk = clip")
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


def _own(store: Store, column: str, source: str) -> dict[Any, int]:
    """The same of the visitor's clips alone, each of which is looked at."""
    rows = store.database.query(
        f"SELECT {column} AS value, count(*) AS n FROM {source} WHERE trashed IS NULL AND {visitor().listed} "
        "GROUP BY value ORDER BY n DESC, value"
    )
    return {row["value"]: row["n"] for row in rows}


def _counts_few_only(query: Query) -> bool:
    """Whether many are not counted: the stacks of a common word, which would take longer than a page may."""
    return query.stacked and any(match_expression(query.text))


def _extent(store: Store, query: Query, sort: str) -> tuple[int | None, bool]:
    """How many clips, or stacks of clips, a query finds, None where that is not known yet; and whether it is many."""
    if not _counts_few_only(query):
        total = _count(store, query, _walk(query, "clips_by_stack" if query.stacked else "clips_by_age"))
        return total, total > _MANY
    if sort == "relevance":
        return None, False
    return None, _count(store, query, _walk(query, hits=_GLANCE), most=_MANY + 1) > _MANY


def _count(store: Store, query: Query, walk: _Walk, most: int = -1) -> int:
    what = "DISTINCT stack" if query.stacked else "1"
    sql = f"SELECT count(*) AS n FROM (SELECT {what} FROM {walk.source} WHERE {walk.where} LIMIT {most})"
    return store.database.query(sql, walk.values)[0]["n"]


def _rows(
    store: Store, query: Query, sort: str, many: bool, last: tuple[float, int] | None, limit: int
) -> list[dict[str, Any]]:
    """pk of the clip to show, what the page is sorted by and goes on after (key, tie); for stacks also count."""
    goes_on = last is not None
    if not query.stacked:
        sql, values = _clips(query, sort, many, goes_on)
    else:
        sql, values = (_stacks_of_many if many else _stacks)(query, sort, goes_on)
    place = {"key": last[0], "tie": last[1]} if goes_on else {}
    return store.database.query(sql, {**values, **place, "limit": limit})


def _clips(query: Query, sort: str, many: bool, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The clips of a page."""
    order = ORDERS[sort]
    walk = _walk(query, order.index if many and order.index else "clips_by_age", ranked=sort == "relevance")
    beyond = f"AND {order.beyond(order.key, walk.pk)}" if goes_on else ""
    sql = f"""
        SELECT pk, {order.key} AS key, {walk.pk} AS tie FROM {walk.source} WHERE {walk.where} {beyond}
        ORDER BY {order.sorted(order.key, walk.pk)} LIMIT :limit"""
    return sql, walk.values


def _stacks(query: Query, sort: str, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The stacks of a page, from all that there are, and how many that is."""
    order, ranked = ORDERS[sort], sort == "relevance"
    walk = _walk(query, "clips_by_age" if ranked else "clips_by_stack", ranked=ranked)
    columns = f"{BEST_PK} AS pk, count(*) AS count, {order.stack_key} AS key, {order.stack_tie} AS tie"
    beyond = f"WHERE {order.beyond('key', 'tie')}" if goes_on else ""
    sql = f"""
        WITH found AS MATERIALIZED (SELECT {columns} FROM {walk.source} WHERE {walk.where} GROUP BY stack)
        SELECT *, (SELECT count(*) FROM found) AS total FROM found {beyond}
        ORDER BY {order.sorted("key", "tie")} LIMIT :limit"""
    return sql, walk.values


def _stacks_of_many(query: Query, sort: str, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The stacks of a page, without a look at those before and behind it.

    The text is asked of a clip's mates alone: the first of those that match is the clip itself, or it is passed over.
    """
    order, walk = ORDERS[sort], _walk(query, "clips_by_stack")
    parts, _ = _conditions(query, "pk")
    parts += [order.beyond(order.key, "pk")] if goes_on else []
    sql = f"""
        WITH page AS MATERIALIZED (
            SELECT stack AS number, {order.key} AS key, pk AS tie FROM clips AS one INDEXED BY {order.index}
            WHERE {" AND ".join(parts)} AND pk = (
                SELECT pk FROM clips INDEXED BY {order.mates}
                WHERE stack = one.stack AND {walk.where} ORDER BY {order.mates_order} LIMIT 1
            )
            ORDER BY {order.sorted(order.key, "pk")} LIMIT :limit
        )
        SELECT {BEST_PK} AS pk, count(*) AS count, key, tie FROM page CROSS JOIN {walk.source} ON stack = number
        WHERE {walk.where} GROUP BY key, tie ORDER BY {order.sorted("key", "tie")}"""
    return sql, walk.values


def _walk(query: Query, index: str = "clips_by_age", *, ranked: bool = False, hits: int = -1) -> _Walk:
    """Along an index; by age, along what the text finds. ranked: with `rank`. hits: look no further in the text."""
    wanted, unwanted = match_expression(query.text)
    along_text = bool(wanted) and index == "clips_by_age"
    pk = "hit" if along_text else "pk"
    parts, values = _conditions(query, pk)
    source = f"clips INDEXED BY {index}"
    if wanted:
        most = "" if hits < 0 else f" LIMIT {hits}"
        columns = "rowid AS hit, rank" if ranked else "rowid AS hit"
        found = f"(SELECT {columns} FROM clips_text WHERE clips_text MATCH :text{most})"
        values["text"] = wanted
        if along_text:
            source = f"{found} CROSS JOIN {source} ON pk = hit"
        else:
            parts.append(f"+pk IN {found}")
    if unwanted:
        parts.append(f"+{pk} NOT IN (SELECT rowid FROM clips_text WHERE clips_text MATCH :without)")
        values["without"] = unwanted
    return _Walk(source, " AND ".join(parts), values, pk)


def _conditions(query: Query, pk: str) -> tuple[list[str], dict[str, Any]]:
    """What must hold apart from the text, and the values by name."""
    parts = [f"trashed IS {'NOT NULL' if query.trashed else 'NULL'}"]
    if query.missing is not None:
        parts.append(f"missing IS {'NOT NULL' if query.missing else 'NULL'}")
    if visitor().name:
        parts.append(f"+{pk} IN (SELECT pk FROM clips WHERE {visitor().listed})")
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


def _place(query: Query, after: str) -> tuple[str, tuple[float, int], int | None]:
    """The sort of an earlier page, where it ended, and its total; None where those are many, and not counted."""
    try:
        sort, key, tie, total = json.loads(after)
        if any(isinstance(value, (str, bool)) for value in (key, tie, total)):
            raise ValueError
        place = float(key), int(tie)
        fits = sort == query.sort or (query.sort, sort) == ("relevance", "newest")
        fits = fits and (sort != "relevance" or match_expression(query.text)[0])
        fits = fits and (total is not None or (_counts_few_only(query) and sort != "relevance"))
        if not fits or not math.isfinite(place[0]) or abs(place[1]) >= 2**63:
            raise ValueError
        return sort, place, None if total is None else int(total)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RequestError(f"after is {short(after)}: pass the `next` of the same search, or nothing") from None
