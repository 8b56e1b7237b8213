"""The commands that make files of stored clips: in another format, a part of one, several joined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.gallery_options import Ids, opened_gallery
from app.cli.options import DataOption, JsonOption
from app.cli.output import print_result

Id = Annotated[str, typer.Argument(metavar="CLIP_ID", help="As `gallery list` shows it.")]
Output = Annotated[Path, typer.Option(help="The file to write.")]


def save(
    clip_id: Id,
    output: Output,
    kind: Annotated[str, typer.Option("--as", help="h264, webm, gif, png (a zip), prores or ffv1.")] = "h264",
    clean: Annotated[bool, typer.Option("--clean", help="Without the recipe.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a clip as a file of another format, every frame of it."""
    from app.media import export

    with opened_gallery(data) as clips:
        export(clips.require(clip_id).path, output.expanduser(), kind, recipe=not clean)
    _tell(as_json, output)


def trim(
    clip_id: Id,
    output: Output,
    start: Annotated[int, typer.Option(min=0, help="The first frame to keep, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(min=1, help="The first frame to leave out [default: none].")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a part of a clip as an mp4."""
    from app.media import trim as cut

    with opened_gallery(data) as clips:
        clip = clips.require(clip_id)
        cut(clip.path, output.expanduser(), start, clip.frames if stop is None else stop)
    _tell(as_json, output)


def join(
    clip_ids: Ids,
    output: Output,
    crossfade: Annotated[int, typer.Option(min=0, help="Frames over which neighbours fade into each other.")] = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write clips one after another as one mp4, with nothing new between them: `join` makes what leads over."""
    from app.media import join as join_files

    with opened_gallery(data) as clips:
        sources = [clips.require(clip_id).path for clip_id in clip_ids]
        join_files(sources, output.expanduser(), crossfade)
    _tell(as_json, output)


def _tell(as_json: bool, output: Path) -> None:
    path = str(output.expanduser().absolute())
    print_result(as_json, {"path": path}, lambda: print(path))
