"""What the tab shows, as values: the shelf of adapters, the training that is prepared, the training that is watched.

Knows neither the studio nor a widget.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.queue.job import RUNNING

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow
    from app.gallery import StoredClip
    from app.training.draft import Draft
    from app.training.media import TrainingSet
    from app.training.service import TrainingProgress
    from extensions.lora.training.presets import Preset

CARDS, MEDIA_CARDS = 24, 24  # of adapters, of media, on a page
SHELF, MEDIA, DRAFT, WATCHED = "shelf", "media", "draft", "watched"  # boards, which say what went wrong there


@dataclass(frozen=True)
class View:
    """What one open page looks at: nothing of it is worth keeping.

    find: what names of adapters hold. page, media_page: of the shelf and of the media. training: id of the one that is
    watched, empty for the one that runs or came last. away: those that were put away. said: HTML of what happened last,
    on the board `place`. refused: another text whenever what was asked for could not be done: fields then show again
    what is kept.
    """

    find: str = ""
    page: int = 0
    media_page: int = 0
    training: str = ""
    away: tuple[str, ...] = ()
    said: str = ""
    place: str = ""
    refused: str = ""

    def said_on(self, place: str) -> str:
        """What a board has to say."""
        return self.said if self.place == place else ""


@dataclass(frozen=True)
class Shelf:
    """The adapters of a page. count: of all in the library; found: of those that are looked for. clips: sha256 → some
    that were made with it."""

    view: View
    rows: Sequence[AdapterRow] = ()
    count: int = 0
    found: int = 0
    clips: Mapping[str, Sequence[StoredClip]] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparing:
    """The training that is prepared. usual: what the preset does, None where the model cannot be read. word: what the
    model makes of the trigger: `ordinary`, `own`, `rare`, or nothing where that is not known yet. needed, free: bytes
    of memory, None where that is not known yet. local: whether the page is served to this machine alone."""

    view: View
    draft: Draft
    media: TrainingSet
    usual: Preset | None = None
    word: str = ""
    needed: int | None = None
    free: int | None = None
    local: bool = False


@dataclass(frozen=True)
class Watched:
    """A training as it stands. known: id and name of all that there are. adapter: of its result, while it is in the
    library."""

    view: View
    known: Sequence[tuple[str, str]] = ()
    progress: TrainingProgress | None = None
    adapter: AdapterRow | None = None

    @property
    def running(self) -> bool:
        return self.progress is not None and self.progress.row.state == RUNNING
