"""Handlers of the adapters tab: changes of the library, of the training being prepared, of jobs and of the view."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.adapters import AdapterRow
from app.studio import Studio
from app.training.media import link_or_copy
from app.ui.adapters.view_model import DRAFT, MEDIA, SHELF, TRAINING, View, is_local
from app.ui.context import EventContext
from app.ui.create.handlers import act_on_queue
from app.ui.html import alert, status, strip_folders
from app.ui.panels import parse_number
from extensions.lora.adapter import MAX_WEIGHT
from lavie.errors import LavieError, RequestError, short

COMPANIONS = (".json", ".png", ".jpg", ".jpeg", ".webp")  # files that other tools put beside an adapter
_QUEUE_ACTS = ("cancel", "pause", "resume", "retry")
_MAX_FIND = 200  # characters
_MAX_ADAPTERS = 20  # uploaded at once
_MAX_CLIPS = 100  # taken from the gallery at once

Handler = Callable[[Studio, EventContext, View], View]


def handle(studio: Studio, event: EventContext, view: View) -> View:
    """Handle a button or a field; the view afterwards. An error is shown on the panel it belongs to."""
    act = event.data.get("act", "")
    if act == "refresh":
        return view
    view = replace(view, message="", place="")
    handler, place = _HANDLERS.get(act, (None, TRAINING))
    try:
        if act in _QUEUE_ACTS:
            act_on_queue(studio, act, event.data.get("id", ""))
            return view
        return view if handler is None else handler(studio, event, view)
    except LavieError as error:
        return refuse(view, str(error), place)


def refuse(view: View, message: str, place: str) -> View:
    """The view with an error on a panel."""
    return replace(view, message=alert(message), place=place, refused=secrets.token_hex(4))


def _store(change: Callable[[Studio, Mapping[str, str]], object], **changes: Any) -> Handler:
    """A handler that changes what is stored. changes: fields of the view afterwards."""

    def handler(studio: Studio, event: EventContext, view: View) -> View:
        change(studio, event.data)
        return replace(view, **changes)

    return handler


def _weigh(studio: Studio, data: Mapping[str, str]) -> None:
    """Set a weight for the next use; tags that are in prompts already keep theirs."""
    row, value = studio.adapters.require(data.get("id", "")), _parse_weight(data.get("value", ""))
    weights = (row.weight, value) if data.get("name") == "text" else (value, row.set_text_weight)
    studio.adapters.weigh(row.sha256, *weights)


def _parse_weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        raise RequestError(f"the weight is {short(text)}: give a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return weight


def _choose_training(studio: Studio, event: EventContext, view: View) -> View:
    chosen = event.data.get("value", "")
    return replace(view, training=chosen, closed=tuple(one for one in view.closed if one != chosen))


def _take_checkpoint(studio: Studio, event: EventContext, view: View) -> View:
    row = studio.training.take(event.data.get("id", ""), parse_number(event.data.get("n")))
    return replace(view, message=status(event.say("training_done", name=row.name)), place=TRAINING)


def add_adapters(studio: Studio, event: EventContext, view: View, files: Sequence[str] | None) -> View:
    """Add uploaded adapters to the library, each with its companions; a line for each says what came of it."""
    paths = [Path(file) for file in files or ()]
    companions = [path for path in paths if path.suffix.lower() in COMPANIONS]
    adapters = [path for path in paths if path not in companions] or paths
    lines = [_add_adapter(studio, event, path, companions) for path in adapters[:_MAX_ADAPTERS]]
    return replace(view, message="".join(lines), place=SHELF, page=0, find="")


def _add_adapter(studio: Studio, event: EventContext, path: Path, companions: Sequence[Path]) -> str:
    """HTML of what came of one file."""
    known = set(studio.adapters.names().values())
    try:
        row = _store_adapter(studio, path, companions)
    except LavieError as error:
        return alert(strip_folders(str(error), path))
    return status(
        event.say("adapter_known" if row.sha256 in known else "adapter_brought", file=path.name, name=row.name)
    )


def _store_adapter(studio: Studio, path: Path, companions: Sequence[Path]) -> AdapterRow:
    """Add a file from a folder that holds its companions too: each upload lies in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            for file in (path, *companions):
                link_or_copy(file, Path(folder) / file.name)
        except OSError as error:
            raise RequestError(f"{path.name} cannot be read ({error.strerror or error}): put it here again") from None
        return studio.adapters.add(Path(folder) / path.name, studio.config.bundle)


def add_media(studio: Studio, event: EventContext, view: View, files: Sequence[str] | None) -> View:
    return _add_media(studio, view, [Path(file) for file in files or ()])


def add_folder(studio: Studio, event: EventContext, view: View, folder: str | None) -> View:
    """Add media from a folder or a zip of this machine to the draft."""
    name = (folder or "").strip()
    path = Path(name).expanduser()
    if not is_local(studio):
        return refuse(view, "folders of the studio's machine are for who sits at it: put the files here", MEDIA)
    if not name or not path.exists():
        return refuse(view, f"{name[:200]!r} is not there: give a folder, a zip or a file", MEDIA)
    return _add_media(studio, view, [path])


def add_clips(studio: Studio, event: EventContext, view: View) -> View:
    ids = list(dict.fromkeys(event.data.get("id", "").split()))[:_MAX_CLIPS]
    try:
        for clip_id in ids:
            studio.gallery.require(clip_id)
    except LavieError as error:
        return refuse(view, str(error), MEDIA)
    return _add_media(studio, view, ids)


def _add_media(studio: Studio, view: View, sources: Sequence[str | Path]) -> View:
    if not sources:
        return view
    try:
        studio.drafts.add(sources)
    except LavieError as error:
        paths = [source for source in sources if isinstance(source, Path)]
        return refuse(view, strip_folders(str(error), *paths), MEDIA)
    return replace(view, message="", place="")


# Act → its handler, and the panel that shows its errors.
_HANDLERS: dict[str, tuple[Handler, str]] = {
    "find": (
        lambda studio, event, view: replace(view, find=event.data.get("value", "")[:_MAX_FIND].strip(), page=0),
        SHELF,
    ),
    "turn": (lambda studio, event, view: replace(view, page=parse_number(event.data.get("page"))), SHELF),
    "rename": (_store(lambda studio, data: studio.adapters.rename(data.get("id", ""), data.get("value", ""))), SHELF),
    "remove": (_store(lambda studio, data: studio.adapters.remove(data.get("id", ""))), SHELF),
    "weigh": (_store(_weigh), SHELF),
    "set": (_store(lambda studio, data: studio.drafts.set(data.get("name", ""), data.get("value", ""))), DRAFT),
    "caption": (_store(lambda studio, data: studio.drafts.caption(data.get("name", ""), data.get("value", ""))), DRAFT),
    "drop": (_store(lambda studio, data: studio.drafts.drop(data.get("name", ""))), DRAFT),
    "clear": (_store(lambda studio, data: studio.drafts.clear(), media_page=0), DRAFT),
    "media_turn": (lambda studio, event, view: replace(view, media_page=parse_number(event.data.get("page"))), DRAFT),
    "start": (lambda studio, event, view: replace(view, training=studio.drafts.start(), media_page=0), DRAFT),
    "training": (_choose_training, TRAINING),
    "away": (
        lambda studio, event, view: replace(view, closed=(*view.closed, event.data.get("id", "")), training=""),
        TRAINING,
    ),
    "forget": (_store(lambda studio, data: studio.training.forget(data.get("id", "")), training=""), TRAINING),
    "take": (_take_checkpoint, TRAINING),
}
