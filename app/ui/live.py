"""Pushes the studio's state to every open page as server-sent events.

Each page gets a message only when a fragment of HTML has changed. All pages share one look at the database.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse

from app.recipes.job_row import RUNNING, TRAIN, JobRow
from app.sharing import Visitor
from app.storage.training_folder import CHECKPOINTS, LOSSES, SAMPLES, training_folder
from app.studio import Studio
from app.ui import html
from app.ui.i18n import Languages
from app.ui.public.visitors import Visitors
from app.ui.state import StudioState, TimeLeft

LOOK_SECONDS = 0.25  # between two looks at the database, and between two messages to a page
ALIVE_SECONDS = 15  # between two comments that keep proxies from closing an idle connection
SHOWN_WAITING = 50  # jobs in the list; the rest is a number
_MOST_VISITORS = 1000  # whose state is kept in memory


class Revision:
    """Counts how often an observed value has changed."""

    def __init__(self) -> None:
        self._number, self._value = 0, None

    def observe(self, value: typing.Any) -> int:
        """The number of changes so far, `value` included."""
        if value != self._value:
            self._number, self._value = self._number + 1, value
        return self._number


class Live:
    """The studio's state as HTML fragments. All methods may be called from any thread.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, studio: Studio, languages: Languages, clock: Callable[[], float] = time.monotonic):
        self._studio, self._languages, self._clock = studio, languages, clock
        self._lock = threading.Lock()
        self._state: StudioState | None = None
        self._read_at = float("-inf")
        self._revision, self._part_revision = Revision(), Revision()
        self._pace = Pace(clock)
        self._line_key: typing.Any = None
        self._line_seconds: float | None = None
        self.closed = False

    def fragments(self, language: str | None) -> dict[str, typing.Any]:
        """Name of a slot → its current content."""
        with self._lock:
            if self._state is None or self._clock() - self._read_at >= LOOK_SECONDS:
                self._state = self._read_state()
                self._read_at = self._clock()
            words, cache = self._languages.words(language), self._state.fragments
            if words.language not in cache:
                cache[words.language] = html.fragments(self._state, words)
            return cache[words.language]

    async def stream(self, language: str | None, gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
        """Messages for one page until it is gone or the studio closes."""
        sent: dict[str, typing.Any] = {}
        sent_at = self._clock()
        while not self.closed and not await gone():
            current = await run_in_threadpool(self.fragments, language)
            news = {name: value for name, value in current.items() if name not in sent or sent[name] != value}
            if news or self._clock() - sent_at >= ALIVE_SECONDS:
                sent |= news
                sent_at = self._clock()
                yield f"data: {json.dumps(news)}\n\n" if news else ": alive\n\n"
            await asyncio.sleep(LOOK_SECONDS)

    async def respond(self, request: HttpRequest) -> StreamingResponse:
        """The route `studio/live`."""
        language = self._languages.of(request.headers).language
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self.stream(language, request.is_disconnected), media_type="text/event-stream", headers=headers
        )

    def _read_state(self) -> StudioState:
        studio = self._studio
        line = studio.queue.line(SHOWN_WAITING)
        running = next((row for row in line if row.state == RUNNING), None)
        current = running or next(iter(studio.queue.recent(1)), None)
        status = studio.job(current.id) if current else None
        waiting = tuple(row for row in line if row.state != RUNNING)
        newest, weights, model = studio.gallery.newest(), studio.weights.standing, studio.models.state
        newest_id = newest.id if newest else None
        parts = current and (current.stage, current.part, self._training_output(current))
        return StudioState(
            current=status,
            line=waiting,
            counts=studio.queue.counts(),
            paused=studio.queue.queue_paused,
            model=model,
            revision=self._revision.observe((newest_id, current and (current.id, current.state))),
            part_revision=self._part_revision.observe(
                (parts, self._projects(), len(waiting), model, weights.work, weights.state)
            ),
            left=self._time_left(running) if running else None,
            waiting_seconds=self._estimate_line(waiting, newest_id),
            weights=weights,
        )

    def _estimate_line(self, waiting: tuple[JobRow, ...], newest: str | None) -> float | None:
        """Seconds for all waiting jobs, estimated again when the line or the newest clip has changed."""
        if len(waiting) >= SHOWN_WAITING:
            return None
        key = newest, tuple(row.job_json for row in waiting)
        if key != self._line_key:
            self._line_key, self._line_seconds = key, self._studio.estimates.of_jobs(waiting)
        return self._line_seconds

    def _projects(self) -> tuple[int, str | None]:
        """Changes with every edit of a long video."""
        (row,) = self._studio.database.query("SELECT count(*) AS number, max(updated) AS updated FROM projects")
        return row["number"], row["updated"]

    def _training_output(self, row: JobRow) -> tuple[typing.Any, ...] | None:
        """Changes with everything that the current training has written for the page."""
        if row.kind != TRAIN:
            return None
        folder = training_folder(self._studio.config.data, row.id)
        written = (_modified(folder / name) for name in (LOSSES, SAMPLES, CHECKPOINTS))
        return row.asked, len(row.notices), *written

    def _time_left(self, row: JobRow) -> TimeLeft | None:
        """Time left of the running job; None while it cannot be estimated."""
        if row.stage is None:
            return None
        measured = self._pace.seconds_a_step(row)
        if row.kind == TRAIN:
            return None if measured is None else TimeLeft(measured * (row.steps - row.step))
        if row.recipe is None:
            return None
        left = self._time_left_of_stages(row, row.recipe, measured)
        if left is None or not row.parts:
            return left
        part = self._studio.estimates.left_of_long(row, measured)
        return replace(left, part=part.segment if part else None)

    def _time_left_of_stages(self, row: JobRow, recipe: str, measured: float | None) -> TimeLeft | None:
        """Time left of the stage and the whole job.

        Args:
            measured: Seconds a step in this stage; None uses those of past runs.
        """
        stages = self._studio.estimates.of_recipe(recipe)
        past = stages.get(row.stage or "")
        a_step = measured if measured is not None else past and past / max(row.steps, 1)
        if a_step is None:
            return None
        stage = a_step * (row.steps - row.step)
        reached = list(stages).index(row.stage) if row.stage in stages else 0
        times = list(stages.values())
        before, after = times[:reached], times[reached + 1 :]
        if None in (*before, *after):
            return TimeLeft(stage)
        passed = sum(filter(None, before)) + a_step * row.step
        whole = stage + sum(filter(None, after))
        return TimeLeft(stage, whole, passed / (passed + whole) if passed + whole else 1.0)


class LiveForEach:
    """One `Live` for each visitor of a shared studio."""

    def __init__(self, studio: Studio, languages: Languages, visitors: Visitors):
        self._studio, self._languages, self._visitors = studio, languages, visitors
        self._of: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._closed = closed
        with self._lock:
            for live in self._of.values():
                live.closed = closed

    async def respond(self, request: HttpRequest) -> StreamingResponse:
        """The route `studio/live`."""
        return await self.live(self._visitors.of(request)).respond(request)

    def live(self, visitor: Visitor) -> Live:
        """The visitor's state. The least recently used one is dropped; its open pages keep it."""
        with self._lock:
            live = self._of.pop(visitor.name, None) or Live(self._studio, self._languages)
            self._of[visitor.name] = live
            live.closed = self._closed
            if len(self._of) > _MOST_VISITORS:
                del self._of[next(iter(self._of))]
        return live


class Pace:
    """Measures the seconds a step of the running job since its stage was first seen."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._stage: tuple[str, str | None, int] | None = None
        self._since = (0.0, 0)

    def seconds_a_step(self, row: JobRow) -> float | None:
        """None until two steps have passed."""
        stage, now = (row.id, row.stage, row.attempts), self._clock()
        if stage != self._stage:
            self._stage, self._since = stage, (now, row.step)
        began, first = self._since
        return (now - began) / (row.step - first) if row.step - first >= 2 else None


def _modified(path: Path) -> int | None:
    """Time of the last change of a file or a folder's list; None if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
