"""Footage of clips that are there and bridges of new frames between them: a reel in the making.

The clips are read where they are needed, one or two at a time: what is in memory does not grow with their number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor

from extensions.long_video.base_frames import Kept, Opened, Part, latents_at, network_of
from extensions.long_video.cache_keys import bridge_key, latents_hash, piece_key
from extensions.long_video.join_plan import BRIDGE, BRIDGING, CLIP, JoinPlan, Piece, known_frames
from extensions.long_video.plan import CONDITIONED, CORRECTED, REPAINT, Layout, Segment, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies import conditioned, corrected
from extensions.long_video.strategies.covariance import temporal_covariance
from extensions.long_video.strategies.extend import SegmentDone
from extensions.long_video.strategies.window_model import Model, Window
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts
from lavie.noise import derive_seed
from lavie.sampling import Denoised
from lavie.stages.preview import preview


@torch.inference_mode()
def bridge(
    model: Model,
    before: Tensor,
    after: Tensor,
    frames: int,
    prompt: str,
    seed: int,
    strategy: str = CORRECTED,
    *,
    negative_prompt: str = "",
    window: int = 16,
    strength: float = 1.0,
) -> Generator[Step, None, Tensor]:
    """Make the frames between two clips or pictures.

    Args:
        before: 1 C a h w, latents of the base stage; of these the last are told (`reel.known_frames`).
        after: 1 C b h w; of these the first. Give a whole window of each where there is one: `corrected` measures on
            them how things move, and else has to make a clip for it.
        frames: how many new ones, at most `window` − 2. With 8 of 16 four are known at each end, with 14 one.
        prompt: what happens in between.
        seed: 0 … 2^53 − 1. The clips' own may be taken: its noise is another.
        strategy: `conditioned`, `corrected` or `repaint`.
        window: frames the network sees at once.
        strength: of the correction, 0 … 1 (`corrected.KnownFrames`).

    Returns:
        float32 1 C frames h w on the CPU, the new frames alone. A pure function of the arguments.

    Closing the generator cancels. Raises RequestError for what cannot be made, before anything is computed.
    """
    plan = SegmentPlan((Segment(prompt, seed),), None, negative_prompt, window=window, overlap=1, strength=strength)
    _check(model, before, after, seed, strategy)
    ends = known_frames(before.shape[2], after.shape[2], frames, window)
    told = torch.cat([before[:, :, -ends[0] :], after[:, :, : ends[1]]], dim=2)
    text = PromptTable(Layout(plan), model.embed, model.sampling.guidance).whole(prompt)
    total = ends[0] + frames + ends[1]
    places = [*range(ends[0]), *range(total - ends[1], total)]
    given = dict(zip(places, told.to(text.device, torch.float32).unbind(2), strict=True))
    shown = Window(range(total), text, derive_seed(seed, BRIDGE))
    clips = [clip.float().cpu() for clip in (before[:, :, -window:], after[:, :, :window]) if clip.shape[2] >= window]
    free = strategy == CORRECTED and not clips
    model.prepare(prompt)
    making = _make(model, shown, given, clips, strategy, strength, Window(range(window), text, seed))
    count, index = model.sampling.steps * (2 if free else 1), 0
    while True:
        try:
            now = next(making)
        except StopIteration as end:
            return end.value[:, :, ends[0] : ends[0] + frames].float().cpu()
        index += 1
        yield Step(BASE, index, count, preview(now.clean, model.defaults.preview))


def _make(
    model: Model,
    window: Window,
    given: dict[int, Tensor],
    clips: list[Tensor],
    strategy: str,
    strength: float,
    alone: Window,
) -> Generator[Denoised, None, Tensor]:
    """The whole window, 1 C F h w. clips: to measure on. alone: a window that stands for them where there is none."""
    if strategy == CONDITIONED:
        made = yield from conditioned.fill_frames(model, window, given)
        return conditioned.calibrated(made, given)[0]
    covariance = None
    if strategy == CORRECTED:
        if not clips:
            clips = [(yield from corrected.fill_frames(model, alone, {}, None)).float().cpu()]
        frames = len(window.frames)
        covariance = torch.stack([temporal_covariance(clip) for clip in clips]).mean(0)[:frames, :frames]
    return (yield from corrected.fill_frames(model, window, given, covariance, strength))


def _check(model: Model, before: Tensor, after: Tensor, seed: int | None, strategy: str) -> None:
    if strategy not in BRIDGING:
        raise RequestError(f"the strategy {strategy!r} cannot lead from clip to clip: choose {', '.join(BRIDGING)}")
    if seed is None:
        raise RequestError("a transition's seed is None: draw one, so that the video can be made again")
    if strategy == REPAINT:
        model.require(strategy, ("ddim",))
    else:
        model.require(strategy)
    channels, *size = model.shape
    for name, latents in (("before", before), ("after", after)):
        if [latents.shape[0], latents.shape[1], *latents.shape[3:]] != [1, channels, *size] or not latents.shape[2]:
            raise RequestError(
                f"the frames {name} the transition are latents of shape {tuple(latents.shape)}: give 1 × {channels} × "
                f"frames × {size[0]} × {size[1]}"
            )


Clip = Callable[[], Tensor]  # reads a clip's latents of the base stage, 1 C n h w


class Bridges:
    """See `footage.Footage`. A part is a bridge."""

    def __init__(self, reel: JoinPlan, clips: Sequence[Clip]):
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
