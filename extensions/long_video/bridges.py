"""Footage of clips that are there and bridges of new frames between them: a reel in the making.

The clips are read where they are needed, one or two at a time: what is in memory does not grow with their number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial

from torch import Tensor

from extensions.long_video.bridge import bridge
from extensions.long_video.extend import SegmentDone
from extensions.long_video.footage import Opened, network_of
from extensions.long_video.keys import bridge_key, latents_hash, piece_key
from extensions.long_video.model import Model
from extensions.long_video.parts import Kept, Part, latents_at
from extensions.long_video.reel import CLIP, Piece, Reel, known_frames
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts

Clip = Callable[[], Tensor]  # reads a clip's latents of the base stage, 1 C n h w


class Bridges:
    """See `footage.Footage`. A part is a bridge."""

    def __init__(self, reel: Reel, clips: Sequence[Clip]):
        """reel: resolved. clips: one for each of its shots. Raises RequestError where these are more or fewer."""
        if len(clips) != len(reel.shots):
            raise RequestError(f"{len(clips)} clips are given for a video of {len(reel.shots)}: give one for each")
        self._reel, self._clips = reel, clips
        self.layout = reel
        self.network, self.opened_by = network_of(reel.strategy), None
        self.prompts = [reel.transitions[number].prompt for number in reel.bridges]

    def keys(self, made_with: str) -> list[str]:
        """Each changes with its transition and the ends of the clips beside it. Reads every clip once.

        Raises RequestError for a clip that is not what its shot says, or of another size than the first.
        """
        clips = self._hashes
        return [
            bridge_key(self._reel, number, (clips[number][2], clips[number + 1][1]), made_with)
            for number in self._reel.bridges
        ]

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """Of the clip's content or of the bridge, and where it lies."""
        reel, piece = self._reel, self._reel.piece_at(frame)
        key = self._hashes[piece.number][0] if piece.kind == CLIP else keys[bisect_left(reel.bridges, piece.number)]
        return piece_key(key, piece.frames.start, reel.prompt_of(piece))

    def total_steps(self, steps: int) -> int:
        """Of all bridges."""
        return steps * sum(map(self._reel.windows_of, self._reel.bridges))

    def latents(self, kept: Kept, keys: Sequence[str]) -> Latents:
        """Clips and bridges in their order."""
        by_number = dict(zip(self._reel.bridges, keys, strict=True))

        def reader(piece: Piece) -> Clip:
            if piece.kind == CLIP:
                return partial(self._clip, piece.number)
            return partial(latents_at, kept, by_number[piece.number])

        return Parts([(len(piece.frames), reader(piece)) for piece in self._reel.pieces()])

    def make(self, opened: Opened, kept: Kept, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """One bridge after the other; none depends on another."""
        missing = [place for place, key in enumerate(keys) if not _is_there(kept, key)]
        if not missing:
            return
        with opened(self.network) as model:
            for place in missing:
                yield from self._make(model, place, kept, keys[place])

    def _make(self, model: Model, place: int, kept: Kept, key: str) -> Iterator[Step | SegmentDone]:
        """A bridge. place: among the bridges."""
        reel, number, steps = self._reel, self._reel.bridges[place], model.sampling.steps
        transition, seed = reel.transitions[number], reel.seed_of(number)
        before = self._clip(number)[:, :, -reel.window :].clone()  # a view would hold the whole clip in memory
        after = self._clip(number + 1)[:, :, : reel.window].clone()
        wide = {"negative_prompt": reel.negative_prompt, "window": reel.window, "strength": reel.strength}
        told = transition.frames, transition.prompt, seed, reel.strategy
        making = bridge(model, before, after, *told, **wide)
        done = steps * sum(map(reel.windows_of, reel.bridges[:place]))
        while True:
            try:
                step = next(making)
            except StopIteration as end:
                latents = end.value
                break
            yield replace(step, index=done + step.index, steps=self.total_steps(steps))
        known = known_frames(before.shape[2], after.shape[2], transition.frames, reel.window)
        facts = {"frames": transition.frames, "seed": seed, "known": list(known)}
        kept[key] = Part(BASE, place, latents, facts)
        yield SegmentDone(place, latents, facts)

    @cached_property
    def _hashes(self) -> list[tuple[str, str, str]]:
        """Of each clip: of all of it, of what a bridge before it is made from, and of what one behind it is."""
        found, size = [], None
        for number in range(len(self._clips)):
            latents, window = self._clip(number), self._reel.window
            shape = [*latents.shape[:2], *latents.shape[3:]]
            size = size or shape
            if shape != size:
                raise RequestError(
                    f"the latents of clip {number + 1} have the size {shape}, those of the first {size}: fit it to that"
                )
            found.append(tuple(map(latents_hash, (latents, latents[:, :, :window], latents[:, :, -window:]))))
        return found

    def _clip(self, number: int) -> Tensor:
        """Float32 on the CPU. Raises RequestError for one of another length than its shot."""
        latents, frames = self._clips[number]().float().cpu(), self._reel.shots[number].frames
        if latents.ndim != 5 or latents.shape[2] != frames:
            found = tuple(latents.shape)
            raise RequestError(f"clip {number + 1} has latents of shape {found}, not of {frames} frames: keep it anew")
        return latents


def _is_there(kept: Kept, key: str) -> bool:
    """Whether a part can be read: one that is damaged is only found to be so then."""
    try:
        kept[key]
    except KeyError:
        return False
    return True
