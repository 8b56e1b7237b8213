"""Downloads and converts the published weights for the page, on a background thread, one work at a time.

The work belongs to the process, not to a page. After a pause, a failure or a restart the next `fetch` resumes.
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
from app.models.download import PUBLISHED, download, lock_models
from app.models.hub import DownloadError
from app.models.sources import read_sources
from lavie.errors import LavieError
from lavie.events import Notice

DOWNLOAD, CONVERT = "download", "convert"  # works
IDLE, RUNNING, STOPPING, STOPPED, DONE, FAILED = "idle", "running", "stopping", "stopped", "done", "failed"  # states
_UNDER_WAY = (RUNNING, STOPPING)
_PROGRESS = ("rate", "seconds_left", "comparing")  # of some events
_STOP_SECONDS = 5.0  # wait at closing; a longer work ends with the process

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """The state of the work.

    Attributes:
        work: `download` or `convert`, current or last.
        name: of the current file or component; see `Downloading` for the fields after it.
        problem: why the work failed.
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
        """Whether the work runs or is stopping."""
        return self.state in _UNDER_WAY


class WeightsWork:
    """The work in a folder of models. Thread-safe."""

    def __init__(self, models: Path):
        self._models = models
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._standing = Standing()

    @property
    def standing(self) -> Standing:
        """The current state."""
        return self._standing

    def fetch(self, with_optional: bool = False) -> None:
        """Start or resume the download, then convert. Raises DownloadError if a work runs.

        with_optional: also the network that extends videos.
        """
        self._begin(DOWNLOAD, with_optional)

    def convert(self) -> None:
        """Start to convert the downloaded files. Raises DownloadError if a work runs."""
        self._begin(CONVERT)

    def pause(self) -> None:
        """Stop soon. Downloaded bytes stay; a conversion starts anew the next time."""
        with self._lock:
            if self._standing.state == RUNNING:
                self._standing = replace(self._standing, state=STOPPING)
                self._stop.set()

    def close(self) -> None:
        """Pause and wait for it, up to `_STOP_SECONDS`."""
        self.pause()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _begin(self, work: str, with_optional: bool = False) -> None:
        with self._lock:
            if self._standing.under_way:
                raise DownloadError("the weights are being fetched or converted already: wait for its end, or pause it")
            self._standing = Standing(work, RUNNING)
            self._stop.clear()
            # A daemon, so that the process can exit during a request.
            arguments = [work, with_optional]
            self._thread = threading.Thread(target=self._work, args=arguments, name="studio weights", daemon=True)
            self._thread.start()

    def _work(self, work: str, with_optional: bool) -> None:
        """Run the work. Sets the final state after the folder's lock is released."""
        try:
            with lock_models(self._models):
                end = {"state": DONE if self._run(work, with_optional) else STOPPED}
        except LavieError as error:
            end = {"state": FAILED, "problem": str(error)}
        except Exception as error:
            _log.exception("the published weights cannot be worked on")
            reason = f"{type(error).__name__}: {error}"
            end = {"state": FAILED, "problem": f"something went wrong inside ({reason}); the terminal shows where"}
        self._update(comparing=False, rate=0.0, seconds_left=None, **end)

    def _run(self, work: str, with_optional: bool) -> bool:
        """False if it was stopped. The conversion imports torch."""
        files = self._models / PUBLISHED
        sources = read_sources(self._models, os.environ)
        if work == DOWNLOAD and not self._follow(download(sources, files, with_optional)):
            return False
        from extensions.published.convert import convert

        self._update(work=CONVERT, name="", done=0, total=0, rate=0.0, seconds_left=None, comparing=False)
        return self._follow(convert(files, self._models / OFFICIAL))

    def _follow(self, events: Generator[typing.Any, None, None]) -> bool:
        """Update the state from events until they end; False if the work was stopped."""
        with contextlib.closing(events):
            for event in events:
                if isinstance(event, Notice):
                    self._update(notices=(*self._standing.notices, event.message))
                elif hasattr(event, "total"):  # `Downloading` or `Converting`
                    name = getattr(event, "file", None) or event.component
                    more = {one: getattr(event, one) for one in _PROGRESS if hasattr(event, one)}
                    self._update(name=name, done=event.done, total=event.total, **more)
                if self._stop.is_set():
                    return False
        return True

    def _update(self, **changes: typing.Any) -> None:
        with self._lock:
            self._standing = replace(self._standing, **changes)
