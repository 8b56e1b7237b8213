"""What a training learns from, gathered into a folder of its own: uploads vanish, and a folder's files change.

Pictures, videos, folders, zips and clips of the gallery → files with numbered names, and what is wrong with the rest.
Knows files; which clip an id means is told. numpy and Pillow are first imported where a picture is opened.
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

from app.queue.table import storable
from app.recipes.training import MAX_MEDIA
from extensions.lora.adapter import safe_name
from extensions.lora.training.settings import names_trigger, usual_caption
from lavie.errors import MediaError, TrainingError

if typing.TYPE_CHECKING:
    from PIL.Image import Image

    from app.gallery import StoredClip
    from lavie.training.data.items import Fault, Item


FOLDER, SIDE = "thumbs", 320  # pixels of the longer side


def thumb_of(media: Path, number: str) -> Path | None:
    """The picture of a medium; None where there is none, or none that can be read. number: digits that its file's name
    begins with."""
    thumb = media.with_name(FOLDER) / f"{number}.webp"
    if thumb.is_file():
        return thumb
    found = [file for file in media.glob(f"{number}-*") if _is_medium(file)]
    try:
        if not found:
            return None
        thumb.parent.mkdir(exist_ok=True)
        _write(found[0], thumb)
    except (OSError, MediaError, ValueError):
        return None
    return thumb


def _is_medium(file: Path) -> bool:
    from extensions.lora.training.pictures import MASK

    return file.suffix.lower() != ".txt" and not file.name.lower().endswith(MASK)


def _write(file: Path, thumb: Path) -> None:
    from app.media.files import temporary
    from lavie.files import publish

    picture = _picture(file)
    picture.thumbnail((SIDE, SIDE))
    with temporary(thumb) as partial:
        picture.save(partial, "WEBP", quality=80)
        publish(partial, thumb)


def _picture(file: Path) -> Image:
    """What it learns from, as it sees it: upright, its transparency grey. Of a video the first frame."""
    from contextlib import closing

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
_UNSAID = "\N{EMPTY SET}"  # a caption that nobody writes, of media of which nothing is said
_STEM = 60  # characters of a name that go on


@dataclass(frozen=True)
class SetItem:
    """name: as a person knows it. caption: what is said of it, empty where nothing is. kind: `picture` or `video`.

    path: of the copy, None where it is left out; then `problem` says why. note: what a person should know of it.
    from_gallery: whether its caption is a clip's prompt, which knows nothing of the trigger.
    """

    name: str
    caption: str
    kind: str
    path: Path | None = None
    problem: str | None = None
    note: str | None = None
    from_gallery: bool = False


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
        """File → what to say of it, for a person to change: the usual where nothing is said, and the trigger before a
        clip's prompt."""
        found = {}
        for item in self.usable:
            text = item.caption or usual_caption(trigger)
            silent = item.from_gallery and not names_trigger(text, trigger)
            found[item.path.name] = f"{trigger}, {text}" if silent else text
        return found


def gather(sources: Sequence[Path | StoredClip], folder: Path, set_id: str, from_clips: bool) -> TrainingSet:
    """Copy what can be learned from to `folder`, which must be new.

    Args:
        sources: pictures, videos, folders, zips, clips; a `.txt` of a medium's name is its caption, a `.mask.png` says
            what of it counts.
        from_clips: whether a motion is learned, else pictures.

    Raises TrainingError where nothing is usable, with the reasons, for zips and sets beyond the limits, and for a full
    disk; then no folder is left.
    """
    folder.mkdir(parents=True)
    unpacked = folder.with_name("unpacked")
    try:
        items: list[SetItem] = []
        for found in _found(sources, folder, unpacked, from_clips):
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
    """Beside each file what is said of it. Raises TrainingError for a file that is not there."""
    for name, text in captions.items():
        file = folder / Path(name).name
        if not file.is_file():
            raise TrainingError(f"{name[:100]!r} is not in this set: give captions of its files")
        file.with_suffix(".txt").write_text(f"{text.strip()}\n", encoding="utf-8", errors="replace")


def linked(folder: Path, target: Path) -> None:
    """The same files in another folder, which must be new; a caption there can be another one."""
    target.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        if file.suffix == ".txt":
            shutil.copyfile(file, target / file.name)
        else:
            _link(file, target / file.name)


def _found(sources: Sequence[Path | StoredClip], folder: Path, unpacked: Path, from_clips: bool) -> Iterator[SetItem]:
    """Each medium as it is in the folder then, or what is wrong with it, in the order of the sources."""
    number = 0
    for source in _paired(sources):
        if not isinstance(source, _File | Path):
            for item in _of_clip(source, folder, number, from_clips):
                number += item.path is not None
                yield item
            continue
        for found, mask in _media_of(source, unpacked):
            item = _kept(found, mask, folder, number, from_clips)
            number += item.path is not None
            yield item


@dataclass(frozen=True)
class _File:
    """A file by itself, with what came beside it by its name."""

    path: Path
    caption: str | None = None
    mask: Path | None = None


def _paired(sources: Sequence[Path | StoredClip]) -> Iterator[_File | Path | StoredClip]:
    """Files with the captions and masks that were given beside them: an upload lies in a folder of its own."""
    files = [source for source in sources if isinstance(source, Path)]
    texts = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    masks = {file.name[: -len(_MASK)]: file for file in files if file.name.lower().endswith(_MASK)}
    for source in sources:
        if not isinstance(source, Path) or source.is_dir() or source.suffix.lower() == ".zip":
            yield source
        elif source not in texts.values() and source not in masks.values():
            text = texts.get(source.stem)
            yield _File(source, text and text.read_text("utf-8-sig", "replace").strip(), masks.get(source.stem))


def _media_of(source: _File | Path, unpacked: Path) -> Iterator[tuple[Item | Fault, Path | None]]:
    """What a file, a folder or a zip holds, with the mask of each."""
    from extensions.lora.training.pictures import mask_beside
    from extensions.lora.training.sources import find_media

    path = source.path if isinstance(source, _File) else source
    try:
        items, faults = find_media([path], unpacked, _UNSAID)
    except TrainingError:
        if not isinstance(source, _File) or not path.is_file():
            raise
        items, faults = [], [_no_medium(path)]
    yield from ((fault, None) for fault in faults)
    for item in items:
        mask = mask_beside(item.path) if item.member is None else None
        if isinstance(source, _File):
            item, mask = replace(item, caption=source.caption or item.caption), source.mask or mask
        yield replace(item, caption="") if item.caption == _UNSAID else item, mask


def _kept(found: Item | Fault, mask: Path | None, folder: Path, number: int, from_clips: bool) -> SetItem:
    """A medium, looked at and copied."""
    from lavie.training.data.items import Fault

    if isinstance(found, Fault):
        return SetItem(storable(found.name), "", PICTURE, problem=_said(found.kind, found.detail))
    kind = PICTURE if found.is_picture else VIDEO
    item = SetItem(storable(found.name), storable(found.caption), kind)
    if from_clips and kind == PICTURE:
        return replace(item, problem=IS_PICTURE)
    target = folder / f"{number:04}-{_plain(found.name)}"
    beside = target.with_name(target.stem + _MASK)
    if problem := _copied(found, target, mask, beside) or _problem(target, kind):
        for file in (target, beside):
            file.unlink(missing_ok=True)
        return replace(item, problem=problem)
    return replace(item, path=target, note=IS_VIDEO if kind == VIDEO and not from_clips else None)


def _copied(found: Item, target: Path, mask: Path | None, beside: Path) -> str | None:
    """Copy a medium and its mask; why that cannot be. Raises OSError where there is no room for it."""
    try:
        with found.file() as path:
            shutil.copyfile(path, target)
        if mask is not None:
            shutil.copyfile(mask, beside)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _said("it cannot be read", error.strerror or str(error))
    return None


def _problem(path: Path, kind: str) -> str | None:
    """Why a file cannot be used; of a video the first frame tells, its end is seen when it is encoded."""
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
        return _said(reason.kind, reason.detail.replace(str(path), path.name))
    except MediaError as error:
        return _said("it cannot be read", str(error).removeprefix(str(path)).strip())
    return None


def _of_clip(clip: StoredClip, folder: Path, number: int, from_clips: bool) -> Iterator[SetItem]:
    """A clip of the gallery: itself, or some of its frames."""
    item = SetItem(f"{clip.id}.mp4", clip.prompt.strip(), VIDEO if from_clips else PICTURE, from_gallery=True)
    if not clip.path.is_file():
        yield replace(item, problem="its file is gone")
        return
    target = folder / f"{number:04}-{clip.id}.mp4"
    if from_clips:
        _link(clip.path, target)
        yield replace(item, path=target)
        return
    try:
        for place, name in enumerate(_frames(clip, folder, number)):
            yield replace(item, name=f"{clip.id} {place + 1}/{FRAMES_OF_A_CLIP}", path=folder / name)
    except MediaError as error:
        yield replace(item, problem=_said("it cannot be read", str(error).removeprefix(str(clip.path)).strip()))


def _frames(clip: StoredClip, folder: Path, number: int) -> Iterator[str]:
    """Names of files of frames, written there: the middles of equal parts of the clip."""
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


def _plain(name: str) -> str:
    """A name that is one on every system; the ending says what it is."""
    path = Path(name)
    return f"{safe_name(path.stem)[:_STEM].strip(' .') or 'medium'}{path.suffix.lower()}"


def _no_medium(path: Path) -> Fault:
    from lavie.training.data.items import Fault

    return Fault(path.name, "it is neither a picture nor a video nor a zip")


def _reasons(items: Sequence[SetItem]) -> str:
    from lavie.training.data.items import Fault
    from lavie.training.data.report import reasons

    return reasons(Fault(item.name, item.problem) for item in items) or "nothing was given, or a folder without one"


def _said(kind: str, detail: str) -> str:
    return f"{kind}: {detail}" if detail else kind


def _link(source: Path, target: Path) -> None:
    """A second name of a file that never changes; a copy where the disk has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
