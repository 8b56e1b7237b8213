"""Small pictures of what a training learns from, made when they are first asked for. Knows files of media."""

from __future__ import annotations

import typing
from pathlib import Path

from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    from PIL.Image import Image

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
    from app.media.partial import temporary
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
