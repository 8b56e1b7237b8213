"""The draft of a training: media and settings that a person prepares, stored after each change until it starts.

work/training/<id>/draft.json    the folder becomes that of the job
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.recipes.training import MAX_MEDIA, Training
from app.storage.database import new_id
from app.storage.latents import write_bytes
from app.storage.training_folder import MEDIA, training_folder
from app.training.media import IS_PICTURE, PICTURE, SetItem, TrainingSet
from app.training.service import Trainings
from app.workspace import Workspace
from extensions.lora.training.settings import MOTION, SUBJECT
from lavie.errors import RequestError, TrainingError, short
from lavie.values import check_prompt

FILE = "draft.json"
WHOLE = ("steps", "rank", "seed", "samples_every", "checkpoint_every", "keep")
NUMBERS = ("learning_rate", "prior")
TEXTS = ("preset", "trigger", "name")
NAMES = (*TEXTS, *WHOLE, *NUMBERS, "prompts", "gradient_checkpointing")
YES = "true"
_GONE = "its file is gone"
_NUMBER = 4  # digits in front of a file's name, at least


@dataclass(frozen=True)
class Draft:
    """A training in preparation.

    Attributes:
        id: of the job to be; empty as long as nothing is stored.
        values: field of `Training` → text as typed, without fields left at their default; `prompts` has a line each.
        clips: ids of the gallery's clips that media came from.
        following: the number of the next file; no number is used twice.
    """

    id: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    items: tuple[SetItem, ...] = ()
    clips: tuple[str, ...] = ()
    following: int = 0

    @property
    def preset(self) -> str:
        return self.values.get("preset") or SUBJECT

    @property
    def trigger(self) -> str:
        return self.values.get("trigger", "")

    def set(self, folder: Path) -> TrainingSet:
        """The media as a set. A motion learns nothing from pictures, which stay in the folder."""
        items = self.items
        if self.preset == MOTION:
            items = tuple(
                replace(item, path=None, problem=IS_PICTURE) if item.path and item.kind == PICTURE else item
                for item in items
            )
        return TrainingSet(self.id, folder, items)

    def training(self) -> Training:
        """The settings as a value. Raises RequestError with the field's name."""
        said: dict[str, typing.Any] = {name: text for name in TEXTS if (text := self.values.get(name))}
        said |= {name: _whole(name, text) for name in WHOLE if (text := self.values.get(name))}
        said |= {name: _number(name, text) for name in NUMBERS if (text := self.values.get(name))}
        lines = tuple(line.strip() for line in self.values.get("prompts", "").splitlines() if line.strip())
        checkpointing = self.values.get("gradient_checkpointing") == YES
        return Training(said.pop("trigger", ""), **said, prompts=lines, gradient_checkpointing=checkpointing)


class Drafts:
    """The one draft of a data folder. All methods may be called from any thread.

    Raises RequestError for values outside their limits, with nothing changed.
    """

    def __init__(self, workspace: Workspace, trainings: Trainings):
        self._workspace, self._trainings, self._turn = workspace, trainings, threading.Lock()

    def current(self) -> Draft:
        for file in self._files():
            if self._workspace.queue.get(file.parent.name) is None:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                    return _read(file)
        return Draft()

    def media(self, draft: Draft) -> TrainingSet:
        """The media of a draft, with what is left out and why."""
        return draft.set(self._folder(draft.id) / MEDIA)

    def set(self, name: str, text: str) -> None:
        """Change a field. A preset of another kind adds the gallery's clips again, as videos or as frames."""
        if name not in NAMES:
            raise RequestError(f"there is no field {short(name)}: load the page again")
        check_prompt(name, text)
        with self._turn:
            before = self.current()
            draft = replace(before, values={**before.values, name: text.strip()})
            replace(draft, values={**draft.values, "trigger": draft.trigger or "any"}).training()
            self._write(draft)
        if before.clips and (before.preset == MOTION) != (draft.preset == MOTION):
            self._add_clips_again(draft)

    def add(self, sources: Sequence[str | Path]) -> None:
        """Add pictures, videos, folders, zips and clips; see `Trainings.collect`. Raises TrainingError."""
        found = self._trainings.collect(sources, self.current().preset)
        clips = [source for source in sources if isinstance(source, str) and self._workspace.gallery.get(source)]
        try:
            with self._turn:
                self._write(self._with_media(self.current(), found, clips))
        finally:
            self._trainings.discard(found)

    def caption(self, file: str, text: str) -> None:
        """Change the caption of a medium; an empty text means the default."""
        check_prompt("a caption", text)
        with self._turn:
            draft = self.current()
            items = [
                replace(item, caption=text.strip(), from_gallery=item.from_gallery and not text.strip())
                if item.path and item.path.name == file
                else item
                for item in draft.items
            ]
            self._write(replace(draft, items=tuple(items)))

    def drop(self, name: str) -> None:
        """Remove a medium, by its file's name, or by its own name if it has no file."""
        with self._turn:
            draft = self.current()
            gone = [item for item in draft.items if name == (item.path.name if item.path else item.name)]
            self._write(replace(draft, items=tuple(item for item in draft.items if item not in gone)))
            _unlink(gone)

    def clear(self) -> None:
        with self._turn:
            if (draft := self.current()).id:
                shutil.rmtree(self._folder(draft.id), ignore_errors=True)

    def start(self) -> str:
        """Queue the training; the job's id. Raises TrainingError if there are no usable media."""
        with self._turn:
            draft = self.current()
            training, media = draft.training(), self.media(draft)
            if not media.usable:
                what = "a video" if training.from_clips else "a picture"
                raise TrainingError(f"there is nothing to learn from: add {what} first")
            said = {item.file.name: item.caption for item in media.usable if item.caption and not item.from_gallery}
            job_id = self._trainings.start(training, media, said)
            (self._folder(draft.id) / FILE).unlink(missing_ok=True)
            return job_id

    def _add_clips_again(self, draft: Draft) -> None:
        """Add the gallery's clips as the preset needs them: as videos, or some of their frames."""
        with self._turn:
            now = self.current()
            gone = [item for item in now.items if item.from_gallery]
            self._write(replace(now, items=tuple(item for item in now.items if item not in gone), clips=()))
            _unlink(gone)
        there = [clip for clip in draft.clips if self._workspace.gallery.get(clip)]
        if there:
            self.add(there)

    def _with_media(self, draft: Draft, found: TrainingSet, clips: Sequence[str]) -> Draft:
        """The draft with another set's media, moved to its folder."""
        if len(draft.items) + len(found.items) > MAX_MEDIA:
            raise TrainingError(f"there are more than {MAX_MEDIA} pictures and videos: choose fewer")
        draft = draft if draft.id else replace(draft, id=new_id())
        media, following, items = self._folder(draft.id) / MEDIA, draft.following, []
        media.mkdir(parents=True, exist_ok=True)
        for item in found.items:
            if item.path is not None:
                target = media / f"{following:0{_NUMBER}}-{item.path.name.partition('-')[2]}"
                for file in _files_of(item.path):
                    os.replace(file, target.with_name(target.stem + file.name.removeprefix(item.path.stem)))
                item, following = replace(item, path=target), following + 1
            items.append(item)
        known = tuple(dict.fromkeys((*draft.clips, *clips)))
        return replace(draft, items=(*draft.items, *items), clips=known, following=following)

    def _write(self, draft: Draft) -> None:
        draft = draft if draft.id else replace(draft, id=new_id())
        items = [{**vars(item), "path": item.path and item.path.name} for item in draft.items]
        data = {**vars(draft), "values": dict(draft.values), "items": items}
        write_bytes(self._folder(draft.id) / FILE, json.dumps(data).encode(), "what is prepared")

    def _files(self) -> list[Path]:
        """The files of all drafts, the last changed first."""
        files = self._folder("any").parent.glob(f"*/{FILE}")
        return sorted(files, key=_changed_at, reverse=True)

    def _folder(self, draft_id: str) -> Path:
        return training_folder(self._workspace.config.data, draft_id).absolute()


def number_of(item: SetItem) -> str:
    """The digits at the beginning of its file's name."""
    return item.file.name.partition("-")[0]


def _read(file: Path) -> Draft:
    data = json.loads(file.read_text(encoding="utf-8"))
    items = tuple(_item(file.parent / MEDIA, said) for said in data["items"])
    values = {name: str(text) for name, text in data["values"].items() if name in NAMES}
    return Draft(file.parent.name, values, items, tuple(map(str, data["clips"])), int(data["following"]))


def _item(folder: Path, said: dict[str, typing.Any]) -> SetItem:
    path = said["path"] and folder / Path(said["path"]).name
    if path is not None and not path.is_file():
        return SetItem(**{**said, "path": None, "problem": _GONE})
    return SetItem(**{**said, "path": path})


def _files_of(path: Path) -> Iterator[Path]:
    """The files of a medium: itself, its caption and its mask."""
    return (file for file in sorted(path.parent.iterdir()) if file.name.startswith(f"{path.stem}."))


def _unlink(items: Sequence[SetItem]) -> None:
    for item in items:
        for file in _files_of(item.path) if item.path else ():
            file.unlink(missing_ok=True)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _number(name: str, text: str) -> float:
    """A number with a decimal point or comma."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise RequestError(f"{name} is {short(text)}: give a number, or leave it empty") from None
