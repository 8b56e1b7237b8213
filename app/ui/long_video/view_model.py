"""What the tab shows of one long video, as a value: what `table`, `timeline` and the others make HTML of.

Knows neither the studio nor a widget.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.queue.job import CANDIDATES, RUNNING, WAITING
from extensions.long_video.plan import Layout

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.long_videos.projects import Project
    from app.queue.status import JobStatus
    from extensions.long_video.metrics import Report
    from extensions.long_video.plan import SegmentPlan

ROWS = 40  # segments on a page of the table
HUES = 8  # colours that prompts are told apart by (`lv-hue-0` … in the style sheet)


@dataclass(frozen=True)
class View:
    """What one open page looks at: nothing of it is worth keeping.

    project: id of the long video, empty for none. chosen: the segment that is marked, from 0. page: of the table. said:
    HTML of what happened last. focus: where the person goes on, `row …` or `type …`, another text each time. undo: the
    plan before something was taken away. refused: another text whenever what was asked for could not be done: fields
    then show again what is kept. hidden: jobs whose candidates are not looked at any more.
    """

    project: str = ""
    chosen: int | None = None
    page: int = 0
    said: str = ""
    focus: str = ""
    undo: SegmentPlan | None = None
    refused: str = ""
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A segment made with another seed, by a job. seam: signal → its ratio at the join before it, empty where nothing
    is joined. preview: the address of its moving picture."""

    job: str
    seed: int
    seam: Mapping[str, float]
    motion: float | None
    preview: str


@dataclass(frozen=True)
class Seconds:
    """How long it takes here: a segment of one window, and all that the next render makes; None where not known."""

    segment: float | None = None
    whole: float | None = None


@dataclass(frozen=True)
class ViewModel:
    """A long video as it stands now.

    stale: segments, from 0, that the next render will make. clip, report, made: what was made last, what the meters say
    of it, and where its segments lie. job: the last one that was to make it. trying: the one that makes candidates.
    tried: those that there are, by segment.
    """

    project: Project
    view: View
    fps: float
    stale: frozenset[int] = frozenset()
    clip: StoredClip | None = None
    report: Report | None = None
    made: Layout | None = None
    job: JobStatus | None = None
    trying: JobStatus | None = None
    tried: Mapping[int, Sequence[Candidate]] = field(default_factory=dict)
    seconds: Seconds = field(default_factory=Seconds)

    @property
    def layout(self) -> Layout:
        """Where its segments lie."""
        return Layout(self.project.plan, self.project.start.frames if self.project.start else 0)

    @property
    def rendering(self) -> bool:
        """Whether it is being made at this moment."""
        return self.job is not None and self.job.state == RUNNING

    @property
    def waiting(self) -> bool:
        """Whether its job is in the queue."""
        return self.job is not None and self.job.state in WAITING

    @property
    def being_made(self) -> int | None:
        """The segment that is under way, from 0."""
        row = self.job.row if self.rendering else None
        return row.part - 1 if row is not None and row.stage == "base" and row.part and row.kind != CANDIDATES else None

    def state_of(self, number: int) -> str:
        """Of a segment: `now` it is being made, `wait` in the queue, `new` it will be made next, `done`."""
        if number == self.being_made:
            return "now"
        if number not in self.stale:
            return "done"
        return "wait" if self.rendering or self.waiting else "new"


def hues(prompts: Sequence[str]) -> list[int]:
    """A colour for each prompt: the same for the same, in the order they come."""
    known: dict[str, int] = {}
    return [known.setdefault(prompt, len(known)) % HUES for prompt in prompts]
