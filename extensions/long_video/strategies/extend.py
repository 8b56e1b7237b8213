"""A plan and frames to begin with → the latents of its segments, one after the other.

A pure function of the plan, its seeds and the latents before: hand back the latents of segments that are done and it
goes on behind them, to the same bits. Touches no file; memory does not grow with the length.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, REPAINT, Layout, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies import codenoise, conditioned, corrected
from extensions.long_video.strategies.chain import Chain
from extensions.long_video.strategies.window_model import Model, Window
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.sampling import Denoised
from lavie.stages.preview import preview


@dataclass(frozen=True)
class SegmentDone:
    """A segment, or a bridge of a reel, is done: store it and it is never made again.

    number: from 0. latents: float32 1 C n h w on the CPU, its new frames alone, as the next segment will see them.
    facts: how it was made and what was measured on it, plain values. state: what the segments behind it need beside all
    latents so far, tensors on the CPU; empty but for `codenoise`.
    """

    number: int
    latents: Tensor = field(repr=False)
    facts: dict[str, Any]
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


Event = Step | SegmentDone
T = TypeVar("T")


@torch.inference_mode()
def extend(
    model: Model,
    plan: SegmentPlan,
    start: Tensor | None = None,
    done: Iterable[Tensor] = (),
    state: Mapping[str, Tensor] | None = None,
    opening: Tensor | None = None,
) -> Iterator[Event]:
    """Make the segments of a plan that are not done yet; the last event is the last segment's.

    Args:
        plan: with its seed and strategy decided.
        start: 1 C N h w, latents of frames to continue; None to begin from nothing.
        done: latents of the first segments as `SegmentDone` gave them, read one at a time.
        state: that of the last of them.
        opening: of `opening_clip`, where the first segment is to begin with that.

    Closing the generator cancels: at most one evaluation of the network is finished after that.

    Raises RequestError for what cannot be made, before anything is computed.
    """
    _check(model, plan, start)
    layout = Layout(plan, 0 if start is None else start.shape[2])
    if plan.strategy == CODENOISE:
        yield from _denoised_together(model, layout, done, state or {})
    else:
        yield from _one_by_one(model, layout, start, done, opening)


@torch.inference_mode()
def opening_clip(model: Model, plan: SegmentPlan) -> Generator[Step, None, Tensor]:
    """The first window of a plan that continues nothing, 1 C F h w: the clip that the base stage makes of its prompt.

    model: of the base network, with as many steps as the one that goes on. Its steps are the first of the plan's.
    """
    layout, steps = Layout(plan), model.sampling.steps
    making = _free_clip(model, PromptTable(layout, model.embed, model.sampling.guidance))
    return (yield from _told(model, making, 0, steps, total_steps(layout, steps)))


def total_steps(layout: Layout, steps: int) -> int:
    """How many `Step` events a whole plan has. steps: of the sampling."""
    plan = layout.plan
    if plan.strategy == CODENOISE:
        frames = codenoise.whole_halves(layout.frames, plan.window)
        return sum(len(codenoise.grid(step, frames, plan.window)) for step in range(steps))
    return steps * sum(layout.windows_of(number) for number in range(len(plan.segments)))


def _check(model: Model, plan: SegmentPlan, start: Tensor | None) -> None:
    if plan.strategy is None:
        raise RequestError("the plan's strategy is None: decide on one, or have `resolving.resolve_plan` do it")
    open_seeds = [number for number in range(len(plan.segments)) if plan.seed_of(number) is None]
    if plan.seed is None and (open_seeds or plan.strategy == CODENOISE):
        raise RequestError("the plan's seed is None: draw one, so that the video can be made again")
    if plan.strategy in (REPAINT, CODENOISE):
        model.require(plan.strategy, ("ddim",))
    else:
        model.require(plan.strategy)
    if start is None:
        return
    if plan.strategy == CODENOISE:
        raise RequestError("the strategy 'codenoise' makes a whole video at once and continues none: choose another")
    channels, *size = model.shape
    if [start.shape[0], start.shape[1], *start.shape[3:]] != [1, channels, *size] or not start.shape[2]:
        raise RequestError(
            f"the frames to continue are latents of shape {tuple(start.shape)}: give 1 × {channels} × frames × "
            f"{size[0]} × {size[1]}"
        )


def _checked(latents: Tensor, layout: Layout, number: int, shape: tuple[int, int, int]) -> Tensor:
    expected = (1, shape[0], len(layout.frames_of(number)), *shape[1:])
    if tuple(latents.shape) != expected:
        found = tuple(latents.shape)
        raise RequestError(f"segment {number + 1} has latents of shape {found}, not {expected}: make it anew")
    return latents


def _one_by_one(
    model: Model, layout: Layout, start: Tensor | None, done: Iterable[Tensor], opening: Tensor | None
) -> Iterator[Event]:
    """Each segment from the last frames of the one before it."""
    count = len(layout.plan.segments)
    chain, prompts = Chain(layout, start, opening), PromptTable(layout, model.embed, model.sampling.guidance)
    steps = [layout.windows_of(number) * model.sampling.steps for number in range(count)]
    made = 0
    for latents in itertools.islice(done, count):
        chain.add(made, _checked(latents, layout, made, model.shape))
        made += 1
    for number in range(made, count):
        before, most = sum(steps[:number]), sum(steps[: number + 1])
        before += 0 if chain.opening(number) is None else model.sampling.steps
        making = _attempts(model, prompts, chain, number)
        latents, facts = yield from _told(model, making, before, most, sum(steps))
        chain.add(number, latents)
        seed = layout.plan.seed_of(number)
        yield SegmentDone(number, latents, {"frames": len(latents[0, 0]), "seed": seed, **facts})


def _told(
    model: Model, making: Generator[Denoised, None, T], done: int, most: int, total: int
) -> Generator[Step, None, T]:
    """What `making` returns, its steps told as those behind `done` of `total`."""
    while True:
        try:
            told = next(making)
        except StopIteration as end:
            return end.value
        done = min(done + 1, most)  # a second attempt is not in the plan: the count waits for it
        yield Step(BASE, done, total, preview(told.clean, model.defaults.preview))


def _attempts(
    model: Model, prompts: PromptTable, chain: Chain, number: int
) -> Generator[Denoised, None, tuple[Tensor, dict]]:
    """A segment. While the plan is guarded it is made again with other noise where its join would be seen, and with
    fewer known frames besides where it stands still; the best is taken."""
    retries, overlap, tried = chain.retries(), chain.layout.plan.overlap, []
    for attempt, fewer in enumerate([*retries, None]):
        latents, facts = yield from _segment(model, prompts, chain, number, overlap, attempt)
        latents, anchoring = chain.anchored(number, latents)
        motion = chain.motion(latents)
        is_still = chain.stands_still(motion)
        seam = chain.seam(model.show, latents) if retries else 0.0
        facts = {"overlap": overlap, "motion": motion, "seam": seam, "windows": facts, **anchoring}
        tried.append(((is_still, -motion if is_still else seam), latents, facts))
        if not is_still and seam <= 1:
            break
        overlap = fewer if is_still else overlap
    chosen = min(range(len(tried)), key=lambda place: tried[place][0])
    _, latents, facts = tried[chosen]
    measured = {f"{name}s": [facts[name] for _, _, facts in tried] for name in ("motion", "seam")}
    return latents, {"attempt": chosen, **measured, **facts}


def _segment(
    model: Model, prompts: PromptTable, chain: Chain, number: int, overlap: int, attempt: int
) -> Generator[Denoised, None, tuple[Tensor, list[dict]]]:
    """The new frames of a segment, 1 C n h w in float32 on the CPU, window by window; and facts of each window."""
    plan, last = chain.layout.plan, chain.layout.frames_of(number)[-1]
    seed = plan.seed_of(number)
    opening = chain.opening(number)
    new, facts, tail = ([], [], chain.tail) if opening is None else ([opening], [{}], opening)
    model.prepare(plan.segments[number].prompt)
    for frames, count in itertools.islice(chain.layout.windows(number, overlap), len(new), None):
        # Frames behind the segment are thrown away: they read its prompt, so that no later one has a say in it.
        read = [min(frame, last) for frame in frames]
        text = prompts.text(read) if count else prompts.free(plan.segments[number].prompt, len(frames))
        window = Window(frames, text, seed, attempt)
        known = tail[:, :, -count:].to(window.text.device) if count else None
        if plan.strategy == CONDITIONED:
            made, said = yield from conditioned.continue_frames(model, window, known)
        else:
            covariance = None
            if plan.strategy == CORRECTED and known is not None:
                covariance = yield from chain.covariance(new[0] if new else None, partial(_free_clip, model, prompts))
                model.prepare(plan.segments[number].prompt)
            made, said = yield from corrected.continue_frames(model, window, known, covariance, plan.strength)
        made = made[:, :, count:].float().cpu()
        new.append(made)
        facts.append(said)
        tail = made if tail is None else torch.cat([tail, made], dim=2)[:, :, -plan.overlap :]
    frames = len(chain.layout.frames_of(number))
    return torch.cat(new, dim=2)[:, :, :frames], facts


def _free_clip(model: Model, prompts: PromptTable) -> Generator[Denoised, None, Tensor]:
    """A clip of the first prompt that continues nothing, 1 C F h w."""
    plan = prompts.layout.plan
    model.prepare(plan.segments[0].prompt)
    window = Window(range(plan.window), prompts.free(plan.segments[0].prompt, plan.window), plan.seed_of(0))
    clip, _ = yield from corrected.continue_frames(model, window, None, None)
    return clip


def _denoised_together(
    model: Model, layout: Layout, done: Iterable[Tensor], state: Mapping[str, Tensor]
) -> Iterator[Event]:
    """All segments at once. Without a state the work begins anew: to the same bits, segments that are done included."""
    plan = layout.plan
    prompts = PromptTable(layout, model.embed, model.sampling.guidance)

    def noise(frame: int) -> Tensor:
        own = plan.seed_of(layout.segment_at(frame))
        return codenoise.shared_noise(plan.seed, own, frame, plan.window, model.shape)

    frames = codenoise.whole_halves(layout.frames, plan.window)

    def text(shown: range) -> Tensor:
        middle = min(shown[len(shown) // 2], layout.frames - 1)
        model.prepare(plan.segments[layout.segment_at(middle)].prompt)
        return prompts.text(shown)

    front = codenoise.Wavefront(model, frames, plan.window, text, noise)
    there = sum(1 for _ in done)
    if state:
        front.load(state)
    for number in range(there if state else 0, len(plan.segments)):
        new = layout.frames_of(number)
        while front.finished < new.stop:
            told = front.advance()
            yield Step(BASE, front.done, front.windows, preview(told.clean, model.defaults.preview))
        latents = front.take(new).float().cpu()
        if number >= there:
            facts = {"frames": len(new), "seed": plan.seed_of(number)}
            yield SegmentDone(number, latents, facts, front.state())
