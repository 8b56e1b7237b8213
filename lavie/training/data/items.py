"""Which media a folder holds, and what is said of each: pairs of a caption and a file. Opens no picture and no video.

Four layouts are known, and may stand beside each other: `metadata.csv` or `metadata.jsonl` (`file_name`, `text`), any
other csv at the top (`path`, `caption`, as WebVid's), a `.txt` beside each file, and WebDataset shards (`.tar`).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavie.errors import TrainingError


@dataclass(frozen=True)
class Member:
    """A plain file in a shard. start, size: where it lies there, in bytes."""

    name: str
    start: int
    size: int

    @property
    def sample(self) -> str:
        """The name up to the first dot behind the last slash: members that share it belong together."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]

    @property
    def ending(self) -> str:
        """What follows that dot, with it: `.mp4`, `.txt`."""
        return self.name[len(self.sample) :].lower()


def list_members(shard: Path) -> Iterator[Member | tuple[str, str]]:
    """The plain files of a shard in order, and (name, reason) for what is left out, "" for the shard itself."""
    length, end = shard.stat().st_size, 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for info in tar:
                end = info.offset_data + (info.size if info.isreg() else 0)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    yield info.name, "it is no plain file"
                elif end > length:
                    yield info.name, "the shard is cut short"
                else:
                    yield Member(info.name, info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield "", f"the shard cannot be read to its end ({error})"
    else:
        if length < end + tarfile.BLOCKSIZE:  # every tar ends in blocks of zeros; tarfile does not miss them
            yield "", "the shard is cut short"


VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
FILE_COLUMNS, CAPTION_COLUMNS = ("file_name", "path"), ("text", "caption")
MOST_CAPTION = 1 << 16  # bytes of a caption's file that are looked at: no encoder reads more


@dataclass(frozen=True)
class Fault:
    """A medium that is left out. kind: the reason, by which faults are counted; detail: what more is known."""

    name: str
    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Item:
    """One picture or video. name: as a person would look for it. path: of the file, or of the shard that holds it."""

    name: str
    caption: str
    path: Path
    member: Member | None = None

    @property
    def is_picture(self) -> bool:
        return Path(self.name).suffix.lower() in PICTURES

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """The medium as a file of its own within the block: a member of a shard is copied out."""
        if self.member is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "medium"  # not by its name in the shard, which may hold anything
            with copy.open("wb") as out:
                out.writelines(self._chunks())
            yield copy

    def digest(self) -> str:
        """sha256 of the medium's bytes."""
        found = hashlib.sha256()
        for chunk in self._chunks():
            found.update(chunk)
        return found.hexdigest()

    def _chunks(self) -> Iterator[bytes]:
        start, left = (self.member.start, self.member.size) if self.member else (0, self.path.stat().st_size)
        with self.path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(min(left, 1 << 20)):
                left -= len(chunk)
                yield chunk


def find_items(folder: Path, caption: str | None = None) -> tuple[list[Item], list[Fault]]:
    """The media in `folder` in the order of their names, and what is wrong with the rest.

    caption: of files that have none; None to leave them out.

    Raises TrainingError if there is no such folder.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder: give one with media and their captions")
    items: list[Item] = []
    faults: list[Fault] = []
    shown = (path for path in sorted(folder.rglob("*")) if "/." not in f"/{path.relative_to(folder).as_posix()}")
    files = [path for path in shown if path.is_file()]
    for path in files:
        if path.parent == folder and (path.suffix.lower() == ".csv" or path.name.lower() == "metadata.jsonl"):
            _collect(_read_table(folder, path), items, faults)
    named = {item.path for item in items} | {folder / fault.name for fault in faults}
    for path in files:
        if path.suffix.lower() == ".tar":
            _collect(_read_shard(folder, path), items, faults)
        elif path.suffix.lower() in VIDEOS | PICTURES and path not in named:
            _collect([pair_with_caption(folder, path, caption)], items, faults)
    return items, faults


def _collect(found: Iterable[Item | Fault], items: list[Item], faults: list[Fault]) -> None:
    """Sort what was found into both lists; a caption that says nothing is a fault."""
    for each in found:
        if isinstance(each, Fault):
            faults.append(each)
        elif each.caption.strip():
            items.append(each)
        else:
            faults.append(Fault(each.name, "its caption is empty"))


def _read_table(folder: Path, table: Path) -> Iterator[Item | Fault]:
    rows = _read_csv if table.suffix.lower() == ".csv" else _read_json_lines
    try:
        for number, row in rows(table):
            yield _parse_row(folder, table, number, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield Fault(table.name, "the table cannot be read", str(error))


def _read_csv(table: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            yield reader.line_num, row


def _read_json_lines(table: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    with table.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else None


def _parse_row(folder: Path, table: Path, number: int, row: dict[str, Any] | None) -> Item | Fault:
    where = f"{table.name} line {number}"
    if row is None:
        return Fault(where, "the line is no JSON object")
    name, caption = (_first_column(row, columns) for columns in (FILE_COLUMNS, CAPTION_COLUMNS))
    if name is None or caption is None:
        return Fault(where, f"no column {' or '.join(FILE_COLUMNS)}, or none {' or '.join(CAPTION_COLUMNS)}")
    if not name:
        return Fault(where, "no file is named")
    return _check_place(folder, name, caption)


def _first_column(row: dict[str, Any], columns: tuple[str, ...]) -> str | None:
    """The first of the columns that the row has, as text."""
    return next((str(row[column] or "") for column in columns if column in row), None)


def _check_place(folder: Path, name: str, caption: str) -> Item | Fault:
    """A file that a table names. Tables come from elsewhere, so a name that leads out of the folder is a fault."""
    try:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            return Fault(name, "it lies outside the folder")
        if not path.is_file():
            return Fault(name, "the file is missing")
    except (OSError, ValueError) as error:  # too long, or with a null byte
        return Fault(name[:200], "its name is none", str(error))
    if path.suffix.lower() not in VIDEOS | PICTURES:
        return Fault(name, "it is neither a picture nor a video")
    return Item(name, caption, path)


def pair_with_caption(folder: Path, path: Path, caption: str | None = None) -> Item | Fault:
    """A file that no table names, with the caption beside it, else `caption`."""
    name, text = str(path.relative_to(folder)), path.with_suffix(".txt")
    if not text.is_file():
        return Fault(name, "it has no caption") if caption is None else Item(name, caption, path)
    with text.open("rb") as stream:
        said = stream.read(MOST_CAPTION).decode("utf-8-sig", "replace").strip()
    return Item(name, said or caption or "", path)


def _read_shard(folder: Path, shard: Path) -> Iterator[Item | Fault]:
    """A shard's samples: members of one name but for the end, a medium and a `.txt` or a `.json` with its caption."""
    where = str(shard.relative_to(folder))
    samples: dict[str, dict[str, Member]] = {}
    for found in list_members(shard):
        if not isinstance(found, Member):
            yield Fault(f"{where}: {found[0]}" if found[0] else where, found[1])
            continue
        samples.setdefault(found.sample, {})[found.ending] = found
    for parts in samples.values():
        medium = next((part for ending, part in parts.items() if ending in VIDEOS | PICTURES), None)
        if medium is None:
            continue
        caption = _read_caption(shard, parts)
        name = f"{where}: {medium.name}"
        yield Fault(name, "it has no caption") if caption is None else Item(name, caption, shard, medium)


def _read_caption(shard: Path, parts: dict[str, Member]) -> str | None:
    part = parts.get(".txt") or parts.get(".json")
    if part is None:
        return None
    with shard.open("rb") as file:
        file.seek(part.start)
        text = file.read(min(part.size, MOST_CAPTION)).decode("utf-8-sig", "replace")
    if part.ending == ".txt":
        return text.strip()
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return _first_column(said, CAPTION_COLUMNS) if isinstance(said, dict) else None
