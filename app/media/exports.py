"""A clip in other formats: which there are, and what each is for. Every one has exactly the frames of the source.

moviepy encodes where its pipe can be made exact (VP9, ProRes, FFV1). Knows nothing of where exports go.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.media.gif import write_gif
from app.media.moviepy_writer import BT709, write_frames
from app.media.mp4 import as_rate, copy, encode, is_like_ours, same_size
from app.media.partial import check_output, temporary
from app.media.reading import expect_frames, fps_of, frames_of, read_recipe
from lavie.errors import MediaError
from lavie.files import publish

_RECIPE_NAME = "recipe.json"  # in the zip of pictures, which have no place for it


@dataclass(frozen=True)
class Export:
    """A format. suffix: of its files. description: one line for a person.

    write: (source, partial, comment) → how many frames went in; check: (partial, frames, target) raises MediaError.
    """

    suffix: str
    description: str
    write: Callable[[Path, Path, str], int]
    check: Callable[[Path, int, Path], None] = expect_frames


def export(source: Path, target: Path, kind: str, *, recipe: bool = True) -> None:
    """Write `source` to `target` as one of `EXPORTS`, one frame in memory at a time.

    recipe: whether the comment goes along; without it the copy is clean of all that we put into the file. Raises
    MediaError; then `target` is as it was.
    """
    if kind not in EXPORTS:
        raise MediaError(f"there is no export {kind!r}: choose one of {', '.join(EXPORTS)}")
    source, target, chosen = Path(source), Path(target), EXPORTS[kind]
    check_output(target, chosen.suffix, sources=(source,))
    comment = (read_recipe(source) if recipe else None) or ""
    with temporary(target) as partial:
        chosen.check(partial, chosen.write(source, partial, comment), target)
        publish(partial, target)


def _write_h264(source: Path, partial: Path, comment: str) -> int:
    if is_like_ours(source):
        return copy(source, partial, comment)
    with contextlib.closing(frames_of(source)) as frames:
        return encode(partial, source, frames, fps_of(source), comment)


def _by_moviepy(codec: str, filters: str, options: list[str], columns: int = 1) -> Callable[[Path, Path, str], int]:
    """A writer for one codec. columns: the width must be a multiple of it."""

    def write(source: Path, partial: Path, comment: str) -> int:
        rate = as_rate(source, fps_of(source))
        with contextlib.closing(frames_of(source)) as stored:
            width, height, frames = same_size(source, stored)
            if width % columns:
                raise MediaError(f"{source} is {width} pixels wide, {codec} needs an even width: export another kind")
            return write_frames(partial, frames, (width, height), rate, codec, filters, options, comment)

    return write


def _write_pngs(source: Path, partial: Path, comment: str) -> int:
    from PIL import Image

    with contextlib.closing(frames_of(source)) as frames, zipfile.ZipFile(partial, "x") as archive:
        count = 0
        for pixels in frames:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            archive.writestr(_entry(f"frame-{count:06d}.png"), data.getvalue())
            count += 1
        if comment:
            archive.writestr(_entry(_RECIPE_NAME), comment)
    return count


def _entry(name: str) -> zipfile.ZipInfo:
    """Without today's date: the same clip gives the same file. Stored as it is: PNG leaves nothing to compress."""
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def _expect_pngs(partial: Path, count: int, target: Path) -> None:
    with zipfile.ZipFile(partial) as archive:
        written = sum(name.endswith(".png") for name in archive.namelist())
        damaged = archive.testzip()
    if written != count or damaged:
        raise MediaError(f"{target} was not written: {written} of {count} pictures came out whole; check the disk")


EXPORTS: dict[str, Export] = {
    "h264": Export(".mp4", "H.264 in mp4: plays everywhere", _write_h264),
    "webm": Export(
        ".webm",
        "VP9 in WebM: smaller, for web pages",
        _by_moviepy(
            "libvpx-vp9",
            BT709.format("yuv420p"),
            ["-crf", "18", "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1"],
        ),
    ),
    "gif": Export(".gif", "GIF with its own palette: 256 colours, loops, plays in chats", write_gif),
    "png": Export(".zip", "a zip of numbered PNG pictures: the frames as they are stored", _write_pngs, _expect_pngs),
    "prores": Export(
        ".mov",
        "ProRes 422 HQ in QuickTime: for video editors",
        _by_moviepy(
            "prores_ks",
            BT709.format("yuv422p10le"),
            # QuickTime's own comment ends after 65,535 bytes; the newer kind of tags does not.
            ["-profile:v", "3", "-vendor", "apl0", "-movflags", "use_metadata_tags"],
            columns=2,  # the encoder leaves the last pixels of odd rows black
        ),
    ),
    "ffv1": Export(
        ".mkv",
        "FFV1 in Matroska: the frames without any loss, for archives",
        _by_moviepy("ffv1", "format=bgr0", ["-level", "3", "-slicecrc", "1", "-g", "1"]),
    ),
}
