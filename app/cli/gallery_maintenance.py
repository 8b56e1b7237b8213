"""The commands that keep the gallery in order: the trash, files that moved, all from the files, zips out and in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import exit_codes
from app.cli.gallery_options import (
    FavouriteOption,
    Ids,
    RatingOption,
    SomeIds,
    TagOption,
    change_each,
    data_folder,
    gallery_of,
    opened_gallery,
    query_of,
    saved_search,
)
from app.cli.options import DataOption, JsonOption
from app.cli.output import print_result


def delete(clip_ids: Ids, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Put clips into the trash. Their files stay until they are purged."""
    change_each(data, as_json, clip_ids, "delete")


def restore(clip_ids: Ids, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take clips out of the trash."""
    change_each(data, as_json, clip_ids, "restore")


def purge(
    clip_ids: SomeIds = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove clips of the trash with their files. They cannot be brought back."""
    with opened_gallery(data) as clips:
        purged = clips.purge(clip_ids or None)
    print_result(as_json, {"purged": purged}, lambda: print(f"purged: {len(purged)}"))


def check(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Mark clips whose files are gone, and find those that came back under any name."""
    with opened_gallery(data) as clips:
        checked = clips.check_files()
    found = {"missing": list(checked.missing), "found": list(checked.found)}
    print_result(as_json, found, lambda: print(f"missing: {len(checked.missing)}, found again: {len(checked.found)}"))


def rebuild(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Make the gallery again from the files alone. A database that is damaged is put aside first."""
    with exit_codes():
        from app.gallery import put_aside_if_damaged

        aside = put_aside_if_damaged(data_folder(data))
        with gallery_of(data) as clips:
            rebuilt = clips.rebuild()
        skipped = [{"path": str(path), "reason": reason} for path, reason in rebuilt.skipped]
        found = {"found": list(rebuilt.found), "kept": rebuilt.kept, "skipped": skipped}

        def tell() -> None:
            if aside is not None:
                print(f"the damaged database is kept as {aside}")
            for one in skipped:
                print(f"skipped {one['path']}: {one['reason']}")
            print(f"found: {len(rebuilt.found)}, known before: {rebuilt.kept}, skipped: {len(skipped)}")

        print_result(as_json, {**found, "aside": None if aside is None else str(aside)}, tell)


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
    query = query_of(text=text, min_rating=min_rating, favourite=favourite, tags=tuple(tag or ()))
    with opened_gallery(data) as clips:
        query = query if saved is None else saved_search(clips, saved)
        done = clips.export(target.expanduser(), clip_ids or query, clean=clean)
    left_out = [{"id": clip_id, "reason": reason} for clip_id, reason in done.left_out]
    found = {"path": str(done.path), "clips": list(done.clips), "left_out": left_out}
    print_result(as_json, found, lambda: print(f"{done.path}\n{len(done.clips)} clips, {len(left_out)} left out"))


def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE.zip")], data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Take in the clips of a zip that `gallery export` wrote. What is here already is kept once."""
    with opened_gallery(data, make=True) as clips:
        done = clips.import_zip(path.expanduser())
    skipped = [{"name": name, "reason": reason} for name, reason in done.skipped]
    found = {"new": list(done.new), "kept": list(done.kept), "renamed": done.renamed, "skipped": skipped}

    def tell() -> None:
        for one in skipped:
            print(f"skipped {one['name']}: {one['reason']}")
        print(f"new: {len(done.new)}, here already: {len(done.kept)}, skipped: {len(skipped)}")

    print_result(as_json, found, tell)
