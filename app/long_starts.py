"""From a clip or a file to the latents that a long video continues. torch and a model are loaded when frames come in.

Knows the gallery, artefacts and parts; `app.sources` knows files.
"""

from __future__ import annotations

import threading
import typing
from dataclasses import replace
from pathlib import Path

from app.artefacts import Artefacts
from app.gallery.store import hash_file
from app.parts import Parts
from app.start import CLIP, FILE, MAX_START, Start
from app.starts import Starts
from lavie.errors import LavieError, RequestError
from lavie.events import BASE
from lavie.request import Request

if typing.TYPE_CHECKING:
    from torch import Tensor

    from app.gallery import StoredClip
    from app.recipe import Recipe
    from app.studio import Studio
    from lavie.cascade import Cascade
    from lavie.video import Video


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
                f"the frames of {start.name} that are to be continued are not kept any more: choose the clip or file "
                "anew"
            )

    def from_clip(self, clip: StoredClip) -> Start:
        """Its latents, where they are of this model; else what its file shows."""
        latents = self._latents(clip)
        if latents is not None:
            return self._starts.keep(latents, CLIP, clip.id)
        start, _ = self._encoded(clip.path, "crop", CLIP, clip.id, clip.recipe.request)
        return start

    def from_file(self, path: Path, fit: str, request: Request | None) -> tuple[Start, tuple[str, ...]]:
        """The last frames of a video or picture, and what a person should know. request: whose size they get."""
        return self._encoded(path, fit, FILE, path.name, request)

    def _latents(self, clip: StoredClip) -> Tensor | None:
        """None where none are kept whole, or they are another autoencoder's."""
        recipe, folder = clip.recipe, self._studio.config.data
        if recipe.model != self._studio.model or not self._same_autoencoder(recipe):
            return None
        if recipe.plan is not None:
            return _last_of(Parts(self._studio.database, folder, clip.id, shared=False))
        try:
            return Artefacts(self._studio.database, folder).load(clip.id, BASE)
        except LavieError:
            return None  # damaged: the file shows the same

    def _same_autoencoder(self, recipe: Recipe) -> bool:
        bundle = replace(self._studio.config, model=recipe.model).bundle
        was = {file: found for file, found in recipe.provenance.get("weights", {}).items() if file.startswith("vae/")}
        try:
            return all(hash_file(bundle / file) == found for file, found in was.items())
        except LavieError:
            return False

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
            return self._starts.keep(_encode(cascade, found.video), kind, name), tuple(found.notices)


def _last_of(parts: Parts) -> Tensor | None:
    """The last frames of a long clip's base stage, as many as a start has; None where they are not whole."""
    import torch

    keys, found, frames = parts.keys_of(BASE), [], 0
    for key in reversed(keys):
        try:
            latents = parts[key].latents
        except KeyError:
            return None
        found.insert(0, latents)
        frames += latents.shape[2]
        if frames >= MAX_START:
            break
    return torch.cat(found, dim=2) if found else None


def _encode(cascade: Cascade, video: Video) -> Tensor:
    """Frames → latents 1 C F h w, each encoded once, by the mode of the autoencoder."""
    import torch

    from lavie import vae

    with torch.inference_mode():
        pixels = vae.from_uint8(torch.from_numpy(video.frames)).transpose(0, 1)[None]
        return cascade.encode(pixels.to(cascade.residency.dtype))
