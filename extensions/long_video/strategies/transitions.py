"""Makes the new frames between clips: one transition (`make_transition`), or all of a `JoinPlan` (`TransitionFrames`).

Clips are read when needed, one or two at a time, so memory does not grow with their number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from extensions.long_video.base_frames import OpenModel, PartStore, SegmentDone, latents_at, network_of, read_part
from extensions.long_video.cache_keys import latents_hash, piece_key, transition_key
from extensions.long_video.join_plan import CLIP, TRANSITION, TRANSITION_STRATEGIES, JoinPlan, Piece, known_frames
from extensions.long_video.plan import CONDITIONED, CORRECTED, Layout, Segment, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies import conditioned, corrected
from extensions.long_video.strategies.chain import temporal_covariance
from extensions.long_video.strategies.window_model import Model, Window, report_steps
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts
from lavie.noise import derive_seed
from lavie.sampling import Denoised
from lavie.values import require


@torch.inference_mode()
def make_transition(
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
    done: int = 0,
    total: int | None = None,
) -> Generator[Step, None, Tensor]:
    """Make the frames between two clips or pictures.

    Args:
        before, after: 1 C n h w, latents of the base stage; the frames at the transition are known
            (`join_plan.known_frames`). `corrected` measures motion on a whole window of either clip and makes one if
            both are shorter.
        frames: new ones, at most `window` − 2.
        seed: may equal the clips' own: the noise differs.
        strategy: `conditioned`, `corrected` or `repaint`.
        window, strength: as in a `JoinPlan`.
        done, total: steps before these, and in all, for the events; None for these alone.

    Returns:
        float32 1 C frames h w on the CPU, only the new frames. A pure function of the arguments.

    Closing the generator cancels. Raises RequestError for impossible requests before anything is computed.
    """
    plan = SegmentPlan((Segment(prompt, seed),), None, negative_prompt, window=window, overlap=1, strength=strength)
    _check(model, before, after, seed, strategy)
    ends = known_frames(before.shape[2], after.shape[2], frames, window)
    known = torch.cat([before[:, :, -ends[0] :], after[:, :, : ends[1]]], dim=2)
    text = PromptTable(Layout(plan), model.embed, model.guidance, negative_prompt).whole(prompt)
    length = ends[0] + frames + ends[1]
    places = [*range(ends[0]), *range(length - ends[1], length)]
    given = dict(zip(places, known.to(text.device, torch.float32).unbind(2), strict=True))
    shown = Window(range(length), text, derive_seed(seed, TRANSITION))
    clips = [clip.float().cpu() for clip in (before[:, :, -window:], after[:, :, :window]) if clip.shape[2] >= window]
    most = done + model.steps * (2 if strategy == CORRECTED and not clips else 1)
    model.prepare(prompt)
    making = _fill_window(model, shown, given, clips, strategy, strength, Window(range(window), text, seed))
    made = yield from report_steps(model, making, done, most, most if total is None else total)
    return made[:, :, ends[0] : ends[0] + frames].float().cpu()


def _fill_window(
    model: Model,
    window: Window,
    given: dict[int, Tensor],
    clips: list[Tensor],
    strategy: str,
    strength: float,
    alone: Window,
) -> Generator[Denoised, None, Tensor]:
    """Make the whole window, 1 C F h w. clips: to measure motion on; without one, a clip is made in `alone`."""
    if strategy == CONDITIONED:
        return (yield from conditioned.fill_frames(model, window, given))[0]
    covariance = None
    if strategy == CORRECTED:
        if not clips:
            clips = [(yield from corrected.fill_frames(model, alone, {}, None)).float().cpu()]
        frames = len(window.frames)
        covariance = torch.stack([temporal_covariance(clip) for clip in clips]).mean(0)[:frames, :frames]
    return (yield from corrected.fill_frames(model, window, given, covariance, strength))


def _check(model: Model, before: Tensor, after: Tensor, seed: int | None, strategy: str) -> None:
    if strategy not in TRANSITION_STRATEGIES:
        raise RequestError(
            f"the strategy {strategy!r} cannot lead from clip to clip: choose {', '.join(TRANSITION_STRATEGIES)}"
        )
    if seed is None:
        raise RequestError("a transition's seed is None: draw one, so that the video can be made again")
    model.check_sampler(strategy)
    model.check_frames("before the transition", before)
    model.check_frames("after the transition", after)


Clip = Callable[[], Tensor]  # reads a clip's latents of the base stage, 1 C n h w


class TransitionFrames:
    """The base frames of a `JoinPlan`; its parts are the transitions. The interface is that of `SegmentFrames`."""

    opening = None

    def __init__(self, plan: JoinPlan, clips: Sequence[Clip]) -> None:
        """plan: resolved. clips: one for each clip of the plan. Raises RequestError for another number of clips."""
        if len(clips) != len(plan.shots):
            raise RequestError(f"{len(clips)} clips are given for a video of {len(plan.shots)}: give one for each")
        self._plan, self._clips = plan, clips
        self.layout = plan
        self.network = network_of(require(plan.strategy))
        self.prompts = [plan.transitions[number].prompt for number in plan.transition_numbers]

    def keys(self, stage_digest: str) -> list[str]:
        """Each key changes with its transition and the ends of the clips beside it. Reads every clip once.

        Raises RequestError for a clip of another length than the plan says, or of another size than the first.
        """
        clips = self._hashes
        return [
            transition_key(self._plan, number, (clips[number][2], clips[number + 1][1]), stage_digest)
            for number in self._plan.transition_numbers
        ]

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """The key of the clip's content or of the transition, with its place and prompt."""
        plan, piece = self._plan, self._plan.piece_at(frame)
        key = (
            self._hashes[piece.number][0]
            if piece.kind == CLIP
            else keys[bisect_left(plan.transition_numbers, piece.number)]
        )
        return piece_key(key, piece.frames.start, plan.prompt_of(piece))

    def total_steps(self, steps: int) -> int:
        return steps * sum(map(self._plan.windows_of, self._plan.transition_numbers))

    def latents(self, store: PartStore, keys: Sequence[str]) -> Latents:
        """Clips and transitions in order."""
        by_number = dict(zip(self._plan.transition_numbers, keys, strict=True))

        def reader(piece: Piece) -> Clip:
            if piece.kind == CLIP:
                return partial(self._clip, piece.number)
            return partial(latents_at, store, by_number[piece.number])

        return Parts([(len(piece.frames), reader(piece)) for piece in self._plan.pieces()])

    def make(self, open_model: OpenModel, store: PartStore, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """Make the missing transitions; none depends on another."""
        missing = [place for place, key in enumerate(keys) if read_part(store, key) is None]
        if not missing:
            return
        with open_model(self.network) as model:
            for place in missing:
                yield from self._make(model, place, store, keys[place])

    def _make(self, model: Model, place: int, store: PartStore, key: str) -> Iterator[Step | SegmentDone]:
        """Make a transition. place: among the transitions with new frames."""
        plan, number = self._plan, self._plan.transition_numbers[place]
        transition, seed = plan.transitions[number], require(plan.seed_of(number))
        before = self._clip(number)[:, :, -plan.window :].clone()  # a view would keep the whole clip in memory
        after = self._clip(number + 1)[:, :, : plan.window].clone()
        latents = yield from make_transition(
            model,
            before,
            after,
            transition.frames,
            transition.prompt,
            seed,
            require(plan.strategy),
            negative_prompt=plan.negative_prompt,
            window=plan.window,
            strength=plan.strength,
            done=model.steps * sum(map(plan.windows_of, plan.transition_numbers[:place])),
            total=self.total_steps(model.steps),
        )
        known = known_frames(before.shape[2], after.shape[2], transition.frames, plan.window)
        facts = {"frames": transition.frames, "seed": seed, "known": list(known)}
        store[key] = done = SegmentDone(BASE, place, latents, facts)
        yield done

    @cached_property
    def _hashes(self) -> list[tuple[str, str, str]]:
        """For each clip the hashes of all its latents, of its first window and of its last."""
        found, sizes, window = [], [], self._plan.window
        for number in range(len(self._clips)):
            latents = self._clip(number)
            sizes.append([*latents.shape[:2], *latents.shape[3:]])
            if sizes[-1] != sizes[0]:
                raise RequestError(
                    f"the latents of clip {number + 1} have the size {sizes[-1]}, those of the first {sizes[0]}: fit "
                    "it to that"
                )
            ends = latents_hash(latents[:, :, :window]), latents_hash(latents[:, :, -window:])
            found.append((latents_hash(latents), *ends))
        return found

    def _clip(self, number: int) -> Tensor:
        """A clip's latents in float32 on the CPU. Raises RequestError for another length than the plan says."""
        latents, frames = self._clips[number]().float().cpu(), self._plan.shots[number].frames
        if latents.ndim != 5 or latents.shape[2] != frames:
            found = tuple(latents.shape)
            raise RequestError(f"clip {number + 1} has latents of shape {found}, not of {frames} frames: keep it anew")
        return latents
