"""What the commands of the gallery have in common: how it is opened, and how its clips are shown."""

from __future__ import annotations

import contextlib
import os
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.exit_codes import exit_codes
from app.cli.output import print_grid, print_result
from app.config import read_config
from lavie.errors import RequestError, StorageError

if typing.TYPE_CHECKING:
    from app.gallery import Gallery, Query, StoredClip

Ids = Annotated[list[str], typer.Argument(metavar="CLIP_ID…", help="As `gallery list` shows them.")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="[CLIP_ID…]", help="[default: all]")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Has this tag; may be repeated.")]
RatingOption = Annotated[int, typer.Option(min=0, max=5, help="Rated this or better.")]
FavouriteOption = Annotated[bool | None, typer.Option("--favourite/--no-favourite", help="Is a favourite, or is none.")]


@contextlib.contextmanager
def opened_gallery(data: Path | None, *, make: bool = False) -> Iterator[Gallery]:
    """The gallery of a data folder, with every error as an exit code. make: the folder, if there is none."""
    with exit_codes(), gallery_of(data, make=make) as clips:
        yield clips


@contextlib.contextmanager
def gallery_of(data: Path | None, *, make: bool = False) -> Iterator[Gallery]:
    """The same, with errors as they are."""
    from app.gallery import Gallery
    from app.storage.database import Database

    with contextlib.closing(Database(data_folder(data, make=make))) as database:
        yield Gallery(database, database.path.parent)


def data_folder(data: Path | None, *, make: bool = False) -> Path:
    """A name mistyped must not become an empty folder: only a command that puts something in may make one."""
    folder = read_config(os.environ, data=data).data
    if not make and not folder.is_dir():
        raise StorageError(f"there is no data folder {folder}: name one with --data, or render a first clip")
    return folder


def query_of(**filters: Any) -> Query:
    """A query from options; what it refuses is wrong usage."""
    from app.gallery import Query

    try:
        return Query(**filters)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None


def saved_search(clips: Gallery, name: str) -> Query:
    """Raises RequestError for a name that is not known."""
    known = clips.searches()
    if name not in known:
        raise RequestError(f"there is no saved search {name!r}: `gallery searches` lists them")
    return known[name]


def change_each(data: Path | None, as_json: bool, clip_ids: list[str], what: str, *values: Any) -> None:
    """Call a method of the gallery for each clip, and show how the clips are then."""
    with opened_gallery(data) as clips:
        for clip_id in clip_ids:
            clips.require(clip_id)  # of several, all must be there before one is changed
        changed = [getattr(clips, what)(clip_id, *values) for clip_id in clip_ids]
    print_result(as_json, {"clips": [clip.to_dict() for clip in changed]}, lambda: print_clips(changed))


def print_clips(clips: Iterable[StoredClip]) -> None:
    """A table, a line each."""
    columns = ("id", "prompt", "size", "seed", "rating", "tags", "")
    print_grid(columns, [(c.id, c.prompt, f"{c.width}×{c.height}×{c.frames}", *_said(c)) for c in clips])


def _said(clip: StoredClip) -> tuple[Any, ...]:
    marks = [f"×{clip.count}" if clip.count > 1 else "", "trash" if clip.trashed else ""]
    marks += ["missing" if clip.missing else ""]
    stars = ("♥ " if clip.favourite else "") + "★" * clip.rating
    return clip.seed, stars, ", ".join(clip.tags), " ".join(filter(None, marks))
