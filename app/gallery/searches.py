"""Searches that a person keeps under a name. The names are any text, as short as a tag."""

from __future__ import annotations

from app.gallery.query import Query
from app.gallery.store import Store
from app.gallery.values import check_tag
from app.sharing.visitor import at_home_only
from app.storage.database import now
from lavie.errors import RequestError, short


def save_search(store: Store, name: str, query: Query) -> None:
    """One of the same name is replaced."""
    at_home_only("no search can be kept")
    with store.database.write() as connection:
        values = {"name": check_tag(name), "query": query.to_json(), "created": now()}
        connection["saved_searches"].insert(values, replace=True)


def searches(store: Store) -> dict[str, Query]:
    """By name, in the order of the alphabet. One that this version cannot read any more is left out."""
    found = {}
    for row in store.database.query("SELECT name, query FROM saved_searches ORDER BY name"):
        try:
            found[row["name"]] = Query.from_json(row["query"])
        except RequestError:
            continue
    return found


def delete_search(store: Store, name: str) -> None:
    """Raises RequestError for a name that is not known."""
    at_home_only("no search can be removed")
    with store.database.write() as connection:
        if not connection.execute("DELETE FROM saved_searches WHERE name = ?", [name]).rowcount:
            raise RequestError(f"there is no saved search {short(name)}: look at the list of them")
