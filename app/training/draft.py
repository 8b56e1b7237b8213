"""The training that a person prepares: its media and settings, kept as files from change to change until it begins.

    work/training/<id>/draft.json    what was written so far; the folder becomes that of the job

Any page, after any restart, finds the same. Knows the folders; what is in a medium is `app.training.media`'.
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

from app.clip import new_id
from app.recipes.training import MAX_MEDIA, Training
from app.storage.tensor_files import write_bytes
from app.storage.training_folder import MEDIA, training_folder
from app.training.media import IS_PICTURE, PICTURE, SetItem, TrainingSet
from extensions.lora.training.presets import MOTION, SUBJECT
from lavie.errors import RequestError, TrainingError, short
from lavie.values import check_prompt

if typing.TYPE_CHECKING:
    from app.studio import Studio

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
    """id: of the job to be, empty as long as nothing is written. values: field of `Training` → what was typed, nothing
    for the usual; `prompts` are lines. clips: ids of those in the gallery that media came from. following: the number
    of the next file; none is given twice."""

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
        """What it can learn from, in the folder of media; a motion nothing from pictures, which stay where they are."""
        items = self.items
        if self.preset == MOTION:
            items = tuple(
                replace(item, path=None, problem=IS_PICTURE) if item.path and item.kind == PICTURE else item
                for item in items
            )
        return TrainingSet(self.id, folder, items)

    def training(self) -> Training:
        """What was typed, as a value. Raises RequestError with the field's name."""
        said: dict[str, typing.Any] = {name: text for name in TEXTS if (text := self.values.get(name))}
        said |= {name: found for name in WHOLE if (found := _whole(name, self.values.get(name, ""))) is not None}
        said |= {name: found for name in NUMBERS if (found := _number(name, self.values.get(name, ""))) is not None}
        lines = tuple(line.strip() for line in self.values.get("prompts", "").splitlines() if line.strip())
        checkpointing = self.values.get("gradient_checkpointing") == YES
        return Training(said.pop("trigger", ""), **said, prompts=lines, gradient_checkpointing=checkpointing)


class Drafts:
    """The one draft of a studio. All methods may be called from any thread.

    Raises RequestError for values outside their limits, and then nothing is changed.
    """

    def __init__(self, studio: Studio):
        self._studio, self._turn = studio, threading.Lock()

    def current(self) -> Draft:
        """What is prepared now; an empty one where nothing is."""
        for file in self._files():
            if self._studio.jobs.get(file.parent.name) is None:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                    return _read(file)
        return Draft()

    def media(self, draft: Draft) -> TrainingSet:
        """What it can learn from, and what is left out and why."""
        return draft.set(self._folder(draft.id) / MEDIA)

    def set(self, name: str, text: str) -> None:
        """Change a field. Of another kind of preset, clips of the gallery are taken in anew."""
        if name not in NAMES:
            raise RequestError(f"there is no field {short(name)}: load the page again")
        check_prompt(name, text)
        with self._turn:
            before = self.current()
            draft = replace(before, values={**before.values, name: text.strip()})
            replace(draft, values={**draft.values, "trigger": draft.trigger or "any"}).training()
            self._write(draft)
        if before.clips and (before.preset == MOTION) != (draft.preset == MOTION):
            self._take_anew(draft)

    def add(self, sources: Sequence[str | Path]) -> None:
        """Take in pictures, videos, folders, zips and clips; see `Trainings.collect`. Raises TrainingError."""
        found = self._studio.training.collect(sources, self.current().preset)
        clips = [source for source in sources if isinstance(source, str) and self._studio.gallery.get(source)]
        try:
            with self._turn:
                self._write(self._moved(self.current(), found, clips))
        finally:
            self._studio.training.discard(found)

    def caption(self, file: str, text: str) -> None:
        """Say something else of a medium; nothing for the usual."""
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
        """Leave a medium out, by its file's name, or by its own where it has no file."""
        with self._turn:
            draft = self.current()
            gone = [item for item in draft.items if name == (item.path.name if item.path else item.name)]
            self._write(replace(draft, items=tuple(item for item in draft.items if item not in gone)))
            _unlink(gone)

    def clear(self) -> None:
        """Forget all of it."""
        with self._turn:
            if (draft := self.current()).id:
                shutil.rmtree(self._folder(draft.id), ignore_errors=True)

    def start(self) -> str:
        """Put it at the end of the line; the job's id. Raises TrainingError where there is nothing to learn from."""
        with self._turn:
            draft = self.current()
            training, media = draft.training(), self.media(draft)
            if not media.usable:
                what = "a video" if training.from_clips else "a picture"
                raise TrainingError(f"there is nothing to learn from: add {what} first")
            said = {item.path.name: item.caption for item in media.usable if item.caption and not item.from_gallery}
            job_id = self._studio.training.start(training, media, said)
            (self._folder(draft.id) / FILE).unlink(missing_ok=True)
            return job_id

    def _take_anew(self, draft: Draft) -> None:
        """Clips as the preset wants them: as they are, or some of their frames."""
        with self._turn:
            now = self.current()
            gone = [item for item in now.items if item.from_gallery]
            self._write(replace(now, items=tuple(item for item in now.items if item not in gone), clips=()))
            _unlink(gone)
        there = [clip for clip in draft.clips if self._studio.gallery.get(clip)]
        if there:
            self.add(there)

    def _moved(self, draft: Draft, found: TrainingSet, clips: Sequence[str]) -> Draft:
        """The draft with another set's media, which are in its folder then."""
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
        """Those of all drafts, the last one first."""
        files = self._folder("any").parent.glob(f"*/{FILE}")
        return sorted(files, key=_changed, reverse=True)

    def _folder(self, draft_id: str) -> Path:
        return training_folder(self._studio.config.data, draft_id).absolute()


def number_of(item: SetItem) -> str:
    """The digits that its file's name begins with."""
    return item.path.name.partition("-")[0]


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
    """A medium, and what lies beside it under its name."""
    return (file for file in sorted(path.parent.iterdir()) if file.name.startswith(f"{path.stem}."))


def _unlink(items: Sequence[SetItem]) -> None:
    for item in items:
        for file in _files_of(item.path) if item.path else ():
            file.unlink(missing_ok=True)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _whole(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _number(name: str, text: str) -> float | None:
    """As a person writes it, with a point or a comma."""
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        raise RequestError(f"{name} is {short(text)}: give a number, or leave it empty") from None
