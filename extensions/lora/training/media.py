"""Finds media with their captions in a folder, a zip or a list of files, and encodes them to latents of one size."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from extensions.lora.training.losses import WEIGHT
from extensions.lora.training.pictures import MASK, MaskedCut, MovedCut, is_picture, mask_beside, read_picture
from extensions.lora.training.settings import Preset, Settings, names_trigger
from lavie import vae as vae_module
from lavie.bundle import Bundle
from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.files import file_hash
from lavie.manifest import VAE
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import (
    LATENTS,
    Encoded,
    Encoder,
    Encoding,
    Reader,
    collect,
    hash_weights,
    reasons,
    summary,
)
from lavie.training.data.items import PICTURES, VIDEOS, Fault, Item, find_items, pair_with_caption

MAX_MEMBERS = 2000
MAX_BYTES = 4 * 2**30  # of all members, unpacked
MAX_RATIO = 100  # unpacked to packed; pictures and videos hardly shrink, captions at most tenfold
SMALL_BYTES = 2**20  # no ratio limit up to this size, for repetitive captions
_LINK = 0o120000  # the kind of a Unix file that is a symbolic link
_KIND = 0o170000


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`, which appears complete or not at all. An existing folder is left alone.

    Raises TrainingError for damage, passwords, exceeded limits and names that leave the folder.
    """
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = _check_members(archive, file.infolist())
            for member in members:
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)  # zipfile stops at the announced size
        partial.mkdir(parents=True, exist_ok=True)  # of a zip with nothing in it
        partial.replace(folder)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{archive.name} cannot be unpacked ({str(error)[:200]}): pack the pictures again as a plain zip"
        ) from None
    return folder


def _check_members(archive: Path, found: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The plain files of a zip. Raises TrainingError for what nobody packs who means well."""
    members = [member for member in found if not member.is_dir() and not member.filename.startswith("__MACOSX/")]
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


@dataclass(frozen=True)
class Masked(Item):
    """A picture with a mask beside it; another mask makes another item."""

    def digest(self) -> str:
        mask = mask_beside(self.path)
        both = super().digest() + (file_hash(mask) if mask else "")
        return hashlib.sha256(both.encode()).hexdigest()


def find_media(images: Sequence[Path], folder: Path, caption: str) -> tuple[list[Item], list[Fault]]:
    """The items in order of their names, and what is wrong with the rest.

    Args:
        images: one folder, one zip, or files.
        folder: a zip is unpacked in a sub-folder named by its hash.
        caption: of media without one.

    Raises TrainingError for missing files, files that are neither pictures nor videos, and zips beyond the limits.
    """
    if len(images) == 1 and images[0].is_dir():
        items, faults = find_items(images[0], caption)
    elif len(images) == 1 and images[0].is_file() and zipfile.is_zipfile(images[0]):
        items, faults = find_items(_inner(unpack(images[0], folder / file_hash(images[0])[:16])), caption)
    else:
        found = [_file(path, caption) for path in images]
        items, faults = [each for each in found if isinstance(each, Item)], []
    pictures = (item for item in items if not item.name.lower().endswith(MASK))
    return [_with_mask(item) for item in pictures], faults


def middle_frame(read: Reader) -> Reader:
    """Reads pictures as `pictures.read_picture`, and of videos the middle frame, fully weighted."""

    def frames(path: Path) -> Generator[np.ndarray, None, None]:
        if path.suffix.lower() in PICTURES or is_picture(path):  # what was in a shard has no ending
            yield read_picture(path)
            return
        middle = sum(1 for _ in read(path)) // 2
        with closing(read(path)) as video:
            for frame in islice(video, middle, middle + 1):
                yield np.dstack([frame, np.full(frame.shape[:2], 255, np.uint8)])

    return frames


def _file(path: Path, caption: str) -> Item | Fault:
    if not path.is_file():
        raise TrainingError(f"{path} is not there: give a folder, a zip, or files that are")
    if path.suffix.lower() not in PICTURES | VIDEOS:
        known = ", ".join(sorted(PICTURES | VIDEOS))
        raise TrainingError(f"{path} is neither a picture, a video nor a zip: give files that end in {known}")
    return pair_with_caption(path.parent, path, caption)


def _inner(folder: Path) -> Path:
    """The only sub-folder of a folder, or the folder itself."""
    found = list(folder.iterdir())
    return found[0] if len(found) == 1 and found[0].is_dir() else folder


def _with_mask(item: Item) -> Item:
    if item.member is None and item.is_picture and mask_beside(item.path):
        return Masked(item.name, item.caption, item.path)
    return item


def encode_media(
    settings: Settings, preset: Preset, bundle: Bundle, vae: Any, read: Reader
) -> Generator[Notice | Encoding, None, list[Encoded]]:
    """Find and encode media, reporting progress; returns those that are usable.

    Raises TrainingError with the reasons if nothing is usable.
    """
    items, faults = find_media(settings.images, settings.work / "unpacked", settings.caption)
    from_clips = preset.from_clips
    cut = _cut(bundle) if from_clips else _still_cut(MaskedCut, bundle, views=preset.views)
    encoder = _encoder(settings, cut, bundle, vae, read if from_clips else middle_frame(read))
    if from_clips:
        faults += [Fault(item.name, "a picture, a motion is learned from videos") for item in items if item.is_picture]
        items = [item for item in items if not item.is_picture]
    found = yield from collect(encoder, items, faults)
    if not found:
        names = ", ".join(map(str, settings.images))
        why = reasons(faults) if faults else "there is no file that is one"
        raise TrainingError(f"{names} holds no usable {'video' if from_clips else 'picture'}: {why}")
    yield Notice(summary(faults, len(found)))
    yield from map(Notice, _describe_doubts(settings, from_clips, [each.item for each in found]))
    return found


def encode_moving(
    found: list[Encoded], settings: Settings, bundle: Bundle, vae: Any, read: Reader, ways: Sequence[str]
) -> Generator[Encoding, None, list[Encoded]]:
    """Encode pictures in motion (`pictures.MovedCut`), reporting progress."""
    cut = _still_cut(MovedCut, bundle, length=bundle.frames, ways=tuple(ways))
    encoder = _encoder(settings, cut, bundle, vae, middle_frame(read))
    return (yield from collect(encoder, [each.item for each in found], []))


def _describe_doubts(settings: Settings, from_clips: bool, items: list[Item]) -> Iterator[str]:
    """Notes on the media for a person."""
    if len(items) == 1:
        yield "there is one medium only: it will be learned by heart, with its background; five or more are better"
    videos = sum(not item.is_picture for item in items)
    if videos and not from_clips:
        yield f"{videos} of {len(items)} are videos: the frame in the middle of each is taken as a picture"
    silent = [item for item in items if not names_trigger(item.caption, settings.trigger)]
    if silent:
        examples = ", ".join(item.name for item in silent[:3])
        yield f"{len(silent)} of {len(items)} captions do not hold “{settings.trigger}” ({examples}): add it to them"


def _cut(bundle: Bundle) -> Cut:
    return Cut(bundle.frames, bundle.width, bundle.height)


def _still_cut(kind: type[MaskedCut], bundle: Bundle, **how: Any) -> MaskedCut:
    return kind(**vars(replace(_cut(bundle), frames=1, most=1)), **how)


def _encoder(settings: Settings, cut: Cut, bundle: Bundle, vae: Any, read: Reader) -> Encoder:
    factor = bundle.halvings(VAE)
    return Encoder(settings.work / "latents", read, cut, lambda clip: _encode(vae, clip, factor), hash_weights(vae))


@torch.no_grad()
def _encode(vae: Any, clip: np.ndarray, factor: int) -> dict[str, Tensor]:
    """uint8 F H W 3, or 4 with pixel weights → latents C F h w, and weights 1 F h w."""
    frames = vae_module.from_uint8(torch.from_numpy(np.ascontiguousarray(clip[..., :3]))).transpose(0, 1)[None]
    stored = {LATENTS: vae_module.encode(vae, frames.to(vae.device))[0].cpu().half()}
    if clip.shape[-1] == 4:
        plane = torch.from_numpy(np.ascontiguousarray(clip[..., 3])).float() / 255
        stored[WEIGHT] = F.avg_pool2d(plane[:, None], factor).transpose(0, 1).half()
    return stored
