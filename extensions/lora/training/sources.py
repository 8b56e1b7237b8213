"""A folder, a zip or a list of files → what there is to learn from, each with its caption. Opens no picture."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from extensions.lora.training.archives import unpack
from extensions.lora.training.pictures import MASK, is_picture, mask_beside, read_picture
from lavie.errors import TrainingError
from lavie.files import file_hash
from lavie.training.data.encoded import Reader
from lavie.training.data.items import PICTURES, VIDEOS, Fault, Item, beside, find_items


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
