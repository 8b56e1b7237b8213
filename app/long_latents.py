"""The base stage of a clip of the gallery, from what is kept of its making: what goes on from it begins with the very
frames.

Knows artefacts, parts and starts; runs nothing.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from app.artefacts import Artefacts
from app.gallery.store import hash_file
from app.long_plan import course_of
from app.parts import Parts
from app.starts import Starts
from extensions.long_video.reel import CLIP
from lavie.errors import LavieError
from lavie.events import BASE

if typing.TYPE_CHECKING:
    from torch import Tensor

    from app.gallery import StoredClip
    from app.recipe import Recipe
    from app.studio import Studio

_Piece = Callable[[], "Tensor"]


def kept_latents(studio: Studio, clip: StoredClip, most: int | None = None) -> Tensor | None:
    """The last `most` frames [all], 1 C n h w; None where none are kept whole, or they are another autoencoder's."""
    import torch

    recipe = clip.recipe
    if recipe.model != studio.model or not _same_autoencoder(studio, recipe):
        return None
    found, frames = [], 0
    try:
        for piece in reversed(list(_pieces(studio, clip))):
            found.insert(0, piece())
            frames += found[0].shape[2]
            if most is not None and frames >= most:
                break
    except (LavieError, KeyError):
        return None  # gone or damaged: the file shows the same
    short = frames < (base_frames(recipe) if most is None else min(most, base_frames(recipe)))
    return None if short else torch.cat(found, dim=2)


def base_frames(recipe: Recipe) -> int:
    """How many frames a clip has in its base stage."""
    return course_of(recipe.job).frames if recipe.job.long else recipe.request.frames


def _pieces(studio: Studio, clip: StoredClip) -> Iterator[_Piece]:
    """What reads each piece of the clip, in their order. They raise LavieError or KeyError for what is gone."""
    recipe, database, folder = clip.recipe, studio.database, studio.config.data
    if recipe.job.long is None:
        yield partial(_artefact, Artefacts(database, folder), clip.id)
        return
    starts, parts = Starts(database, folder), Parts(database, folder, clip.id, shared=False)
    made = iter([partial(_part, parts, key) for key in parts.keys_of(BASE)])
    if recipe.reel is None:
        yield from [partial(starts.load, recipe.start)] if recipe.start else []
        yield from made
        return
    for piece in recipe.reel.pieces():
        if piece.kind == CLIP:
            yield partial(starts.load, recipe.shots[piece.number])
        else:
            yield next(made, partial(_part, parts, ""))  # a part that is not listed is gone too


def _artefact(artefacts: Artefacts, job_id: str) -> Tensor:
    latents = artefacts.load(job_id, BASE)
    if latents is None:
        raise KeyError(job_id)
    return latents


def _part(parts: Parts, key: str) -> Tensor:
    return parts[key].latents


def _same_autoencoder(studio: Studio, recipe: Recipe) -> bool:
    bundle = replace(studio.config, model=recipe.model).bundle
    was = {file: found for file, found in recipe.provenance.get("weights", {}).items() if file.startswith("vae/")}
    try:
        return all(hash_file(bundle / file) == found for file, found in was.items())
    except LavieError:
        return False
