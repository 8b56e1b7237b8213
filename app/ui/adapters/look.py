"""From the studio to what the tab shows. What needs torch is told once torch is there: no page waits for it."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from app.clip import import_networks
from app.gallery import Query
from app.queue.job import DONE, TRAIN, JobRow
from app.storage.training_folder import training_folder
from app.studio import Studio
from app.training.draft import Draft
from app.ui.adapters.view_model import CARDS, MEDIA_CARDS, Preparing, Shelf, View, Watched
from app.ui.gallery.facts import moment
from app.ui.guard import LOOPBACK
from app.ui.i18n import Words
from app.worker.models import READY
from extensions.lora.training.presets import Preset, preset_for
from lavie.errors import LavieError
from lavie.events import BASE

if typing.TYPE_CHECKING:
    from app.training.service import TrainingProgress

CLIPS = 4  # that were made with an adapter, on its card
_KNOWN = 30  # trainings in the chooser
_WEIGHED = ("preset", "rank", "prior", "gradient_checkpointing")  # fields that memory hangs on


def shelf(studio: Studio, view: View) -> Shelf:
    """A page of adapters, the last to come first."""
    rows = studio.adapters.all()
    wanted = view.find.casefold()
    found = [row for row in rows if wanted in f"{row.name} {row.card.title} {row.sha256}".casefold()]
    page = min(max(view.page, 0), max(len(found) - 1, 0) // CARDS)
    shown = found[page * CARDS : (page + 1) * CARDS]
    clips = {row.sha256: studio.gallery.page(Query(adapter=row.sha256), None, CLIPS).clips for row in shown}
    return Shelf(replace(view, page=page), shown, len(rows), len(found), clips)


def preparing(studio: Studio, view: View) -> Preparing:
    """The draft, with what there is to say of it before it begins."""
    draft = studio.drafts.current()
    media = studio.drafts.media(draft)
    page = min(max(view.media_page, 0), max(len(media.usable) - 1, 0) // MEDIA_CARDS)
    there = "lavie.cascade" in sys.modules and studio.model_state == READY
    return Preparing(
        replace(view, media_page=page),
        draft,
        media,
        usual=_usual(studio.config.bundle, draft.preset),
        word=_word(str(studio.config.bundle), draft.trigger) if there and draft.trigger else "",
        **(_memory(studio, draft) if there and media.usable else {}),
        local=is_local(studio),
    )


def watched(studio: Studio, view: View, say: Words) -> Watched:
    """The training that was chosen, else the one that is open, else the last one."""
    rows = _trainings(studio)
    shown = [row for row in rows if row.id == view.training]
    shown += [row for row in rows if row.open] + rows
    shown = [row for row in shown if row.id not in view.away]
    known = [(row.id, _named(row, say)) for row in rows]
    if not shown:
        return Watched(view, known)
    progress = studio.training.progress(shown[0].id)
    sha256 = _result(progress)
    return Watched(view, known, progress, sha256 and studio.adapters.get(sha256))


def is_local(studio: Studio) -> bool:
    """Whether the page is served to this machine alone, so that its folders are those of who asks."""
    return studio.config.host in LOOPBACK and studio.config.auth is None


def _trainings(studio: Studio) -> list[JobRow]:
    """Those that there is something to see of, the last one first."""
    ids = studio.database.query(f"SELECT id FROM jobs WHERE kind = '{TRAIN}' ORDER BY created DESC LIMIT {_KNOWN}")
    rows = [row for found in ids if (row := studio.jobs.get(found["id"])) is not None]
    return [row for row in rows if _is_readable(row) and (row.open or _folder(studio, row).is_dir())]


def _folder(studio: Studio, row: JobRow) -> Path:
    return training_folder(studio.config.data, row.id)


def _is_readable(row: JobRow) -> bool:
    try:
        _ = row.training
    except LavieError:  # of a newer version
        return False
    return True


def _named(row: JobRow, say: Words) -> str:
    return f"{row.training.adapter_name} · {say(f'train_{row.training.preset}')} · {moment(row.created)}"


def _result(progress: TrainingProgress) -> str | None:
    """sha256 of the adapter that came of a training."""
    row = progress.row
    return json.loads(row.result)["adapter"] if row.state == DONE and row.result else None


def _usual(bundle: Path, name: str) -> Preset | None:
    """What a preset does with this model; None where the model cannot be read."""
    try:
        said = json.loads((bundle / BASE / "config.json").read_text(encoding="utf-8"))
        return preset_for(name, said["block_out_channels"][0])
    except (OSError, ValueError, LookupError, TypeError, LavieError):
        return None


@lru_cache(maxsize=64)
def _word(bundle: str, trigger: str) -> str:
    """What the model makes of a trigger; nothing where it cannot be asked."""
    import_networks()
    from extensions.lora.training.trigger import needs_vector, ordinary_word
    from lavie.bundle import Bundle

    try:
        encoder = Bundle(bundle).text_encoder(BASE)
    except LavieError:
        return ""
    if ordinary_word(encoder, trigger):
        return "ordinary"
    return "own" if needs_vector(encoder, trigger) else "rare"


def _memory(studio: Studio, draft: Draft) -> dict[str, int]:
    """What it needs, about, and what is free now."""
    import_networks()
    from extensions.lora.training.memory import free
    from lavie.residency import pick_device

    try:
        device = pick_device(studio.config.device)
        key = tuple(draft.values.get(name, "") for name in _WEIGHED)
        return {"needed": _needed(studio, str(studio.config.bundle), key), "free": free(device)}
    except LavieError:
        return {}


@lru_cache(maxsize=64)
def _needed(studio: Studio, bundle: str, values: Sequence[str]) -> int:
    draft = Draft(values={"trigger": "any", **dict(zip(_WEIGHED, values, strict=True))})
    training = draft.training()
    return studio.training.memory(replace(training, model=studio.config.model)).needed
