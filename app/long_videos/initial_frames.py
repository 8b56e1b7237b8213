"""Clips and files → the latents that a long video continues or joins. Loads torch and a model only to encode frames."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from app.gallery.files import hash_file
from app.recipes.initial_frames import CLIP, FILE, MAX_JOINED, MAX_START, InitialFrames, JoinedFrames
from app.recipes.options import base_only
from app.recipes.segments import course_of
from app.storage.latents import InitialFramesStore, SegmentLatents, StageLatents
from app.workspace import Workspace
from extensions.long_video.join_plan import CLIP as CLIP_PIECE
from lavie.errors import LavieError, RequestError
from lavie.events import BASE
from lavie.request import Request
from lavie.values import require

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from app.gallery import Clip
    from app.recipes.recipe import Recipe
    from lavie.cascade import Cascade


_Piece = Callable[[], "Tensor"]


def load_latents(workspace: Workspace, clip: Clip, most: int | None = None) -> Tensor | None:
    """The stored latents of the last `most` frames [all], 1 C n h w; None if some are missing, or of another
    autoencoder."""
    import torch

    recipe = clip.recipe
    if recipe.model != workspace.model or not _same_autoencoder(workspace, recipe):
        return None
    found: list[Tensor] = []
    frames = 0
    try:
        for piece in reversed(list(_pieces(workspace, clip))):
            found.insert(0, piece())
            frames += found[0].shape[2]
            if most is not None and frames >= most:
                break
    except (LavieError, KeyError):
        return None  # gone or damaged: the file shows the same
    short = frames < (base_frames(recipe) if most is None else min(most, base_frames(recipe)))
    return None if short else torch.cat(found, dim=2)


def base_frames(recipe: Recipe) -> int:
    """The number of frames of a clip in its base stage."""
    return course_of(recipe.job).frames if recipe.job.long else require(recipe.request.frames)


def _pieces(workspace: Workspace, clip: Clip) -> Iterator[_Piece]:
    """Readers of the clip's pieces, in their order. They raise LavieError or KeyError for what is gone."""
    recipe, database, folder = clip.recipe, workspace.database, workspace.config.data
    if recipe.job.long is None:
        yield partial(_read_stage, StageLatents(database, folder), clip.id)
        return
    starts, parts = InitialFramesStore(database, folder), SegmentLatents(database, folder, clip.id, shared=False)
    made = iter([partial(_read_part, parts, key) for key in parts.keys_of(BASE)])
    if recipe.reel is None:
        yield from [partial(starts.load, recipe.start)] if recipe.start else []
        yield from made
        return
    for piece in recipe.reel.pieces():
        if piece.kind == CLIP_PIECE:
            yield partial(starts.load, recipe.shots[piece.number])
        else:
            yield next(made, partial(_read_part, parts, ""))  # a part that is not listed is gone too


def _read_stage(artefacts: StageLatents, job_id: str) -> Tensor:
    latents = artefacts.load(job_id, BASE)
    if latents is None:
        raise KeyError(job_id)
    return latents


def _read_part(parts: SegmentLatents, key: str) -> Tensor:
    return parts[key].latents


def _same_autoencoder(workspace: Workspace, recipe: Recipe) -> bool:
    bundle = replace(workspace.config, model=recipe.model).bundle
    was = {file: found for file, found in recipe.provenance.get("weights", {}).items() if file.startswith("vae/")}
    try:
        return all(hash_file(bundle / file) == found for file, found in was.items())
    except LavieError:
        return False


Report = Callable[[str], None]  # gets notices for the person, a sentence at a time


class InitialFramesLoader:
    """Stores the frames of clips and files as latents. All methods may be called from any thread."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._store = InitialFramesStore(workspace.database, workspace.config.data)
        self._encoding = threading.Lock()  # one at a time: each has an autoencoder in memory

    def check(self, start: InitialFrames) -> None:
        """Raises RequestError if its latents are not stored."""
        if not self._store.has(start):
            raise RequestError(
                f"the frames of {start.name} that are to be {start.used} are not kept any more: choose the clip or "
                "file anew"
            )

    def load_clip(self, clip: Clip) -> InitialFrames:
        """Store its last frames: its latents if they are of this model, else those of its encoded file."""
        latents = load_latents(self._workspace, clip, MAX_START)
        if latents is not None:
            return self._store.keep(InitialFrames, latents, CLIP, clip.id)
        start, _ = self._encode_end(clip.path, "crop", CLIP, clip.id, clip.recipe.request)
        return start

    def load_file(self, path: Path, fit: str, request: Request | None) -> tuple[InitialFrames, tuple[str, ...]]:
        """Store the last frames of a video or picture; with notices for the person. request: gives size and rate."""
        return self._encode_end(path, fit, FILE, path.name, request)

    def load_whole(
        self, sources: Sequence[Clip | Path], request: Request, fit: str, report: Report
    ) -> list[JoinedFrames]:
        """Store all frames of each clip or file, in the size and rate of the request [the model's].

        Raises MediaError for a file that cannot be read, RequestError for a clip of too many frames.
        """
        load = cache(self._workspace.load_again)  # one model for all of them, if one is needed
        with self._encoding:
            return [self._load_source(source, request, fit, report, load) for source in sources]

    def _load_source(
        self, source: Clip | Path, request: Request, fit: str, report: Report, load: Callable[[], Cascade]
    ) -> JoinedFrames:
        if isinstance(source, Path):
            return self._encode_whole(source, FILE, source.name, request, fit, report, load)
        card, own = self._workspace.card, source.recipe.request
        whole = card.fill_size(request) if card else load().resolve(base_only(request))
        if (count := base_frames(source.recipe)) > MAX_JOINED:
            raise RequestError(
                f"the clip {source.id} has {count} frames, more than the {MAX_JOINED} that can be joined: cut it first"
            )
        if (own.width, own.height, own.fps) == (whole.width, whole.height, whole.fps):
            latents = load_latents(self._workspace, source)
            if latents is not None:
                return self._store.keep(JoinedFrames, latents, CLIP, source.id)
        else:
            report(
                f"{source.id}: It has {own.width}×{own.height} at {own.fps:g} fps, the new video "
                f"{whole.width}×{whole.height} at {whole.fps:g}: its file is read and fitted."
            )
        return self._encode_whole(source.path, CLIP, source.id, request, fit, report, load)

    def _encode_whole(
        self, path: Path, kind: str, name: str, request: Request, fit: str, report: Report, load: Callable[[], Cascade]
    ) -> JoinedFrames:
        """Store a file's frames, each encoded as it is read."""
        import torch

        from app.long_videos.sources import read_whole

        cascade = load()
        size, fps, _ = _shape(cascade, request)
        frames, notices = read_whole(
            path, size, fps, MAX_JOINED, fit, lambda pixels: _encode(cascade, pixels[None].copy()).float().cpu()
        )
        for notice in notices:
            report(f"{name}: {notice}")
        return self._store.keep(JoinedFrames, torch.cat(frames, dim=2), kind, name)

    def _encode_end(
        self, path: Path, fit: str, kind: str, name: str, request: Request | None
    ) -> tuple[InitialFrames, tuple[str, ...]]:
        from app.long_videos.sources import read_start

        with self._encoding:
            # A second model, of which only the autoencoder is read: the worker's may be in the middle of a step.
            cascade = self._workspace.load_again()
            size, fps, frames = _shape(cascade, request or Request("any"))
            found = read_start(path, size, fps, min(frames, MAX_START), fit)
            latents = _encode(cascade, found.video.frames)
            return self._store.keep(InitialFrames, latents, kind, name), tuple(found.notices)


def _shape(cascade: Cascade, request: Request) -> tuple[tuple[int, int], float, int]:
    """Width and height, rate and number of frames of the model's base stage for a request."""
    whole = cascade.resolve(base_only(request))
    return (require(whole.width), require(whole.height)), require(whole.fps), require(whole.frames)


def _encode(cascade: Cascade, frames: np.ndarray) -> Tensor:
    """Frames uint8 F H W 3 → latents 1 C F h w, the mode of the autoencoder's distribution."""
    import torch

    from lavie import vae

    with torch.inference_mode():
        pixels = vae.from_uint8(torch.from_numpy(frames)).transpose(0, 1)[None]
        return cascade.encode(pixels.to(cascade.residency.dtype))
