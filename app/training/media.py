"""The media of a training, copied into a folder of its own, since uploads vanish and files change.

Pictures, videos, folders, zips and clips of the gallery → files with numbered names, and reasons for what is left out.
"""

from __future__ import annotations

import errno
import os
import shutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from app.recipes.training import MAX_MEDIA
from app.storage.database import storable
from extensions.lora.adapter import safe_name
from extensions.lora.training.settings import names_trigger, usual_caption
from lavie.errors import MediaError, TrainingError

if typing.TYPE_CHECKING:
    from PIL.Image import Image

    from app.gallery import Clip
    from lavie.training.data.items import Fault, Item


FOLDER, SIDE = "thumbs", 320  # pixels of the longer side


def thumb_of(media: Path, number: str) -> Path | None:
    """The thumbnail of a medium; None if it does not exist or cannot be read. number: the digits of its file's name."""
    thumb = media.with_name(FOLDER) / f"{number}.webp"
    if thumb.is_file():
        return thumb
    found = [file for file in media.glob(f"{number}-*") if not file.name.lower().endswith((".txt", _MASK))]
    try:
        if not found:
            return None
        thumb.parent.mkdir(exist_ok=True)
        _write(found[0], thumb)
    except (OSError, MediaError, ValueError):
        return None
    return thumb


def _write(file: Path, thumb: Path) -> None:
    from app.media.files import temporary
    from lavie.files import publish

    picture = _picture(file)
    picture.thumbnail((SIDE, SIDE))
    with temporary(thumb) as partial:
        picture.save(partial, "WEBP", quality=80)
        publish(partial, thumb)


def _picture(file: Path) -> Image:
    """The picture as the training sees it: upright, with grey for transparency; the first frame of a video."""
    from PIL import Image

    from app.media import UPLOAD_LIMITS, frames_of
    from extensions.lora.training.pictures import is_picture, read_picture
    from lavie.training.data.cuts import Unusable

    if not is_picture(file):
        with closing(frames_of(file, UPLOAD_LIMITS)) as frames:
            return Image.fromarray(next(iter(frames)))
    try:
        return Image.fromarray(read_picture(file)[..., :3].copy())
    except Unusable as reason:
        raise MediaError(f"{file.name} shows nothing ({reason.kind})") from None


PICTURE, VIDEO = "picture", "video"
FRAMES_OF_A_CLIP = 4  # pictures that a clip of the gallery gives, spread over it
IS_PICTURE, IS_VIDEO = "a picture, a motion is learned from videos", "a video: the frame in its middle is taken"
_MASK = ".mask.png"
_NO_CAPTION = "\N{EMPTY SET}"  # stands for no caption; nobody writes it
_STEM = 60  # characters of a name that are kept


@dataclass(frozen=True)
class SetItem:
    """A picture or video of a set.

    Attributes:
        name: as a person knows it.
        kind: `picture` or `video`.
        path: of the copy; None if it is left out, for the reason in `problem`.
        note: a notice for the person.
        from_gallery: whether its caption is a clip's prompt, without the trigger.
    """

    name: str
    caption: str
    kind: str
    path: Path | None = None
    problem: str | None = None
    note: str | None = None
    from_gallery: bool = False

    @property
    def file(self) -> Path:
        assert self.path is not None
        return self.path


@dataclass(frozen=True)
class TrainingSet:
    """Media in a folder. id: of the set, and of the job to be."""

    id: str
    folder: Path
    items: tuple[SetItem, ...]

    @property
    def usable(self) -> tuple[SetItem, ...]:
        return tuple(item for item in self.items if item.path is not None)

    def captions(self, trigger: str) -> dict[str, str]:
        """File → caption: the default if it has none; a clip's prompt follows the trigger."""
        found = {}
        for item in self.usable:
            text = item.caption or usual_caption(trigger)
            silent = item.from_gallery and not names_trigger(text, trigger)
            found[item.file.name] = f"{trigger}, {text}" if silent else text
        return found


def gather(sources: Sequence[Path | Clip], folder: Path, set_id: str, from_clips: bool) -> TrainingSet:
    """Copy usable media to `folder`, which must be new.

    Args:
        sources: pictures, videos, folders, zips, clips; a `.txt` of a medium's name is its caption, a `.mask.png` its
            mask.
        from_clips: take videos, else pictures and frames.

    Raises TrainingError if nothing is usable, for zips and sets beyond the limits, and for a full disk; then no folder
    is left.
    """
    folder.mkdir(parents=True)
    unpacked = folder.with_name("unpacked")
    try:
        items: list[SetItem] = []
        for found in _copy_all(sources, folder, unpacked, from_clips):
            items.append(found)
            if len(items) > MAX_MEDIA:
                raise TrainingError(f"there are more than {MAX_MEDIA} pictures and videos: choose fewer")
        made = TrainingSet(set_id, folder, tuple(items))
        if not made.usable:
            raise TrainingError(f"there is no usable {VIDEO if from_clips else PICTURE}: {_reasons(items)}")
    except BaseException as error:
        shutil.rmtree(folder.parent, ignore_errors=True)
        if isinstance(error, OSError):
            raise TrainingError(f"the media cannot be copied ({error.strerror or error}): make room there") from None
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return made


def write_captions(folder: Path, captions: Mapping[str, str]) -> None:
    """Write each file's caption beside it. Raises TrainingError for a missing file."""
    for name, text in captions.items():
        file = folder / Path(name).name
        if not file.is_file():
            raise TrainingError(f"{name[:100]!r} is not in this set: give captions of its files")
        file.with_suffix(".txt").write_text(f"{text.strip()}\n", encoding="utf-8", errors="replace")


def link_files(folder: Path, target: Path) -> None:
    """Link the files into another folder, which must be new; captions are copied, so that they can change."""
    target.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        if file.suffix == ".txt":
            shutil.copyfile(file, target / file.name)
        else:
            link_or_copy(file, target / file.name)


def _copy_all(sources: Sequence[Path | Clip], folder: Path, unpacked: Path, from_clips: bool) -> Iterator[SetItem]:
    """Copy each medium to the folder; the items in the order of the sources."""
    number = 0
    for source in _pair_files(sources):
        if not isinstance(source, _File | Path):
            for item in _copy_clip(source, folder, number, from_clips):
                number += item.path is not None
                yield item
            continue
        for found, mask in _list_media(source, unpacked):
            item = _copy_medium(found, mask, folder, number, from_clips)
            number += item.path is not None
            yield item


@dataclass(frozen=True)
class _File:
    """A file with its caption and mask."""

    path: Path
    caption: str | None = None
    mask: Path | None = None


def _pair_files(sources: Sequence[Path | Clip]) -> Iterator[_File | Path | Clip]:
    """Join files with the captions and masks that were given with them: an upload lies in a folder of its own."""
    files = [source for source in sources if isinstance(source, Path)]
    texts = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    masks = {file.name[: -len(_MASK)]: file for file in files if file.name.lower().endswith(_MASK)}
    for source in sources:
        if not isinstance(source, Path) or source.is_dir() or source.suffix.lower() == ".zip":
            yield source
        elif source not in texts.values() and source not in masks.values():
            text = texts.get(source.stem)
            caption = text.read_text("utf-8-sig", "replace").strip() if text else None
            yield _File(source, caption, masks.get(source.stem))


def _list_media(source: _File | Path, unpacked: Path) -> Iterator[tuple[Item | Fault, Path | None]]:
    """The media of a file, a folder or a zip, each with its mask."""
    from extensions.lora.training.media import find_media
    from extensions.lora.training.pictures import mask_beside
    from lavie.training.data.items import Fault

    path = source.path if isinstance(source, _File) else source
    try:
        items, faults = find_media([path], unpacked, _NO_CAPTION)
    except TrainingError:
        if not isinstance(source, _File) or not path.is_file():
            raise
        items, faults = [], [Fault(path.name, "it is neither a picture nor a video nor a zip")]
    yield from ((fault, None) for fault in faults)
    for item in items:
        mask = mask_beside(item.path) if item.member is None else None
        if isinstance(source, _File):
            item, mask = replace(item, caption=source.caption or item.caption), source.mask or mask
        yield replace(item, caption="") if item.caption == _NO_CAPTION else item, mask


def _copy_medium(found: Item | Fault, mask: Path | None, folder: Path, number: int, from_clips: bool) -> SetItem:
    from lavie.training.data.items import Fault

    if isinstance(found, Fault):
        return SetItem(storable(found.name), "", PICTURE, problem=_reason(found.kind, found.detail))
    kind = PICTURE if found.is_picture else VIDEO
    item = SetItem(storable(found.name), storable(found.caption), kind)
    if from_clips and kind == PICTURE:
        return replace(item, problem=IS_PICTURE)
    target = folder / f"{number:04}-{_safe_file_name(found.name)}"
    beside = target.with_name(target.stem + _MASK)
    if problem := _copy_files(found, target, mask, beside) or _problem(target, kind):
        for file in (target, beside):
            file.unlink(missing_ok=True)
        return replace(item, problem=problem)
    return replace(item, path=target, note=IS_VIDEO if kind == VIDEO and not from_clips else None)


def _copy_files(found: Item, target: Path, mask: Path | None, beside: Path) -> str | None:
    """Copy a medium and its mask; the reason if that fails. Raises OSError if there is no room for it."""
    try:
        with found.file() as path:
            shutil.copyfile(path, target)
        if mask is not None:
            shutil.copyfile(mask, beside)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _reason("it cannot be read", error.strerror or str(error))
    return None


def _problem(path: Path, kind: str) -> str | None:
    """Why a file cannot be used. Only the first frame of a video is read here."""
    from app.media import UPLOAD_LIMITS, frames_of
    from extensions.lora.training.pictures import read_picture
    from lavie.training.data.cuts import Unusable

    try:
        if kind == PICTURE:
            read_picture(path)
        else:
            with closing(frames_of(path, UPLOAD_LIMITS)) as frames:
                next(frames, None)
    except Unusable as reason:
        return _reason(reason.kind, reason.detail.replace(str(path), path.name))
    except MediaError as error:
        return _reason("it cannot be read", str(error).removeprefix(str(path)).strip())
    return None


def _copy_clip(clip: Clip, folder: Path, number: int, from_clips: bool) -> Iterator[SetItem]:
    item = SetItem(f"{clip.id}.mp4", clip.prompt.strip(), VIDEO if from_clips else PICTURE, from_gallery=True)
    if not clip.path.is_file():
        yield replace(item, problem="its file is gone")
        return
    target = folder / f"{number:04}-{clip.id}.mp4"
    if from_clips:
        link_or_copy(clip.path, target)
        yield replace(item, path=target)
        return
    try:
        for place, name in enumerate(_write_frames(clip, folder, number)):
            yield replace(item, name=f"{clip.id} {place + 1}/{FRAMES_OF_A_CLIP}", path=folder / name)
    except MediaError as error:
        yield replace(item, problem=_reason("it cannot be read", str(error).removeprefix(str(clip.path)).strip()))


def _write_frames(clip: Clip, folder: Path, number: int) -> Iterator[str]:
    """Write the middle frames of equal parts of the clip; the names of the files."""
    from PIL import Image

    from app.media import frames_of

    wanted = {(2 * part + 1) * clip.frames // (2 * FRAMES_OF_A_CLIP) for part in range(FRAMES_OF_A_CLIP)}
    with closing(frames_of(clip.path)) as frames:
        for index, frame in enumerate(frames):
            if index in wanted:
                name = f"{number:04}-{clip.id}-{index:04}.png"
                Image.fromarray(frame).save(folder / name)
                number += 1
                yield name


def _safe_file_name(name: str) -> str:
    """A file name that is valid on every system, with the same suffix."""
    path = Path(name)
    return f"{safe_name(path.stem)[:_STEM].strip(' .') or 'medium'}{path.suffix.lower()}"


def _reasons(items: Sequence[SetItem]) -> str:
    from lavie.training.data.encoded import reasons
    from lavie.training.data.items import Fault

    faults = (Fault(item.name, item.problem or "") for item in items)
    return reasons(faults) or "nothing was given, or a folder without one"


def _reason(kind: str, detail: str) -> str:
    return f"{kind}: {detail}" if detail else kind


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file that never changes; copy it where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
