"""The published weights, fetched and made a model of by the studio itself: one work at a time, in a thread of its own.

It belongs to the process, not to a page. What came is on the disk: after a pause, a failure or a restart the next
`fetch` goes on from there. Knows no page; what is fetched, from where and how is `download`'s and `sources`'.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import typing
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from app.models.catalog import OFFICIAL
from app.models.download import PUBLISHED, alone, download
from app.models.hub import DownloadError
from app.models.sources import read_sources
from lavie.errors import LavieError
from lavie.events import Notice

DOWNLOAD, CONVERT = "download", "convert"  # works
IDLE, RUNNING, STOPPING, STOPPED, DONE, FAILED = "idle", "running", "stopping", "stopped", "done", "failed"  # states
_UNDER_WAY = (RUNNING, STOPPING)
_STOP_SECONDS = 5.0  # how long closing waits; what goes on for longer ends with the process

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How the work stands, at one moment.

    work: `download` or `convert`, the one under way or the last one. state: one of those above. name: of the file or
    component under way. done, total: bytes of all of it; total 0 while not known. rate: bytes a second. seconds_left:
    None while not known. comparing: whether all of `name` has come and its checksum is being compared. notices: what
    was said on the way. problem: why it failed.
    """

    work: str = DOWNLOAD
    state: str = IDLE
    name: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    comparing: bool = False
    notices: tuple[str, ...] = ()
    problem: str = ""

    @property
    def under_way(self) -> bool:
        """Whether it is being worked on."""
        return self.state in _UNDER_WAY


class WeightsWork:
    """The work in one folder of models. All methods may be called from any thread."""

    def __init__(self, models: Path):
        self._models = models
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._standing = Standing()

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        return self._standing

    def fetch(self, with_optional: bool = False) -> None:
        """Begin to fetch what is missing, or go on with it, and then to convert. Raises DownloadError at work.

        with_optional: also the network that extends videos.
        """
        self._begin(DOWNLOAD, with_optional)

    def convert(self) -> None:
        """Begin to make a model of what was fetched. Raises DownloadError at work."""
        self._begin(CONVERT)

    def pause(self) -> None:
        """Stop at the next piece; what has come stays, a conversion begins anew. Nothing where nothing is at work."""
        with self._lock:
            if self._standing.state == RUNNING:
                self._standing = replace(self._standing, state=STOPPING)
                self._stop.set()

    def close(self) -> None:
        """Pause, and wait for that a while."""
        self.pause()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _begin(self, work: str, with_optional: bool = False) -> None:
        with self._lock:
            if self._standing.under_way:
                raise DownloadError("the weights are being fetched or converted already: wait for its end, or pause it")
            self._standing = Standing(work, RUNNING)
            self._stop.clear()
            # A daemon, so that a process that ends does not hang on a connection.
            arguments = [work, with_optional]
            self._thread = threading.Thread(target=self._work, args=arguments, name="studio weights", daemon=True)
            self._thread.start()

    def _work(self, work: str, with_optional: bool) -> None:
        """All of it; how it ended is told when the folder is free again."""
        try:
            with alone(self._models):
                end = {"state": DONE if self._all(work, with_optional) else STOPPED}
        except LavieError as error:
            end = {"state": FAILED, "problem": str(error)}
        except Exception as error:
            _log.exception("the published weights cannot be worked on")
            reason = f"{type(error).__name__}: {error}"
            end = {"state": FAILED, "problem": f"something went wrong inside ({reason}); the terminal shows where"}
        self._tell(comparing=False, rate=0.0, seconds_left=None, **end)

    def _all(self, work: str, with_optional: bool) -> bool:
        """False where it was stopped. Imports torch for the conversion."""
        files = self._models / PUBLISHED
        sources = read_sources(self._models, os.environ)
        if work == DOWNLOAD and not self._follow(download(sources, files, with_optional)):
            return False
        from extensions.published.convert import convert

        self._tell(work=CONVERT, name="", done=0, total=0, rate=0.0, seconds_left=None, comparing=False)
        return self._follow(convert(files, self._models / OFFICIAL))

    def _follow(self, events: Generator[typing.Any, None, None]) -> bool:
        """Tell what is said, until it ends or is to stop; False for the latter."""
        with contextlib.closing(events):
            for event in events:
                if isinstance(event, Notice):
                    self._tell(notices=(*self._standing.notices, event.message))
                elif hasattr(event, "total"):
                    self._tell(**_progress(event))
                if self._stop.is_set():
                    return False
        return True

    def _tell(self, **changes: typing.Any) -> None:
        with self._lock:
            self._standing = replace(self._standing, **changes)


def _progress(event: typing.Any) -> dict[str, typing.Any]:
    """Of `Downloading` and of `Converting`."""
    name = getattr(event, "file", None) or event.component
    more = {one: getattr(event, one) for one in ("rate", "seconds_left", "comparing") if hasattr(event, one)}
    return {"name": name, "done": event.done, "total": event.total, **more}
