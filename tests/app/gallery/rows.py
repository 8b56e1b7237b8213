"""Rows of clips without files: what a search sees."""

from app.gallery.gallery import row_of
from app.gallery.sidecar import Sidecar
from app.recipes.recipe import Recipe
from lavie.request import Request

DAY = 86_400_000_000  # microseconds


def row(number, prompt="a red star", seed=None, missing=None, model="nano", interpolation=None, **values):
    """The clip `c<number>`, a day younger than the one of the number before."""
    request = Request(prompt, seed=number if seed is None else seed, interpolation=interpolation)
    name = f"{number:064x}"
    about = {"width": 96, "height": 64, "frames": 16, "fps": 8.0, **values}
    sidecar = Sidecar(
        id=f"c{number}",
        file=f"clips/c{number}.mp4",
        file_hash=name,
        recipe=Recipe(request, model),
        bytes=1,
        seconds=1.0,
        frame_hash=name,
        created="2026-01-01",
        **about,
    )
    return row_of(sidecar, (20_000 + number) * DAY, missing)
