"""From a clip or a file to the latents that a long video continues or joins. torch and a model are loaded when frames
come in.

Knows what is kept of clips (`app.long_latents`); `app.sources` knows files.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from app.long_latents import base_frames, kept_latents
from app.start import CLIP, FILE, MAX_JOINED, MAX_START, Joined, Start
from app.starts import Starts
from lavie.errors import RequestError
from lavie.request import Request

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from app.gallery import StoredClip
    from app.studio import Studio
    from lavie.cascade import Cascade

Tell = Callable[[str], None]  # gets what a person should know, a sentence at a time
_ONE_STAGE = {"interpolation": None, "super_resolution": None}


class LongStarts:
    """All methods may be called from any thread."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._starts = Starts(studio.database, studio.config.data)
        self._encoding = threading.Lock()  # one at a time: each has an autoencoder in memory

    def check(self, start: Start) -> None:
        """Raises RequestError where its latents are not kept."""
        if not self._starts.has(start):
            raise RequestError(
                f"the frames of {start.name} that are to be {start.used} are not kept any more: choose the clip or "
                "file anew"
            )

    def from_clip(self, clip: StoredClip) -> Start:
        """Its last frames: latents, where they are of this model; else what its file shows."""
        latents = kept_latents(self._studio, clip, MAX_START)
        if latents is not None:
            return self._starts.keep(latents, CLIP, clip.id)
        start, _ = self._encoded(clip.path, "crop", CLIP, clip.id, clip.recipe.request)
        return start

    def from_file(self, path: Path, fit: str, request: Request | None) -> tuple[Start, tuple[str, ...]]:
        """The last frames of a video or picture, and what a person should know. request: whose size they get."""
        return self._encoded(path, fit, FILE, path.name, request)

    def joined(self, sources: Sequence[StoredClip | Path], request: Request, fit: str, tell: Tell) -> list[Joined]:
        """All frames of each clip or file, in the size and rate of the request [the model's].

        Raises MediaError for a file that cannot be read, RequestError for a clip of too many frames.
        """
        load = cache(self._studio.load)  # a model of its own for all of them, if one is needed
        with self._encoding:
            return [self._joined(source, request, fit, tell, load) for source in sources]

    def _joined(
        self, source: StoredClip | Path, request: Request, fit: str, tell: Tell, load: Callable[[], Cascade]
    ) -> Joined:
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
    ) -> Joined:
        """A file's frames, each encoded as it is read."""
        import torch

        from app.sources import read_whole

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
    ) -> tuple[Start, tuple[str, ...]]:
        from app.sources import read_start

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
