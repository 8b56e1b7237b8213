"""The commands of the gallery. They work beside a running studio through the same database.

`app.gallery` is imported when a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.exit_codes import exit_codes
from app.cli.options import DataOption, JsonOption, data_folder
from app.cli.output import print_grid, print_result
from lavie.errors import RequestError

if typing.TYPE_CHECKING:
    from app.gallery import Clip, Gallery, Page, Query

gallery = typer.Typer(help="Find, describe and keep clips.", rich_markup_mode=None, no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="CLIP_ID", help="As `gallery list` shows it.")]
Ids = Annotated[list[str], typer.Argument(metavar="CLIP_ID…", help="As `gallery list` shows them.")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="[CLIP_ID…]", help="[default: all]")]
Tags = Annotated[list[str], typer.Argument(metavar="TAG…")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Has this tag; may be repeated.")]
RatingOption = Annotated[int, typer.Option(min=0, max=5, help="Rated this or better.")]
FavouriteOption = Annotated[bool | None, typer.Option("--favourite/--no-favourite", help="Is a favourite, or is none.")]
Output = Annotated[Path, typer.Option(help="The file to write.")]
SpeedOption = Annotated[float, typer.Option(help="0.25 … 4: 2 takes every second frame, 0.5 each one twice.")]
LoopOption = Annotated[int, typer.Option(help="How many times it plays, 1 … 20.")]
SoundOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Adds its sound, repeated or cut to the length [default: none]."),
]
_OTHER_OPTIONS = ("saved", "save", "after", "limit", "data", "as_json")  # of `gallery list`, besides its filters


@gallery.command("search")
@gallery.command("list")
def list_clips(
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
    given = dict(locals())
    given["tags"] = tuple(given.pop("tag") or ())
    query = _make_query(**{name: value for name, value in given.items() if name not in _OTHER_OPTIONS})
    with _open_gallery(data) as clips:
        from app.gallery.search import find_clips, save_search

        query = query if saved is None else _saved_search(clips, saved)
        if save is not None:
            save_search(clips, save, query)
        page = find_clips(clips, query, after, limit)
    found: dict[str, Any] = {"clips": [clip.to_dict() for clip in page.clips], "next": page.next, "total": page.total}
    found |= {"total_is_exact": page.total_is_exact}
    print_result(as_json, found, lambda: _print_page(page))


@gallery.command()
def show(clip_id: Id, data: DataOption = None, as_json: JsonOption = False) -> None:
    """All that is known of a clip: file, recipe, parents and children."""
    with _open_gallery(data) as clips:
        from app.gallery.lineage import find_children, find_parents

        clip = clips.require(clip_id)
        parents, children = find_parents(clips, clip_id), find_children(clips, clip_id)
    family = {"parents": [one.id for one in parents], "children": [one.id for one in children]}
    found = {**clip.to_dict(), "recipe": json.loads(clip.recipe_json), **family}
    print_result(as_json, found, lambda: print(json.dumps(found, ensure_ascii=False, indent=1)))


@gallery.command()
def compare(this: Id, that: Id, data: DataOption = None, as_json: JsonOption = False) -> None:
    """What two clips were made with that differs."""
    with _open_gallery(data) as clips:
        from app.gallery.lineage import compare_clips

        rows = compare_clips(clips, this, that)
    found = {"differences": [{"name": name, "this": one, "that": other} for name, one, other in rows]}
    print_result(as_json, found, lambda: print_grid(("", this, that), rows) if rows else print("nothing differs"))


@gallery.command()
def tag(clip_id: Id, tags: Tags, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Give a clip tags."""
    _change_each(data, as_json, [clip_id], lambda clips, clip_id: clips.tag(clip_id, *tags))


@gallery.command()
def untag(clip_id: Id, tags: Tags, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take tags from a clip."""
    _change_each(data, as_json, [clip_id], lambda clips, clip_id: clips.untag(clip_id, *tags))


@gallery.command()
def tags(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The tags in use, with the number of their clips."""
    with _open_gallery(data) as clips:
        from app.gallery.search import count_values

        counts = count_values(clips, "tag")
    print_result(as_json, {"tags": counts}, lambda: print_grid(("tag", "clips"), counts.items()))


@gallery.command()
def rate(
    clip_id: Id,
    rating: Annotated[int, typer.Argument(min=0, max=5, help="0 takes the rating away.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rate a clip."""
    _change_each(data, as_json, [clip_id], lambda clips, clip_id: clips.rate(clip_id, rating))


@gallery.command()
def favourite(
    clip_id: Id,
    on: Annotated[bool, typer.Option("--on/--off")] = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a clip a favourite, or not."""
    _change_each(data, as_json, [clip_id], lambda clips, clip_id: clips.favourite(clip_id, on))


@gallery.command()
def note(
    clip_id: Id,
    text: Annotated[str, typer.Argument(help="Replaces the note; an empty one is none.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a note about a clip."""
    _change_each(data, as_json, [clip_id], lambda clips, clip_id: clips.note(clip_id, text))


@gallery.command()
def searches(
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Forget this one first.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The saved searches."""
    with _open_gallery(data) as clips:
        from app.gallery.search import delete_search, list_searches

        if delete is not None:
            delete_search(clips, delete)
        found = {name: json.loads(query.to_json()) for name, query in list_searches(clips).items()}
    rows = [(name, json.dumps(query, ensure_ascii=False)) for name, query in found.items()]
    print_result(as_json, {"searches": found}, lambda: print_grid(("name", "search"), rows))


@gallery.command()
def delete(clip_ids: Ids, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Put clips into the trash. Their files stay until they are purged."""
    from app.gallery.trash import move_to_trash

    _change_each(data, as_json, clip_ids, move_to_trash)


@gallery.command()
def restore(clip_ids: Ids, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take clips out of the trash."""
    from app.gallery import trash

    _change_each(data, as_json, clip_ids, trash.restore)


@gallery.command()
def purge(clip_ids: SomeIds = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Remove clips of the trash with their files. They cannot be brought back."""
    with _open_gallery(data) as clips:
        from app.gallery import trash

        purged = trash.purge(clips, clip_ids or None)
    print_result(as_json, {"purged": purged}, lambda: print(f"purged: {len(purged)}"))


@gallery.command()
def check(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Mark clips whose files are gone, and find those that came back under any name."""
    with _open_gallery(data) as clips:
        from app.gallery.rebuild import check_files

        checked = check_files(clips)
    found = {"missing": list(checked.missing), "found": list(checked.found)}
    print_result(as_json, found, lambda: print(f"missing: {len(checked.missing)}, found again: {len(checked.found)}"))


@gallery.command()
def rebuild(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Make the gallery again from the files alone. A database that is damaged is put aside first."""
    with exit_codes():
        from app.gallery import rebuild as maintenance

        aside = maintenance.put_aside_if_damaged(data_folder(data))
        with _load_gallery(data) as clips:
            rebuilt = maintenance.rebuild(clips)
        skipped = [{"path": str(path), "reason": reason} for path, reason in rebuilt.skipped]
        found = {"found": list(rebuilt.found), "kept": rebuilt.kept, "skipped": skipped}

        def tell() -> None:
            if aside is not None:
                print(f"the damaged database is kept as {aside}")
            for one in skipped:
                print(f"skipped {one['path']}: {one['reason']}")
            print(f"found: {len(rebuilt.found)}, known before: {rebuilt.kept}, skipped: {len(skipped)}")

        print_result(as_json, {**found, "aside": None if aside is None else str(aside)}, tell)


@gallery.command()
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE.zip")],
    clip_ids: SomeIds = None,
    text: Annotated[str, typer.Option(help="Found by these words.")] = "",
    min_rating: RatingOption = 0,
    favourite: FavouriteOption = None,
    tag: TagOption = None,
    saved: Annotated[str | None, typer.Option(metavar="NAME", help="Found by a saved search.")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Without recipes and notes.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write clips to one zip: those named, or those found, or all."""
    query = _make_query(text=text, min_rating=min_rating, favourite=favourite, tags=tuple(tag or ()))
    with _open_gallery(data) as clips:
        from app.gallery.exchange import export_zip

        query = query if saved is None else _saved_search(clips, saved)
        done = export_zip(clips, target.expanduser(), clip_ids or query, clean=clean)
    left_out = [{"id": clip_id, "reason": reason} for clip_id, reason in done.left_out]
    found = {"path": str(done.path), "clips": list(done.clips), "left_out": left_out}
    print_result(as_json, found, lambda: print(f"{done.path}\n{len(done.clips)} clips, {len(left_out)} left out"))


@gallery.command()
def save(
    clip_id: Id,
    output: Output,
    kind: Annotated[str, typer.Option("--as", help="h264, webm, gif, png (a zip), prores or ffv1.")] = "h264",
    clean: Annotated[bool, typer.Option("--clean", help="Without the recipe.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a clip as a file of another format, every frame of it."""
    with _open_gallery(data) as clips:
        from app.media import export_clip

        export_clip(clips.require(clip_id).path, output.expanduser(), kind, recipe=not clean)
    _print_path(as_json, output)


@gallery.command()
def trim(
    clip_id: Id,
    output: Output,
    start: Annotated[int, typer.Option(min=0, help="The first frame to keep, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(min=1, help="The first frame to leave out [default: none].")] = None,
    speed: SpeedOption = 1,
    loop: LoopOption = 1,
    sound: SoundOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a part of a clip as an mp4."""
    with _open_gallery(data) as clips:
        from app.media import export

        clip = clips.require(clip_id)
        effects = export.Effects(speed, loop, sound and sound.expanduser())
        stop = clip.frames if stop is None else stop
        export.trim(clip.path, output.expanduser(), start, stop, effects=effects)
    _print_path(as_json, output)


@gallery.command()
def join(
    clip_ids: Ids,
    output: Output,
    crossfade: Annotated[int, typer.Option(min=0, help="Frames over which neighbours fade into each other.")] = 0,
    speed: SpeedOption = 1,
    loop: LoopOption = 1,
    sound: SoundOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write clips one after another as one mp4, with nothing new between them: `join` makes what leads over."""
    with _open_gallery(data) as clips:
        from app.media import export

        sources = [clips.require(clip_id).path for clip_id in clip_ids]
        effects = export.Effects(speed, loop, sound and sound.expanduser())
        export.join(sources, output.expanduser(), crossfade, effects=effects)
    _print_path(as_json, output)


@gallery.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE.zip")], data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Take in the clips of a zip that `gallery export` wrote. What is here already is kept once."""
    with _open_gallery(data, make=True) as clips:
        from app.gallery.exchange import import_zip

        done = import_zip(clips, path.expanduser())
    skipped = [{"name": name, "reason": reason} for name, reason in done.skipped]
    found = {"new": list(done.new), "kept": list(done.kept), "renamed": done.renamed, "skipped": skipped}

    def tell() -> None:
        for one in skipped:
            print(f"skipped {one['name']}: {one['reason']}")
        print(f"new: {len(done.new)}, here already: {len(done.kept)}, skipped: {len(skipped)}")

    print_result(as_json, found, tell)


@contextlib.contextmanager
def _open_gallery(data: Path | None, *, make: bool = False) -> Iterator[Gallery]:
    """The gallery of a data folder, with errors as exit codes. make: create the folder."""
    with exit_codes(), _load_gallery(data, make=make) as clips:
        yield clips


@contextlib.contextmanager
def _load_gallery(data: Path | None, *, make: bool = False) -> Iterator[Gallery]:
    """The gallery of a data folder, with errors as exceptions."""
    from app.gallery import Gallery
    from app.storage.database import Database

    with contextlib.closing(Database(data_folder(data, make=make))) as database:
        yield Gallery(database, database.path.parent)


def _make_query(**filters: Any) -> Query:
    """A query from options. Invalid values are wrong usage."""
    from app.gallery import Query

    try:
        return Query(**filters)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None


def _saved_search(clips: Gallery, name: str) -> Query:
    from app.gallery.search import list_searches

    known = list_searches(clips)
    if name not in known:
        raise RequestError(f"there is no saved search {name!r}: `gallery searches` lists them")
    return known[name]


def _change_each(data: Path | None, as_json: bool, clip_ids: list[str], change: Callable[[Gallery, str], Clip]) -> None:
    with _open_gallery(data) as clips:
        for clip_id in clip_ids:
            clips.require(clip_id)  # all must exist before one is changed
        changed = [change(clips, clip_id) for clip_id in clip_ids]
    print_result(as_json, {"clips": [clip.to_dict() for clip in changed]}, lambda: _print_clips(changed))


def _print_path(as_json: bool, output: Path) -> None:
    path = str(output.expanduser().absolute())
    print_result(as_json, {"path": path}, lambda: print(path))


def _print_page(page: Page) -> None:
    _print_clips(page.clips)
    total = f"{'' if page.total_is_exact else 'more than '}{page.total}"
    print(f"{len(page.clips)} of {total}" + (f"; more with --after '{page.next}'" if page.next else ""))


def _print_clips(clips: Iterable[Clip]) -> None:
    columns = ("id", "prompt", "size", "seed", "rating", "tags", "")
    print_grid(columns, [(c.id, c.prompt, f"{c.width}×{c.height}×{c.frames}", *_describe(c)) for c in clips])


def _describe(clip: Clip) -> tuple[Any, ...]:
    marks = [f"×{clip.count}" if clip.count > 1 else "", clip.trashed and "trash", clip.missing and "missing"]
    stars = ("♥ " if clip.favourite else "") + "★" * clip.rating
    return clip.seed, stars, ", ".join(clip.tags), " ".join(filter(None, marks))
