"""How the studio stands, pushed to every open page: a job goes on whether a page watches or not.

A page holds one connection (server-sent events) and is told only what changed since the last message, as fragments of
HTML by name. Twenty idle pages cost next to nothing; gradio's own timers would ask the server from each of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import typing
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.models.jobs import Standing
from app.queue.job import RUNNING, TRAIN, JobRow
from app.queue.status import JobStatus
from app.storage.training_folder import CHECKPOINTS, LOSSES, SAMPLES, training_folder
from app.studio import Studio
from app.ui import html
from app.ui.i18n import Languages
from app.ui.settings.models import under_way

if typing.TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

LOOK_SECONDS = 0.25  # between two looks at the database, however many pages are open
ALIVE_SECONDS = 15  # between two signs of life, so that proxies keep the connection
SHOWN_WAITING = 50  # jobs in the list; the rest is a number


@dataclass(frozen=True)
class Board:
    """What all pages show, at one moment.

    current: the job that runs or, if none does, the last one that ended. line: the jobs that wait, the next one first.
    model: `loading`, `ready`, or what is wrong with it. changed: another text whenever a clip is new or a job begins or
    ends. part: another text whenever a part of a long video is made, or one that is worked on is changed, whenever a
    training has something new to show, when the model can be asked, and when work on the published weights begins or
    ends. left: of `current`. waiting_seconds: what the line will take; None where that is not known. weights: how that
    work stands.
    """

    current: JobStatus | None
    line: tuple[JobRow, ...]
    counts: Mapping[str, int]
    paused: bool
    model: str
    changed: str
    part: str
    left: html.Left | None
    waiting_seconds: float | None
    weights: Standing
    fragments: dict[str, dict[str, typing.Any]] = field(default_factory=dict)  # by language, made when first asked for


class Live:
    """The studio's state for pages. All methods may be called from any thread.

    clock: seconds, never going back.
    """

    def __init__(self, studio: Studio, languages: Languages, clock: Callable[[], float] = time.monotonic):
        self._studio, self._languages, self._clock = studio, languages, clock
        self._estimates = studio.estimates
        self._lock = threading.Lock()
        self._looked, self._board = float("-inf"), None
        self._pace = Pace(clock)
        self._reckoned: tuple[object, float | None] = (None, None)
        self.closed = False

    def fragments(self, language: str | None) -> dict[str, typing.Any]:
        """Name of a slot → what it shows now."""
        with self._lock:
            if self._clock() - self._looked >= LOOK_SECONDS:
                self._board = self._look()
                self._looked = self._clock()
            board, words = self._board, self._languages.words(language)
            if words.language not in board.fragments:
                weights = {"weights": under_way(board.weights, words)}
                board.fragments[words.language] = html.fragments(board, words) | weights
            return board.fragments[words.language]

    async def stream(self, language: str | None, gone: Callable[[], typing.Awaitable[bool]]) -> AsyncIterator[str]:
        """The messages to one page, until it is gone or the studio closes."""
        from starlette.concurrency import run_in_threadpool

        told: dict[str, typing.Any] = {}
        spoken = self._clock()
        while not self.closed and not await gone():
            now = await run_in_threadpool(self.fragments, language)
            news = {name: value for name, value in now.items() if name not in told or told[name] != value}
            if news or self._clock() - spoken >= ALIVE_SECONDS:
                told |= news
                spoken = self._clock()
                yield f"data: {json.dumps(news)}\n\n" if news else ": alive\n\n"
            await asyncio.sleep(LOOK_SECONDS)

    async def respond(self, request: HttpRequest) -> Response:
        """The route."""
        from starlette.responses import StreamingResponse

        language = self._languages.of(request.headers).language
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self.stream(language, request.is_disconnected), media_type="text/event-stream", headers=headers
        )

    def _look(self) -> Board:
        studio = self._studio
        counts = studio.jobs.counts()
        line = studio.jobs.line(SHOWN_WAITING)
        running = [row for row in line if row.state == RUNNING]
        current = running[0] if running else next(iter(studio.jobs.recent(1)), None)
        snapshot = studio.job(current.id) if current else None
        waiting = tuple(row for row in line if row.state != RUNNING)
        left = self._left(snapshot) if running else None
        newest, weights = studio.gallery.newest(), studio.weights.standing
        parts = (current and (current.stage, current.part), self._projects(), self._learned(current))
        return Board(
            current=snapshot,
            line=waiting,
            counts=counts,
            paused=studio.jobs.queue_paused,
            model=studio.model_state,
            changed=f"{newest and newest.id} {current and (current.id, current.state)}",
            part=f"{parts} {len(waiting)} {studio.model_state} {weights.work} {weights.state}",
            left=left,
            waiting_seconds=self._seconds_of(waiting, newest and newest.id),
            weights=weights,
        )

    def _seconds_of(self, waiting: tuple[JobRow, ...], newest: str | None) -> float | None:
        """What the line will take, reckoned anew when it or what is known has changed."""
        if len(waiting) >= SHOWN_WAITING:
            return None
        known = (newest, tuple(row.job_json for row in waiting))
        if known != self._reckoned[0]:
            self._reckoned = known, self._estimates.of_jobs(waiting)
        return self._reckoned[1]

    def _projects(self) -> str:
        """Another text whenever a long video that is worked on has been changed."""
        (found,) = self._studio.database.query("SELECT count(*) AS number, max(updated) AS updated FROM projects")
        return f"{found['number']} {found['updated']}"

    def _learned(self, current: JobRow | None) -> str:
        """Another text whenever the training under way has written something that is shown."""
        if current is None or current.kind != TRAIN:
            return ""
        folder = training_folder(self._studio.config.data, current.id)
        written = (_changed(folder / name) for name in (LOSSES, SAMPLES, CHECKPOINTS))
        return f"{current.asked} {len(current.notices)} {' '.join(written)}"

    def _left(self, snapshot: JobStatus) -> html.Left | None:
        """How long the part and the stage under way, and the whole job, still take."""
        row = snapshot.row
        if row.kind == TRAIN and row.stage is not None:
            a_step = self._pace.seconds_a_step(row)
            return None if a_step is None else html.Left(a_step * (row.steps - row.step))
        if row.recipe is None or row.stage is None:
            return None
        own = self._pace.seconds_a_step(row)
        left = self._of_stages(row, own)
        if left is None or not row.parts:
            return left
        part = self._studio.long.left(row, own)
        return replace(left, part=part and part.segment)

    def _of_stages(self, row: JobRow, own: float | None) -> html.Left | None:
        """Of the stage and the whole job. own: seconds a step, as they were measured in this stage."""
        stages = self._estimates.of_recipe(row.recipe)
        known = stages.get(row.stage)
        a_step = own if own is not None else known and known / max(row.steps, 1)
        if a_step is None:
            return None
        stage = a_step * (row.steps - row.step)
        reached = list(stages).index(row.stage) if row.stage in stages else 0
        times = list(stages.values())
        before, behind = times[:reached], times[reached + 1 :]
        if None in (*before, *behind):
            return html.Left(stage)
        passed, whole = sum(before) + a_step * row.step, stage + sum(behind)
        return html.Left(stage, whole, passed / (passed + whole) if passed + whole else 1.0)


def _changed(path: Path) -> str:
    """Another text whenever a file or a folder's list has changed."""
    try:
        return str(path.stat().st_mtime_ns)
    except OSError:  # there is none yet
        return ""


class Pace:
    """How fast the job under way has gone since it was first seen in its stage."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._stage: tuple[str, str | None, int] | None = None
        self._since = (0.0, 0)

    def seconds_a_step(self, row: JobRow) -> float | None:
        """None until two steps were seen to pass."""
        stage, now = (row.id, row.stage, row.attempts), self._clock()
        if stage != self._stage:
            self._stage, self._since = stage, (now, row.step)
        began, first = self._since
        return (now - began) / (row.step - first) if row.step - first >= 2 else None
