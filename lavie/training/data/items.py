"""Which media a folder holds, and what is said of each: pairs of a caption and a file. Opens no picture and no video.

Four layouts are known, and may stand beside each other: `metadata.csv` or `metadata.jsonl` (`file_name`, `text`), any
other csv at the top (`path`, `caption`, as WebVid's), a `.txt` beside each file, and WebDataset shards (`.tar`).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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

    def stream(self, shard: Path) -> io.BufferedReader:
        """The member's bytes."""
        return io.BufferedReader(_Piece(shard, self.start, self.size))


class _Piece(io.RawIOBase):
    """A part of a file, read once from its beginning to its end."""

    def __init__(self, path: Path, start: int, size: int):
        self._file, self._left = path.open("rb"), size
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def members(shard: Path) -> Iterator[Member | tuple[str, str]]:
    """The plain files of a shard in order; (name, reason) for what is left out, with no name where it is the shard."""
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
    """Something that was left out. kind: the reason as faults are counted by; detail: what more is known."""

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
        """The medium as a file of its own, for as long as the block lasts; what is in a shard is copied out."""
        if self.member is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            # The name in the shard is used for nothing: it may hold anything.
            copy = Path(folder) / "medium"
            with self._stream() as medium, copy.open("wb") as out:
                shutil.copyfileobj(medium, out)
            yield copy

    def digest(self) -> str:
        """sha256 of the medium's bytes."""
        found = hashlib.sha256()
        with self._stream() as medium:
            while chunk := medium.read(1 << 20):
                found.update(chunk)
        return found.hexdigest()

    def _stream(self) -> BinaryIO:
        return self.path.open("rb") if self.member is None else self.member.stream(self.path)


def find_items(folder: Path, caption: str | None = None) -> tuple[list[Item], list[Fault]]:
    """What `folder` holds, in the order of names, and what is wrong with the rest.

    caption: of the files of which nothing is said; None to leave them out.

    Raises TrainingError: the folder is none.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder: give one with media and their captions")
    items, faults = [], []
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    tables = [path for path in files if path.parent == folder and _is_table(path)]
    for table in tables:
        _collect(_from_table(folder, table), items, faults)
    named = {item.path for item in items} | {folder / fault.name for fault in faults}
    for path in files:
        if path.suffix.lower() == ".tar":
            _collect(_from_shard(folder, path), items, faults)
        elif path.suffix.lower() in VIDEOS | PICTURES and path not in named:
            _collect([beside(folder, path, caption)], items, faults)
    return items, faults


def _collect(found, items: list[Item], faults: list[Fault]) -> None:
    """Sort what was found into both lists; a caption that says nothing is a fault."""
    for each in found:
        if isinstance(each, Item) and not each.caption.strip():
            each = Fault(each.name, "its caption is empty")
        (items if isinstance(each, Item) else faults).append(each)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" or path.name.lower() == "metadata.jsonl"


def _from_table(folder: Path, table: Path) -> Iterator[Item | Fault]:
    rows = _csv_rows if table.suffix.lower() == ".csv" else _json_rows
    try:
        for number, row in rows(table):
            yield _row(folder, table, number, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield Fault(table.name, "the table cannot be read", str(error))


def _csv_rows(table: Path) -> Iterator[tuple[int, dict | None]]:
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            yield reader.line_num, row


def _json_rows(table: Path) -> Iterator[tuple[int, dict | None]]:
    with table.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else None


def _row(folder: Path, table: Path, number: int, row: dict | None) -> Item | Fault:
    where = f"{table.name} line {number}"
    if row is None:
        return Fault(where, "the line is no JSON object")
    name, caption = (_first(row, columns) for columns in (FILE_COLUMNS, CAPTION_COLUMNS))
    if name is None or caption is None:
        return Fault(where, f"no column {' or '.join(FILE_COLUMNS)}, or none {' or '.join(CAPTION_COLUMNS)}")
    if not name:
        return Fault(where, "no file is named")
    return _inside(folder, name, caption)


def _first(row: dict, columns: tuple[str, ...]) -> str | None:
    """The first of the columns that is there, as text; None where there is none of them."""
    return next((str(row[column] or "") for column in columns if column in row), None)


def _inside(folder: Path, name: str, caption: str) -> Item | Fault:
    """A file that a table names. Tables come from elsewhere: what leads out of the folder is not followed."""
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


def beside(folder: Path, path: Path, caption: str | None = None) -> Item | Fault:
    """A file that no table names: its caption stands beside it, else it is `caption`."""
    name, text = str(path.relative_to(folder)), path.with_suffix(".txt")
    if not text.is_file():
        return Fault(name, "it has no caption") if caption is None else Item(name, caption, path)
    with text.open("rb") as stream:
        said = stream.read(MOST_CAPTION).decode("utf-8-sig", "replace").strip()
    return Item(name, said or caption or "", path)


def _from_shard(folder: Path, shard: Path) -> Iterator[Item | Fault]:
    """A shard's samples: members of one name but for the end, a medium and a `.txt` or a `.json` with its caption."""
    where, samples = str(shard.relative_to(folder)), {}
    for found in members(shard):
        if not isinstance(found, Member):
            yield Fault(f"{where}: {found[0]}" if found[0] else where, found[1])
            continue
        samples.setdefault(found.sample, {})[found.ending] = found
    for parts in samples.values():
        medium = next((part for ending, part in parts.items() if ending in VIDEOS | PICTURES), None)
        if medium is None:
            continue
        caption = _shard_caption(shard, parts)
        name = f"{where}: {medium.name}"
        yield Fault(name, "it has no caption") if caption is None else Item(name, caption, shard, medium)


def _shard_caption(shard: Path, parts: dict[str, Member]) -> str | None:
    part = parts.get(".txt") or parts.get(".json")
    if part is None:
        return None
    with part.stream(shard) as stream:
        text = stream.read(MOST_CAPTION).decode("utf-8-sig", "replace")
    if part.ending == ".txt":
        return text.strip()
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return _first(said, CAPTION_COLUMNS) if isinstance(said, dict) else None
