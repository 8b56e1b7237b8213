"""Values of the adapters tab, read from the studio: the library, the training being prepared, the training watched."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from app.adapters import AdapterRow
from app.gallery import Clip, Query
from app.gallery.search import find_clips
from app.models.loaded import READY, import_networks
from app.recipes.job_row import DONE, RUNNING, JobRow
from app.studio import Studio
from app.training.draft import Draft
from app.training.media import TrainingSet
from app.training.service import TrainingProgress
from app.ui.guard import LOOPBACK
from app.ui.html import format_minute
from app.ui.i18n import Words
from extensions.lora.training.settings import Preset, preset_for
from lavie.errors import LavieError
from lavie.events import BASE

CARDS, MEDIA_CARDS = 24, 24  # adapters and media on a page
SHELF, MEDIA, DRAFT, TRAINING = "shelf", "media", "draft", "watched"  # panels that show a message
_CLIPS = 4  # on an adapter's card
_MAX_TRAININGS = 30  # in the chooser
_MEMORY_FIELDS = ("preset", "rank", "prior", "gradient_checkpointing")  # that memory depends on


@dataclass(frozen=True)
class View:
    """What one open page looks at; it is not stored.

    find: text in names of adapters. page, media_page: of the library and of the media. training: id of the one watched,
    empty for the running or last one. closed: ids of trainings that were closed. message: HTML of the last message, on
    the panel `place`. refused: changes with each refused change, so that fields show the stored values again.
    """

    find: str = ""
    page: int = 0
    media_page: int = 0
    training: str = ""
    closed: tuple[str, ...] = ()
    message: str = ""
    place: str = ""
    refused: str = ""

    def message_on(self, place: str) -> str:
        return self.message if self.place == place else ""


@dataclass(frozen=True)
class Shelf:
    """A page of adapters. count: in the library; found: that match the search. clips: sha256 → some made with it."""

    view: View
    rows: Sequence[AdapterRow] = ()
    count: int = 0
    found: int = 0
    clips: Mapping[str, Sequence[Clip]] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparation:
    """The training being prepared.

    preset: its usual values, None if the model cannot be read. word: what the model makes of the trigger: `ordinary`,
    `own`, `rare`, empty if unknown. needed, free: bytes of memory, None if unknown. local: whether the page is served
    to this machine alone.
    """

    view: View
    draft: Draft
    media: TrainingSet
    preset: Preset | None = None
    word: str = ""
    needed: int | None = None
    free: int | None = None
    local: bool = False


@dataclass(frozen=True)
class WatchedTraining:
    """A training as it stands. choices: id and name of all trainings. adapter: its result, while in the library."""

    view: View
    choices: Sequence[tuple[str, str]] = ()
    progress: TrainingProgress | None = None
    adapter: AdapterRow | None = None

    @property
    def running(self) -> bool:
        return self.progress is not None and self.progress.row.state == RUNNING


def build_shelf(studio: Studio, view: View) -> Shelf:
    """A page of adapters, the last added first."""
    rows = studio.adapters.all()
    wanted = view.find.casefold()
    found = [row for row in rows if wanted in f"{row.name} {row.card.title} {row.sha256}".casefold()]
    page = min(max(view.page, 0), max(len(found) - 1, 0) // CARDS)
    shown = found[page * CARDS : (page + 1) * CARDS]
    clips = {row.sha256: find_clips(studio.gallery, Query(adapter=row.sha256), None, _CLIPS).clips for row in shown}
    return Shelf(replace(view, page=page), shown, len(rows), len(found), clips)


def build_preparation(studio: Studio, view: View) -> Preparation:
    """The draft and its media. Word and memory are left out until torch is loaded, so that no page waits for it."""
    draft = studio.drafts.current()
    media = studio.drafts.media(draft)
    page = min(max(view.media_page, 0), max(len(media.usable) - 1, 0) // MEDIA_CARDS)
    loaded = "lavie.cascade" in sys.modules and studio.models.state == READY
    needed, free = _estimate_memory(studio, draft) if loaded and media.usable else (None, None)
    return Preparation(
        replace(view, media_page=page),
        draft,
        media,
        preset=_read_preset(studio.config.bundle, draft.preset),
        word=_classify_word(str(studio.config.bundle), draft.trigger) if loaded and draft.trigger else "",
        needed=needed,
        free=free,
        local=is_local(studio),
    )


def build_watched_training(studio: Studio, view: View, say: Words) -> WatchedTraining:
    """The chosen training, else the open one, else the last one."""
    rows = studio.training.recent(_MAX_TRAININGS)
    preferred = [row for row in rows if row.id == view.training] + [row for row in rows if row.open] + rows
    shown = [row for row in preferred if row.id not in view.closed]
    choices = [(row.id, _name(row, say)) for row in rows]
    if not shown:
        return WatchedTraining(view, choices)
    progress = studio.training.progress(shown[0].id)
    row = progress.row
    sha256 = json.loads(row.result)["adapter"] if row.state == DONE and row.result else None
    return WatchedTraining(view, choices, progress, studio.adapters.get(sha256) if sha256 else None)


def is_local(studio: Studio) -> bool:
    """Whether the page is served to this machine alone, so that a visitor may name its folders."""
    return studio.config.host in LOOPBACK and studio.config.auth is None


def _name(row: JobRow, say: Words) -> str:
    return f"{row.training.adapter_name} · {say(f'train_{row.training.preset}')} · {format_minute(row.created)}"


def _read_preset(bundle: Path, name: str) -> Preset | None:
    """A preset's values for this model; None if the model cannot be read."""
    try:
        config = json.loads((bundle / BASE / "config.json").read_text(encoding="utf-8"))
        return preset_for(name, config["block_out_channels"][0])
    except (OSError, ValueError, LookupError, TypeError, LavieError):
        return None


@lru_cache(maxsize=64)
def _classify_word(bundle: str, trigger: str) -> str:
    """What the model makes of a trigger; empty if it cannot be read."""
    import_networks()
    from extensions.lora.training.factors import needs_vector, ordinary_word
    from lavie.bundle import Bundle

    try:
        encoder = Bundle(bundle).text_encoder(BASE)
    except LavieError:
        return ""
    if ordinary_word(encoder, trigger):
        return "ordinary"
    return "own" if needs_vector(encoder, trigger) else "rare"


def _estimate_memory(studio: Studio, draft: Draft) -> tuple[int | None, int | None]:
    import_networks()
    from extensions.lora.training.session import free_bytes
    from lavie.residency import pick_device

    try:
        device = pick_device(studio.config.device)
        values = tuple(draft.values.get(name, "") for name in _MEMORY_FIELDS)
        return _estimate_needed(studio, str(studio.config.bundle), values), free_bytes(device)
    except LavieError:
        return None, None


@lru_cache(maxsize=64)
def _estimate_needed(studio: Studio, bundle: str, values: Sequence[str]) -> int:
    """bundle, values: what the estimate depends on, for the cache."""
    draft = Draft(values={"trigger": "any", **dict(zip(_MEMORY_FIELDS, values, strict=True))})
    return studio.training.memory(replace(draft.training(), model=studio.config.model)).needed
