"""Visitors of a studio that many share: what each of them sees, may change, and may have in line.

At home, in commands and in the worker there is no visitor, and everything is visible. The visitor is kept in a context
variable, so that every query of a request sees the same. The table `owned` says whose a job, its clip or a long video
is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from app.config import StudioConfig
from app.models.card import ModelCard
from app.recipes.job_row import TRAIN, JobRow
from app.recipes.recipe import Job
from app.recipes.segments import course_of, fit_plan
from app.recipes.training import Training
from app.storage.database import Connection, Database, now
from lavie.errors import RequestError

Admit = Callable[[Job | Training, Sequence[JobRow]], None]
_NAME = re.compile(r"|[0-9a-f]{64}")


@dataclass(frozen=True)
class Visitor:
    """A visitor of the studio.

    Attributes:
        name: SHA-256 in hexadecimal digits: safe in SQL, and tells nobody who it is. Empty for nobody in particular.
        admit: raises RequestError if a task is too much beside the jobs that the visitor has in line.
        wall: look at what all visitors have shared instead of the visitor's own.
    """

    name: str = ""
    admit: Admit = lambda task, line: None
    wall: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a visitor's name is a SHA-256")

    @property
    def own(self) -> str:
        """SQL condition: the column `id` names something of the visitor's."""
        return f"id IN (SELECT id FROM owned WHERE owner = '{self.name}')" if self.name else "TRUE"

    @property
    def seen(self) -> str:
        """SQL condition: the column `id` names something that the visitor may look at, their own or shared."""
        own = f"id IN (SELECT id FROM owned WHERE owner = '{self.name}' OR shared IS NOT NULL)"
        return own if self.name else "TRUE"

    @property
    def listed(self) -> str:
        """SQL condition: the column `id` names something that the visitor's lists show."""
        return "id IN (SELECT id FROM owned WHERE shared IS NOT NULL)" if self.wall else self.own


ANONYMOUS = Visitor()
_visitor: ContextVar[Visitor] = ContextVar("visitor", default=ANONYMOUS)


def visitor() -> Visitor:
    """The current visitor."""
    return _visitor.get()


@contextmanager
def as_visitor(who: Visitor) -> Iterator[None]:
    """Make `who` the current visitor inside the block."""
    token = _visitor.set(who)
    try:
        yield
    finally:
        _visitor.reset(token)


@contextmanager
def in_public_gallery() -> Iterator[None]:
    """Show what all visitors have shared inside the block."""
    with as_visitor(replace(visitor(), wall=True)):
        yield


def at_home_only(what: str) -> None:
    """Raises RequestError for a visitor. what: describes the change of something that all share."""
    if visitor().name:
        raise RequestError(f"{what} here, where many share one studio: duplicate this Space, or run the studio at home")


def note_owner(connection: Connection, id: str) -> None:
    """Make the current visitor the owner, as part of the caller's transaction."""
    if visitor().name:
        connection.table("owned").insert({"id": id, "owner": visitor().name})


def check_own(database: Database, id: str) -> None:
    """Raises RequestError if a visitor wants to change something that is not theirs."""
    if visitor().name and not database.query(f"SELECT 1 FROM owned WHERE id = ? AND {visitor().own}", [id]):
        raise RequestError(f"{id} is another visitor's: make your own of it")


def share(database: Database, id: str, shared: bool = True) -> None:
    """Show a clip of the visitor's in the public gallery, or no longer. Raises RequestError for another's."""
    check_own(database, id)
    with database.write() as connection:
        connection.execute("UPDATE owned SET shared = ? WHERE id = ?", [now() if shared else None, id])


def list_shared(database: Database) -> set[str]:
    """Ids of the visitor's clips in the public gallery."""
    rows = database.query(f"SELECT id FROM owned WHERE shared IS NOT NULL AND {visitor().own}")
    return {row["id"] for row in rows}


def limit_admission(config: StudioConfig) -> Admit:
    """Checks a task against `LAVIE_LIMIT_JOBS` and `LAVIE_LIMIT_SECONDS`; raises RequestError."""

    def admit(task: Job | Training, line: Sequence[JobRow]) -> None:
        limits = config.limits
        if limits.jobs is not None and len(line) >= limits.jobs:
            raise RequestError(f"{len(line)} jobs of yours are in line, as many as may be here: wait for one to end")
        if limits.seconds is None:
            return
        waiting = sum(_count_seconds(config, row.job) for row in line if row.kind != TRAIN)
        asked = _count_seconds(config, task)
        if waiting + asked > limits.seconds:
            raise RequestError(
                f"this makes {asked:g} s of video, {waiting:g} s of yours are in line, and {limits.seconds:g} s may "
                "be: ask for less, or wait"
            )

    return admit


def _count_seconds(config: StudioConfig, task: Job | Training) -> float:
    """Seconds of video that a task makes; 0 for a training, or if the model does not tell the length of its clips."""
    if isinstance(task, Training):
        return 0.0
    card = ModelCard.read(replace(config, model=task.model).bundle)
    if card is None:
        return 0.0
    whole = card.fill_size(task.request)
    frames, fps = whole.frames or card.frames, whole.fps or card.fps
    if task.long is None:
        return frames / fps
    return course_of(replace(task, request=whole, long=fit_plan(task.long, frames))).frames / fps
