"""Files that a person brings: adapters for the library, media for a training. Each refused one is named, with why."""

from __future__ import annotations

import html
import os
import shutil
import tempfile
import typing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.studio import Studio
from app.ui.adapters.handlers import refused
from app.ui.adapters.look import is_local
from app.ui.adapters.view_model import MEDIA, SHELF, View
from app.ui.context import EventContext
from app.ui.html import alert, without_folders
from lavie.errors import LavieError, RequestError

if typing.TYPE_CHECKING:
    from app.adapters import AdapterRow

BESIDE = (".json", ".png", ".jpg", ".jpeg", ".webp")  # what other tools put beside an adapter
_SHOWN = 20  # files of which the outcome is told
_CLIPS = 100  # of the gallery at once


def bring(studio: Studio, asked: EventContext, view: View, files: Sequence[str] | None) -> View:
    """Let adapters into the library, each with what came beside it."""
    paths = [Path(file) for file in files or ()]
    beside = [path for path in paths if path.suffix.lower() in BESIDE]
    wanted = [path for path in paths if path not in beside] or paths
    said = [_brought(studio, asked, path, beside) for path in wanted[:_SHOWN]]
    return replace(view, said="".join(said), place=SHELF, page=0, find="")


def learn(studio: Studio, asked: EventContext, view: View, files: Sequence[str] | None) -> View:
    """Take media into the training that is prepared."""
    return _added(studio, view, [Path(file) for file in files or ()])


def learn_from_folder(studio: Studio, asked: EventContext, view: View, folder: str | None) -> View:
    """The same from a folder or a zip of this machine, where nobody else is served."""
    path = Path((folder or "").strip()).expanduser()
    if not is_local(studio):
        return refused(view, "folders of the studio's machine are for who sits at it: put the files here", MEDIA)
    if not (folder or "").strip() or not path.exists():
        return refused(view, f"{(folder or '').strip()[:200]!r} is not there: give a folder, a zip or a file", MEDIA)
    return _added(studio, view, [path])


def learn_from_clips(studio: Studio, asked: EventContext, view: View) -> View:
    """The same from clips of the gallery."""
    ids = list(dict.fromkeys(asked.told.get("id", "").split()))[:_CLIPS]
    try:
        for clip in ids:
            studio.gallery.require(clip)
    except LavieError as error:
        return refused(view, str(error), MEDIA)
    return _added(studio, view, ids)


def _added(studio: Studio, view: View, sources: Sequence[str | Path]) -> View:
    if not sources:
        return view
    try:
        studio.drafts.add(sources)
    except LavieError as error:
        paths = [source for source in sources if isinstance(source, Path)]
        return refused(view, without_folders(str(error), *paths), MEDIA)
    return replace(view, said="", place="")


def _brought(studio: Studio, asked: EventContext, path: Path, beside: Sequence[Path]) -> str:
    """What came of one file, as HTML."""
    known = set(studio.adapters.names().values())
    try:
        row = _let_in(studio, path, beside)
    except LavieError as error:
        return alert(without_folders(str(error), path))
    key = "adapter_known" if row.sha256 in known else "adapter_brought"
    words = html.escape(asked.say(key, file=path.name, name=row.name))
    return f'<p class="lv-note" role="status">{words}</p>'


def _let_in(studio: Studio, path: Path, beside: Sequence[Path]) -> AdapterRow:
    """An upload lies in a folder of its own: for the library it is put where its companions are."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            for file in (path, *beside):
                _link(file, Path(folder) / file.name)
        except OSError as error:
            raise RequestError(f"{path.name} cannot be read ({error.strerror or error}): put it here again") from None
        return studio.adapters.add(Path(folder) / path.name, studio.config.bundle)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
