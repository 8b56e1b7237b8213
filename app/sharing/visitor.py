"""Who asks, where many share one studio: each sees what is theirs. At home, in commands and in the worker nobody in
particular asks, and sees all.

Kept in a context variable, so that whatever looks at jobs and clips on a visitor's behalf sees theirs alone, however it
came to look. Whose a job, its clip and a long video are stands in the table `owned`. Knows no request and no page.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from app.storage.database import Database, now
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.queue.job import JobRow
    from app.recipes.recipe import Job
    from app.recipes.training import Training
    from app.storage.database import Connection

_NAME = re.compile(r"|[0-9a-f]{64}")


def _all_are_admitted(task: Job | Training, line: Sequence[JobRow]) -> None:
    pass


@dataclass(frozen=True)
class Visitor:
    """name: a SHA-256 in hexadecimal digits, so that it can stand in SQL and tells nobody who it is; empty for nobody
    in particular. admit: raises RequestError where a task is too much beside the jobs that the visitor has in line.
    wall: looks at what all visitors have shared, in place of their own."""

    name: str = ""
    admit: Callable[[Job | Training, Sequence[JobRow]], None] = _all_are_admitted
    wall: bool = False

    def __post_init__(self):
        if not _NAME.fullmatch(self.name):
            raise ValueError("a visitor's name is a SHA-256")

    @property
    def own(self) -> str:
        """SQL: whether the column `id` names what is the visitor's."""
        return f"id IN (SELECT id FROM owned WHERE owner = '{self.name}')" if self.name else "TRUE"

    @property
    def seen(self) -> str:
        """SQL: whether the column `id` names what the visitor may look at: theirs, and what was shared."""
        own = f"id IN (SELECT id FROM owned WHERE owner = '{self.name}' OR shared IS NOT NULL)"
        return own if self.name else "TRUE"

    @property
    def listed(self) -> str:
        """SQL: whether the column `id` names what the visitor's lists show."""
        return "id IN (SELECT id FROM owned WHERE shared IS NOT NULL)" if self.wall else self.own


ANONYMOUS = Visitor()
_asking: ContextVar[Visitor] = ContextVar("visitor", default=ANONYMOUS)


def visitor() -> Visitor:
    """Who asks."""
    return _asking.get()


@contextmanager
def as_visitor(who: Visitor) -> Iterator[None]:
    """For as long as the block lasts, `who` asks."""
    token = _asking.set(who)
    try:
        yield
    finally:
        _asking.reset(token)


@contextmanager
def in_public_gallery() -> Iterator[None]:
    """Look at what was shared."""
    with as_visitor(replace(visitor(), wall=True)):
        yield


def at_home_only(what: str) -> None:
    """Raises RequestError for a visitor. what: is done to something that all share."""
    if visitor().name:
        raise RequestError(f"{what} here, where many share one studio: duplicate this Space, or run the studio at home")


def note_owner(connection: Connection, id: str) -> None:
    """Whoever asks is whose it is; part of the caller's transaction."""
    if visitor().name:
        connection["owned"].insert({"id": id, "owner": visitor().name})


def check_own(database: Database, id: str) -> None:
    """Raises RequestError where a visitor would change what is not theirs."""
    if visitor().name and not database.query(f"SELECT 1 FROM owned WHERE id = ? AND {visitor().own}", [id]):
        raise RequestError(f"{id} is another visitor's: make your own of it")


def share(database: Database, id: str, shared: bool = True) -> None:
    """Show a clip of the visitor's on the wall, or take it away from there. Raises RequestError for another's."""
    check_own(database, id)
    with database.write() as connection:
        connection.execute("UPDATE owned SET shared = ? WHERE id = ?", [now() if shared else None, id])


def shared_ids(database: Database) -> set[str]:
    """Of the visitor's clips, those on the wall."""
    rows = database.query(f"SELECT id FROM owned WHERE shared IS NOT NULL AND {visitor().own}")
    return {row["id"] for row in rows}
