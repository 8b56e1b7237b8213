"""From a clip or a file to the latents that a long video continues or joins. torch and a model are loaded when frames
come in.

Knows what is kept of clips (`app.long_videos.initial_frames`); `app.long_videos.sources` knows files.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from app.gallery.store import hash_file
from app.recipes.initial_frames import CLIP, FILE, MAX_JOINED, MAX_START, InitialFrames, JoinedFrames
from app.recipes.segments import course_of
from app.storage.initial_frames import InitialFramesStore
from app.storage.segment_latents import SegmentLatents
from app.storage.stage_latents import StageLatents
from extensions.long_video.join_plan import CLIP as CLIP_PIECE
from lavie.errors import LavieError, RequestError
from lavie.events import BASE
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from app.gallery import StoredClip
    from app.recipes.recipe import Recipe
    from app.studio import Studio
    from lavie.cascade import Cascade


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
        yield partial(_artefact, StageLatents(database, folder), clip.id)
        return
    starts, parts = InitialFramesStore(database, folder), SegmentLatents(database, folder, clip.id, shared=False)
    made = iter([partial(_part, parts, key) for key in parts.keys_of(BASE)])
    if recipe.reel is None:
        yield from [partial(starts.load, recipe.start)] if recipe.start else []
        yield from made
        return
    for piece in recipe.reel.pieces():
        if piece.kind == CLIP_PIECE:
            yield partial(starts.load, recipe.shots[piece.number])
        else:
            yield next(made, partial(_part, parts, ""))  # a part that is not listed is gone too


def _artefact(artefacts: StageLatents, job_id: str) -> Tensor:
    latents = artefacts.load(job_id, BASE)
    if latents is None:
        raise KeyError(job_id)
    return latents


def _part(parts: SegmentLatents, key: str) -> Tensor:
    return parts[key].latents


def _same_autoencoder(studio: Studio, recipe: Recipe) -> bool:
    bundle = replace(studio.config, model=recipe.model).bundle
    was = {file: found for file, found in recipe.provenance.get("weights", {}).items() if file.startswith("vae/")}
    try:
        return all(hash_file(bundle / file) == found for file, found in was.items())
    except LavieError:
        return False


Tell = Callable[[str], None]  # gets what a person should know, a sentence at a time
_ONE_STAGE = {"interpolation": None, "super_resolution": None}


class InitialFramesLoader:
    """All methods may be called from any thread."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._starts = InitialFramesStore(studio.database, studio.config.data)
        self._encoding = threading.Lock()  # one at a time: each has an autoencoder in memory

    def check(self, start: InitialFrames) -> None:
        """Raises RequestError where its latents are not kept."""
        if not self._starts.has(start):
            raise RequestError(
                f"the frames of {start.name} that are to be {start.used} are not kept any more: choose the clip or "
                "file anew"
            )

    def from_clip(self, clip: StoredClip) -> InitialFrames:
        """Its last frames: latents, where they are of this model; else what its file shows."""
        latents = kept_latents(self._studio, clip, MAX_START)
        if latents is not None:
            return self._starts.keep(latents, CLIP, clip.id)
        start, _ = self._encoded(clip.path, "crop", CLIP, clip.id, clip.recipe.request)
        return start

    def from_file(self, path: Path, fit: str, request: Request | None) -> tuple[InitialFrames, tuple[str, ...]]:
        """The last frames of a video or picture, and what a person should know. request: whose size they get."""
        return self._encoded(path, fit, FILE, path.name, request)

    def joined(
        self, sources: Sequence[StoredClip | Path], request: Request, fit: str, tell: Tell
    ) -> list[JoinedFrames]:
        """All frames of each clip or file, in the size and rate of the request [the model's].

        Raises MediaError for a file that cannot be read, RequestError for a clip of too many frames.
        """
        load = cache(self._studio.load)  # a model of its own for all of them, if one is needed
        with self._encoding:
            return [self._joined(source, request, fit, tell, load) for source in sources]

    def _joined(
        self, source: StoredClip | Path, request: Request, fit: str, tell: Tell, load: Callable[[], Cascade]
    ) -> JoinedFrames:
        if isinstance(source, Path):
            return self._all_of(source, FILE, source.name, request, fit, tell, load)
        card, own = self._studio.card, source.recipe.request
        whole = card.resolved(request) if card else load().resolve(replace(request, **_ONE_STAGE))
        if (count := base_frames(source.recipe)) > MAX_JOINED:
            raise RequestError(
                f"the clip {source.id} has {count} frames, more than the {MAX_JOINED} that can be joined: cut it first"
            )
        if (own.width, own.height, own.fps) == (whole.width, whole.height, whole.fps):
            latents = kept_latents(self._studio, source)
            if latents is not None:
                return self._starts.keep_whole(latents, CLIP, source.id)
        else:
            tell(
                f"{source.id}: It has {own.width}×{own.height} at {own.fps:g} fps, the new video "
                f"{whole.width}×{whole.height} at {whole.fps:g}: its file is read and fitted."
            )
        return self._all_of(source.path, CLIP, source.id, request, fit, tell, load)

    def _all_of(
        self, path: Path, kind: str, name: str, request: Request, fit: str, tell: Tell, load: Callable[[], Cascade]
    ) -> JoinedFrames:
        """A file's frames, each encoded as it is read."""
        import torch

        from app.long_videos.sources import read_whole

        cascade = load()
        whole = cascade.resolve(replace(request, **_ONE_STAGE))
        size = (whole.width, whole.height)
        frames, notices = read_whole(
            path, size, whole.fps, MAX_JOINED, fit, lambda pixels: _encode(cascade, pixels[None].copy()).float().cpu()
        )
        for notice in notices:
            tell(f"{name}: {notice}")
        return self._starts.keep_whole(torch.cat(frames, dim=2), kind, name)

    def _encoded(
        self, path: Path, fit: str, kind: str, name: str, request: Request | None
    ) -> tuple[InitialFrames, tuple[str, ...]]:
        from app.long_videos.sources import read_start

        with self._encoding:
            # A model of its own, of which only the autoencoder is read: the worker's may be in the middle of a step.
            cascade = self._studio.load()
            whole = cascade.resolve(replace(request or Request("any"), **_ONE_STAGE))
            frames = min(whole.frames, MAX_START)
            found = read_start(path, (whole.width, whole.height), whole.fps, frames, fit)
            return self._starts.keep(_encode(cascade, found.video.frames), kind, name), tuple(found.notices)


def _encode(cascade: Cascade, frames: np.ndarray) -> Tensor:
    """Frames uint8 F H W 3 → latents 1 C F h w, each encoded once, by the mode of the autoencoder."""
    import torch

    from lavie import vae

    with torch.inference_mode():
        pixels = vae.from_uint8(torch.from_numpy(frames)).transpose(0, 1)[None]
        return cascade.encode(pixels.to(cascade.residency.dtype))
