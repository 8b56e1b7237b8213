"""Finds pages of clips in a time that does not grow with the page's depth; counts tags and models; saves searches.

The statements name the index to walk along, since SQLite guesses wrong at some sizes: the matches of the full-text
index, or one of the narrow indexes that hold all filters (`app.storage.schema`). Conditions on other tables come in as
sets of primary keys.

Few clips or stacks are all fetched and sorted. Of many, only those of the page are read: clips in the order of the
sort; for stacks, each clip is tested for being the one by which its stack is sorted.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from app.gallery.clip import Page, age_of, check_tag
from app.gallery.gallery import Gallery
from app.gallery.query import Query
from app.gallery.words import match_expression
from app.sharing import at_home_only, visitor
from app.storage.database import now
from lavie.errors import RequestError, short

_RATING_STEP = 2**52  # above any age: packs a rating and an age into one number
_BEST = f"max(rating * {_RATING_STEP} + pk)"  # of a stack: the best rated clip, the newest of several
BEST_PK = f"{_BEST} % {_RATING_STEP}"


@dataclass(frozen=True)
class Order:
    """An order of clips and stacks.

    Attributes:
        key: a clip is sorted by this, then by its primary key.
        stack_key, stack_tie: the same for a stack, which is sorted by one of its clips.
        index: walks all clips in this order.
        mates, mates_order: index and order of a stack's clips, in which the clip that it is sorted by comes first.
        ascending: smallest first.
    """

    key: str
    stack_key: str
    stack_tie: str
    index: str = ""
    mates: str = ""
    mates_order: str = ""
    ascending: bool = False

    def order_by(self, key: str, tie: str) -> str:
        """The terms of ORDER BY. key, tie: names of the two columns there."""
        direction = "ASC" if self.ascending else "DESC"
        return ", ".join(f"{name} {direction}" for name in self._place(key, tie))

    def beyond(self, key: str, tie: str) -> str:
        """The condition for clips or stacks after :key and :tie."""
        names, values = (", ".join(self._place(*pair)) for pair in ((key, tie), (":key", ":tie")))
        return f"({names}) {'>' if self.ascending else '<'} ({values})"

    def _place(self, key: str, tie: str) -> tuple[str, ...]:
        return (tie,) if self.key == "0" else (key, tie)


_BY_BEST: dict[str, Any] = {
    "stack_tie": BEST_PK,
    "mates": "clips_by_stack_rating",
    "mates_order": "rating DESC, pk DESC",
}
_BY_AGE: dict[str, Any] = {"key": "0", "stack_key": "0", "index": "clips_by_age", "mates": "clips_by_stack"}
ORDERS = {
    "newest": Order(**_BY_AGE, stack_tie="max(pk)", mates_order="pk DESC"),
    "oldest": Order(**_BY_AGE, stack_tie="min(pk)", mates_order="pk", ascending=True),
    "rating": Order("rating", f"{_BEST} / {_RATING_STEP}", index="clips_by_rating", **_BY_BEST),
    # SQLite takes a column beside max() from the row of the maximum: the best clip.
    "longest": Order("duration", "duration", index="clips_by_duration", **_BY_BEST),
    "relevance": Order("-rank", "max(-rank)", "max(pk)"),  # only for few clips, which are all sorted
}


MAX_LIMIT = 1000
_COUNTED = {"tag": "clip_tags", "adapter": "clip_adapters", "model": "", "stages": ""}  # column → its table
_FEW = 10_000  # clips: if more match a text, they are sorted by age instead of relevance
_MANY = 1_000  # clips or stacks: more are not all sorted for a page; more stacks of a text are not counted
_GLANCE = 10_000  # clips of a text: they hold many stacks, or can all be fetched in good time


@dataclass(frozen=True)
class _Walk:
    """FROM and WHERE of a statement with the values. pk: name of a clip's primary key there."""

    source: str
    where: str
    values: dict[str, Any]
    pk: str


def find_clips(gallery: Gallery, query: Query = Query(), after: str | None = None, limit: int = 24) -> Page:
    """A page of the clips that a query finds. Raises RequestError.

    after: `next` of the page before; its total is reused, since counting costs more than a page.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise RequestError(f"limit is {short(limit)}: give a whole number from 1 to {MAX_LIMIT}")
    if after is None:
        sort, last = _sort(gallery, query), None
        total, many = _extent(gallery, query, sort)
    else:
        sort, last, total = _parse_after(query, after)
        many = total is None or (total > _MANY and not _counts_few_only(query))
    rows = _rows(gallery, query, sort, many, last, limit + 1) if total != 0 else []
    if total is None and not many:
        total = rows[0]["total"] if rows else 0
    shown = rows[:limit]
    clips = gallery.load([row["pk"] for row in shown])
    if query.stacked:
        counts = {row["pk"]: row["count"] for row in shown}
        clips = [replace(clip, count=counts[age_of(clip.created)]) for clip in clips]
    more = json.dumps([sort, shown[-1]["key"], shown[-1]["tie"], total]) if len(rows) > limit else None
    return Page(tuple(clips), more, _MANY if total is None else total, total is not None)


def find_keys(gallery: Gallery, query: Query) -> list[int]:
    """Primary keys of all clips that a query finds, the oldest first, with all clips of stacks."""
    walk = _walk(replace(query, stacked=False))
    sql = f"SELECT pk FROM {walk.source} WHERE {walk.where} ORDER BY {walk.pk}"
    return [row["pk"] for row in gallery.database.query(sql, walk.values)]


def count_values(gallery: Gallery, name: str) -> dict[Any, int]:
    """Every `tag`, `adapter`, `model` or `stages` outside the trash with its number of clips, the most used first."""
    if name not in _COUNTED:
        raise RequestError(f"there is no list of {short(name)}: choose model, stages or adapter")
    table = _COUNTED[name]
    if table and not visitor().name:
        # Count all clips and subtract the few in the trash: cheaper than reading each clip.
        counts = f"""SELECT value, sum(n) AS n FROM (
            SELECT {name} AS value, count(*) AS n FROM {table} GROUP BY value
            UNION ALL
            SELECT {name}, -1 FROM clips CROSS JOIN {table} ON clip = pk WHERE trashed IS NOT NULL
            ) GROUP BY value HAVING sum(n) > 0"""
    else:
        source = f"{table} JOIN clips ON pk = clip" if table else "clips"
        source += f" WHERE {visitor().listed} AND" if visitor().name else f" INDEXED BY clips_by_{name} WHERE"
        counts = f"SELECT {name} AS value, count(*) AS n FROM {source} trashed IS NULL GROUP BY value"
    rows = gallery.database.query(f"{counts} ORDER BY n DESC, value")
    return {row["value"]: row["n"] for row in rows}


def _counts_few_only(query: Query) -> bool:
    """Whether a large total is left out: counting the stacks of a common word takes too long."""
    return query.stacked and any(match_expression(query.text))


def _extent(gallery: Gallery, query: Query, sort: str) -> tuple[int | None, bool]:
    """The number of clips or stacks that a query finds, None where it is not known yet; and whether it is large."""
    if not _counts_few_only(query):
        total = _count(gallery, query, _walk(query, "clips_by_stack" if query.stacked else "clips_by_age"))
        return total, total > _MANY
    if sort == "relevance":
        return None, False
    return None, _count(gallery, query, _walk(query, hits=_GLANCE), most=_MANY + 1) > _MANY


def _count(gallery: Gallery, query: Query, walk: _Walk, most: int = -1) -> int:
    what = "DISTINCT stack" if query.stacked else "1"
    sql = f"SELECT count(*) AS n FROM (SELECT {what} FROM {walk.source} WHERE {walk.where} LIMIT {most})"
    return int(gallery.database.query(sql, walk.values)[0]["n"])


def _rows(
    gallery: Gallery, query: Query, sort: str, many: bool, last: tuple[float, int] | None, limit: int
) -> list[dict[str, Any]]:
    """Rows with pk of the clip, key and tie that the page is sorted by, and for stacks count."""
    goes_on = last is not None
    if not query.stacked:
        sql, values = _select_clips(query, sort, many, goes_on)
    else:
        sql, values = (_select_stacks_of_many if many else _select_stacks)(query, sort, goes_on)
    place = {"key": last[0], "tie": last[1]} if last is not None else {}
    return gallery.database.query(sql, {**values, **place, "limit": limit})


def _select_clips(query: Query, sort: str, many: bool, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The statement for clips."""
    order = ORDERS[sort]
    walk = _walk(query, order.index if many and order.index else "clips_by_age", ranked=sort == "relevance")
    beyond = f"AND {order.beyond(order.key, walk.pk)}" if goes_on else ""
    sql = f"""
        SELECT pk, {order.key} AS key, {walk.pk} AS tie FROM {walk.source} WHERE {walk.where} {beyond}
        ORDER BY {order.order_by(order.key, walk.pk)} LIMIT :limit"""
    return sql, walk.values


def _select_stacks(query: Query, sort: str, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The statement for stacks that fetches and counts all."""
    order, ranked = ORDERS[sort], sort == "relevance"
    walk = _walk(query, "clips_by_age" if ranked else "clips_by_stack", ranked=ranked)
    columns = f"{BEST_PK} AS pk, count(*) AS count, {order.stack_key} AS key, {order.stack_tie} AS tie"
    beyond = f"WHERE {order.beyond('key', 'tie')}" if goes_on else ""
    sql = f"""
        WITH found AS MATERIALIZED (SELECT {columns} FROM {walk.source} WHERE {walk.where} GROUP BY stack)
        SELECT *, (SELECT count(*) FROM found) AS total FROM found {beyond}
        ORDER BY {order.order_by("key", "tie")} LIMIT :limit"""
    return sql, walk.values


def _select_stacks_of_many(query: Query, sort: str, goes_on: bool) -> tuple[str, dict[str, Any]]:
    """The statement for stacks that reads only those of the page.

    Clips are walked in the order of the sort; a clip stands for its stack if it is the first of the stack's matches.
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
            ORDER BY {order.order_by(order.key, "pk")} LIMIT :limit
        )
        SELECT {BEST_PK} AS pk, count(*) AS count, key, tie FROM page CROSS JOIN {walk.source} ON stack = number
        WHERE {walk.where} GROUP BY key, tie ORDER BY {order.order_by("key", "tie")}"""
    return sql, walk.values


def _walk(query: Query, index: str = "clips_by_age", *, ranked: bool = False, hits: int = -1) -> _Walk:
    """Walks along an index, or along the text's matches if that is by age. ranked: with `rank`. hits: most matches."""
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
    """The conditions apart from the text, and the values by name."""
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
    # The + keeps SQLite from reading the clips of a set one by one, out of order; that is right only for small sets.
    sets = [(f"{pk} IN (SELECT pk FROM clips WHERE {name}", name, getattr(query, name)) for name in ("seed", "parent")]
    sets += [(f"+{pk} IN (SELECT clip FROM clip_tags WHERE tag", f"tag{n}", tag) for n, tag in enumerate(query.tags)]
    sets += [(f"+{pk} IN (SELECT clip FROM clip_adapters WHERE adapter", "adapter", query.adapter)]
    filters += [(f"{text} =", name, value) for text, name, value in sets]
    values = {name: value for _, name, value in filters if value is not None}
    parts += [f"{text} :{name}{')' if '(' in text else ''}" for text, name, value in filters if value is not None]
    return parts, values


def _sort(gallery: Gallery, query: Query) -> str:
    """The sort to use: relevance needs a text that few clips match."""
    if query.sort != "relevance":
        return query.sort
    wanted, _ = match_expression(query.text)
    if not wanted:
        return "newest"
    sql = "SELECT count(*) AS n FROM (SELECT 1 FROM clips_text WHERE clips_text MATCH ? LIMIT ?)"
    return "relevance" if gallery.database.query(sql, [wanted, _FEW + 1])[0]["n"] <= _FEW else "newest"


def _parse_after(query: Query, after: str) -> tuple[str, tuple[float, int], int | None]:
    """The sort of an earlier page, where it ended, and its total, None where that was not counted."""
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


def save_search(gallery: Gallery, name: str, query: Query) -> None:
    """Save a query under a name; replaces a saved one of that name."""
    at_home_only("no search can be kept")
    with gallery.database.write() as connection:
        values = {"name": check_tag(name), "query": query.to_json(), "created": now()}
        connection.table("saved_searches").insert(values, replace=True)


def list_searches(gallery: Gallery) -> dict[str, Query]:
    """The saved queries by name, in alphabetical order, without those that this version cannot read."""
    found = {}
    for row in gallery.database.query("SELECT name, query FROM saved_searches ORDER BY name"):
        with contextlib.suppress(RequestError):
            found[row["name"]] = Query.from_json(row["query"])
    return found


def delete_search(gallery: Gallery, name: str) -> None:
    """Raises RequestError for an unknown name."""
    at_home_only("no search can be removed")
    with gallery.database.write() as connection:
        if not connection.execute("DELETE FROM saved_searches WHERE name = ?", [name]).rowcount:
            raise RequestError(f"there is no saved search {short(name)}: look at the list of them")
