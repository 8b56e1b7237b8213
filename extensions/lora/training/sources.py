"""A folder, a zip or a list of files → what there is to learn from, each with its caption. Opens no picture."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from extensions.lora.training.pictures import MASK, is_picture, mask_beside, read_picture
from lavie.errors import TrainingError
from lavie.files import file_hash
from lavie.training.data.encoded import Reader
from lavie.training.data.items import PICTURES, VIDEOS, Fault, Item, beside, find_items

MAX_MEMBERS = 2000
MAX_BYTES = 4 * 2**30  # of all members, unpacked
MAX_RATIO = 100  # of unpacked to packed; pictures and videos hardly shrink, captions tenfold at most
SMALL_BYTES = 2**20  # members up to here may shrink as they like: long captions of few words do
_LINK = 0o120000  # the kind of a Unix file that is a symbolic link
_KIND = 0o170000


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`, which appears whole or not at all and is left alone where it is there already.

    Raises TrainingError for damage, a password, too much of anything, and names that lead elsewhere.
    """
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = _checked(archive, file.infolist())
            for member in members:
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)  # never more than the announced size: zipfile stops there
        partial.mkdir(parents=True, exist_ok=True)  # of a zip with nothing in it
        partial.replace(folder)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{archive.name} cannot be unpacked ({str(error)[:200]}): pack the pictures again as a plain zip"
        ) from None
    return folder


def _checked(archive: Path, found: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The plain files of a zip. Raises TrainingError for what nobody packs who means well."""
    members = [member for member in found if not member.is_dir() and not _is_clutter(member)]
    if len(members) > MAX_MEMBERS:
        raise TrainingError(f"{archive.name} holds {len(members)} files, more than {MAX_MEMBERS}: pack fewer")
    if (total := sum(member.file_size for member in members)) > MAX_BYTES:
        raise TrainingError(f"{archive.name} unpacks to {total} bytes, more than {MAX_BYTES}: pack fewer or smaller")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise TrainingError(f"{archive.name} holds {member.filename[:200]!r}, which leads out of it: pack again")
        if member.external_attr >> 16 & _KIND == _LINK:
            raise TrainingError(f"{archive.name} holds the link {member.filename[:200]!r}: pack the file itself")
        if member.file_size > max(SMALL_BYTES, MAX_RATIO * member.compress_size):
            raise TrainingError(
                f"{archive.name}: {member.filename[:200]!r} unpacks from {member.compress_size} to {member.file_size} "
                "bytes, which no picture does: leave it out"
            )
    return members


def _is_clutter(member: zipfile.ZipInfo) -> bool:
    """What macOS puts beside each file."""
    return member.filename.startswith("__MACOSX/")


@dataclass(frozen=True)
class Masked(Item):
    """A picture whose mask lies beside it: another mask is another medium."""

    def digest(self) -> str:
        both = super().digest() + file_hash(mask_beside(self.path))
        return hashlib.sha256(both.encode()).hexdigest()


def find_media(images: Sequence[Path], folder: Path, caption: str) -> tuple[list[Item], list[Fault]]:
    """What there is, in the order of names, and what is wrong with the rest.

    Args:
        images: one folder, one zip, or files.
        folder: where a zip is unpacked, in a sub-folder under its hash.
        caption: of media of which nothing is said.

    Raises TrainingError for what is not there, is neither picture nor video, or is a zip beyond the limits.
    """
    if len(images) == 1 and images[0].is_dir():
        items, faults = find_items(images[0], caption)
    elif len(images) == 1 and images[0].is_file() and zipfile.is_zipfile(images[0]):
        items, faults = find_items(_inner(unpack(images[0], folder / file_hash(images[0])[:16])), caption)
    else:
        items, faults = [_file(path, caption) for path in images], []
    pictures = (item for item in items if not item.name.lower().endswith(MASK))
    return [_with_mask(item) for item in pictures], faults


def middle_frame(read: Reader) -> Reader:
    """Pictures as `pictures.read_picture` gives them; of a video the frame in its middle, all of which counts."""

    def frames(path: Path) -> Iterator[np.ndarray]:
        if path.suffix.lower() in PICTURES or is_picture(path):  # what was in a shard has no ending
            yield read_picture(path)
            return
        middle = sum(1 for _ in read(path)) // 2
        with closing(read(path)) as video:
            for frame in islice(video, middle, middle + 1):
                yield np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])

    return frames


def _file(path: Path, caption: str) -> Item:
    if not path.is_file():
        raise TrainingError(f"{path} is not there: give a folder, a zip, or files that are")
    if path.suffix.lower() not in PICTURES | VIDEOS:
        known = ", ".join(sorted(PICTURES | VIDEOS))
        raise TrainingError(f"{path} is neither a picture, a video nor a zip: give files that end in {known}")
    return beside(path.parent, path, caption)


def _inner(folder: Path) -> Path:
    """The folder that was packed as a whole, where there is nothing beside it."""
    found = list(folder.iterdir())
    return found[0] if len(found) == 1 and found[0].is_dir() else folder


def _with_mask(item: Item) -> Item:
    if item.member is None and item.is_picture and mask_beside(item.path):
        return Masked(item.name, item.caption, item.path)
    return item
