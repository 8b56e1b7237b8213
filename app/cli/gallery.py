"""The commands of the gallery, which work beside a running studio through the same database.

Knows arguments and what a terminal shows. Does not know how clips are kept: that is `app.gallery`, imported only when
a command runs.
"""

from __future__ import annotations

import json
import typing
from typing import Annotated

import typer

from app.cli import gallery_edit, gallery_maintenance
from app.cli.gallery_options import (
    FavouriteOption,
    RatingOption,
    TagOption,
    change_each,
    opened_gallery,
    print_clips,
    query_of,
    saved_search,
)
from app.cli.options import DataOption, JsonOption
from app.cli.output import print_grid, print_result

if typing.TYPE_CHECKING:
    from app.gallery import Page

gallery = typer.Typer(help="Find, describe and keep clips.", rich_markup_mode=None, no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="CLIP_ID", help="As `gallery list` shows it.")]
Tags = Annotated[list[str], typer.Argument(metavar="TAG…")]


@gallery.callback()
def _group() -> None:
    """Find, describe and keep clips."""


@gallery.command("search")
@gallery.command("list")
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", help='Words, "whole phrases", begin*, -without.')] = "",
    model: Annotated[str | None, typer.Option(help="Made by this model.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Made with the adapter whose file has this hash.")] = None,
    stages: Annotated[str | None, typer.Option(help="Such as base+interpolation.")] = None,
    seed: Annotated[int | None, typer.Option(help="Made with this seed.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels of the file.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels of the file.")] = None,
    created_from: Annotated[str | None, typer.Option("--from", help="A day or time, as 2026-01-31.")] = None,
    created_to: Annotated[str | None, typer.Option("--to", help="The last day or time.")] = None,
    min_rating: RatingOption = 0,
    favourite: FavouriteOption = None,
    tag: TagOption = None,
    parent: Annotated[str | None, typer.Option(metavar="CLIP_ID", help="Made from this clip.")] = None,
    trashed: Annotated[bool, typer.Option("--trashed", help="Look in the trash.")] = False,
    missing: Annotated[bool | None, typer.Option("--missing/--no-missing", help="Its file is gone, or there.")] = None,
    stacked: Annotated[bool, typer.Option("--stacked", help="One clip for all that differ in the seed alone.")] = False,
    sort: Annotated[str, typer.Option(help="newest, oldest, rating, longest or relevance.")] = "newest",
    saved: Annotated[str | None, typer.Option(metavar="NAME", help="A saved search instead of all this.")] = None,
    save: Annotated[str | None, typer.Option(metavar="NAME", help="Keep this search under a name.")] = None,
    after: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Clips to show at most.")] = 24,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List clips: all, or those that are found by words and filters."""
    query = query_of(
        text=text,
        model=model,
        adapter=adapter,
        stages=stages,
        seed=seed,
        width=width,
        height=height,
        created_from=created_from,
        created_to=created_to,
        min_rating=min_rating,
        favourite=favourite,
        tags=tuple(tag or ()),
        parent=parent,
        trashed=trashed,
        missing=missing,
        stacked=stacked,
        sort=sort,
    )
    with opened_gallery(data) as clips:
        query = query if saved is None else saved_search(clips, saved)
        if save is not None:
            clips.save_search(save, query)
        page = clips.page(query, after, limit)
    found = {"clips": [clip.to_dict() for clip in page.clips], "next": page.next}
    found |= {"total": page.total, "total_is_exact": page.total_is_exact}
    print_result(as_json, found, lambda: _list(page))


@gallery.command()
def show(clip_id: Id, data: DataOption = None, as_json: JsonOption = False) -> None:
    """All that is known of a clip: file, recipe, parents and children."""
    with opened_gallery(data) as clips:
        clip = clips.require(clip_id)
        family = {name: [one.id for one in getattr(clips, name)(clip_id)] for name in ("parents", "children")}
    found = {**clip.to_dict(), "recipe": json.loads(clip.recipe_json), **family}
    print_result(as_json, found, lambda: print(json.dumps(found, ensure_ascii=False, indent=1)))


@gallery.command()
def compare(this: Id, that: Id, data: DataOption = None, as_json: JsonOption = False) -> None:
    """What two clips were made with that differs."""
    with opened_gallery(data) as clips:
        rows = clips.difference(this, that)
    found = {"differences": [{"name": name, "this": one, "that": other} for name, one, other in rows]}
    print_result(as_json, found, lambda: print_grid(("", this, that), rows) if rows else print("nothing differs"))


@gallery.command()
def tag(clip_id: Id, tags: Tags, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Give a clip tags."""
    change_each(data, as_json, [clip_id], "tag", *tags)


@gallery.command()
def untag(clip_id: Id, tags: Tags, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take tags from a clip."""
    change_each(data, as_json, [clip_id], "untag", *tags)


@gallery.command()
def tags(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The tags in use, with the number of their clips."""
    with opened_gallery(data) as clips:
        counts = clips.tags()
    print_result(as_json, {"tags": counts}, lambda: print_grid(("tag", "clips"), counts.items()))


@gallery.command()
def rate(
    clip_id: Id,
    rating: Annotated[int, typer.Argument(min=0, max=5, help="0 takes the rating away.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rate a clip."""
    change_each(data, as_json, [clip_id], "rate", rating)


@gallery.command()
def favourite(
    clip_id: Id,
    on: Annotated[bool, typer.Option("--on/--off")] = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a clip a favourite, or not."""
    change_each(data, as_json, [clip_id], "favourite", on)


@gallery.command()
def note(
    clip_id: Id,
    text: Annotated[str, typer.Argument(help="Replaces the note; an empty one is none.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a note about a clip."""
    change_each(data, as_json, [clip_id], "note", text)


@gallery.command()
def searches(
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Forget this one first.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The saved searches."""
    with opened_gallery(data) as clips:
        if delete is not None:
            clips.delete_search(delete)
        found = {name: json.loads(query.to_json()) for name, query in clips.searches().items()}
    rows = [(name, json.dumps(query, ensure_ascii=False)) for name, query in found.items()]
    print_result(as_json, {"searches": found}, lambda: print_grid(("name", "search"), rows))


for command in (
    gallery_maintenance.delete,
    gallery_maintenance.restore,
    gallery_maintenance.purge,
    gallery_maintenance.check,
    gallery_maintenance.rebuild,
    gallery_maintenance.export,
):
    gallery.command()(command)
for command in (gallery_edit.save, gallery_edit.trim, gallery_edit.join):
    gallery.command()(command)
gallery.command("import")(gallery_maintenance.import_)


def _list(page: Page) -> None:
    print_clips(page.clips)
    total = f"{'' if page.total_is_exact else 'more than '}{page.total}"
    print(f"{len(page.clips)} of {total}" + (f"; more with --after '{page.next}'" if page.next else ""))
