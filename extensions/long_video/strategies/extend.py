"""Makes the latents of a plan's segments one after the other, from frames to begin with.

`extend` is a pure function of the plan, its seeds and the latents before: given the latents of finished segments it
continues after them to the same bits. `SegmentFrames` runs it with stored parts. Memory does not grow with the length.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from extensions.long_video.base_frames import OpenModel, Part, PartStore, SegmentDone, latents_at, network_of
from extensions.long_video.cache_keys import latents_hash, segment_keys
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, REPAINT, Layout, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies import codenoise, conditioned, corrected
from extensions.long_video.strategies.chain import Chain
from extensions.long_video.strategies.window_model import Model, Window
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts
from lavie.sampling import Denoised
from lavie.stages.preview import preview

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
    """Make the missing segments of a plan. The last event is that of the last segment.

    Args:
        plan: with seed and strategy decided.
        start: 1 C N h w, latents of frames to continue; None to begin from nothing.
        done: latents of the first segments as `SegmentDone` has them, read one at a time.
        state: of the last of them.
        opening: of `opening_clip`, if the first segment begins with it.

    Closing the generator cancels after at most one evaluation of the network.

    Raises RequestError for impossible requests before anything is computed.
    """
    _check(model, plan, start)
    layout = Layout(plan, 0 if start is None else start.shape[2])
    if plan.strategy == CODENOISE:
        yield from _denoise_together(model, layout, done, state or {})
    else:
        yield from _make_one_by_one(model, layout, start, done, opening)


@torch.inference_mode()
def opening_clip(model: Model, plan: SegmentPlan) -> Generator[Step, None, Tensor]:
    """Make the first window of a plan from nothing, 1 C F h w, with the base network.

    model: of the base network, with as many steps as the one that continues. Its steps are the first of the plan's.
    """
    layout, steps = Layout(plan), model.sampling.steps
    making = _make_free_clip(model, PromptTable(layout, model.embed, model.sampling.guidance))
    return (yield from _report_steps(model, making, 0, steps, total_steps(layout, steps)))


def total_steps(layout: Layout, steps: int) -> int:
    """The number of `Step` events of a whole plan. steps: of the sampling."""
    plan = layout.plan
    if plan.strategy == CODENOISE:
        frames = codenoise.round_up_to_halves(layout.frames, plan.window)
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


def _check_shape(latents: Tensor, layout: Layout, number: int, shape: tuple[int, int, int]) -> Tensor:
    expected = (1, shape[0], len(layout.frames_of(number)), *shape[1:])
    if tuple(latents.shape) != expected:
        found = tuple(latents.shape)
        raise RequestError(f"segment {number + 1} has latents of shape {found}, not {expected}: make it anew")
    return latents


def _make_one_by_one(
    model: Model, layout: Layout, start: Tensor | None, done: Iterable[Tensor], opening: Tensor | None
) -> Iterator[Event]:
    """Make each segment from the last frames of the one before it."""
    count = len(layout.plan.segments)
    chain, prompts = Chain(layout, start, opening), PromptTable(layout, model.embed, model.sampling.guidance)
    steps = [layout.windows_of(number) * model.sampling.steps for number in range(count)]
    made = 0
    for latents in itertools.islice(done, count):
        chain.add(made, _check_shape(latents, layout, made, model.shape))
        made += 1
    for number in range(made, count):
        before, most = sum(steps[:number]), sum(steps[: number + 1])
        before += 0 if chain.opening(number) is None else model.sampling.steps
        making = _make_guarded(model, prompts, chain, number)
        latents, facts = yield from _report_steps(model, making, before, most, sum(steps))
        chain.add(number, latents)
        seed = layout.plan.seed_of(number)
        yield SegmentDone(number, latents, {"frames": len(latents[0, 0]), "seed": seed, **facts})


def _report_steps(
    model: Model, making: Generator[Denoised, None, T], done: int, most: int, total: int
) -> Generator[Step, None, T]:
    """Run `making` and report its steps as those after `done` of `total`; returns its result."""
    while True:
        try:
            step = next(making)
        except StopIteration as end:
            return end.value
        done = min(done + 1, most)  # further attempts do not count
        yield Step(BASE, done, total, preview(step.clean, model.defaults.preview))


def _make_guarded(
    model: Model, prompts: PromptTable, chain: Chain, number: int
) -> Generator[Denoised, None, tuple[Tensor, dict[str, Any]]]:
    """Make a segment; of a guarded plan repeat it with other noise while its join is visible, and take the best
    attempt.

    If it stands still, the next attempt also has fewer known frames.
    """
    retries, overlap, tried = chain.retries(), chain.layout.plan.overlap, []
    for attempt, fewer in enumerate([*retries, None]):
        latents, facts = yield from _make_segment(model, prompts, chain, number, overlap, attempt)
        latents, anchoring = chain.anchor(number, latents)
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


def _make_segment(
    model: Model, prompts: PromptTable, chain: Chain, number: int, overlap: int, attempt: int
) -> Generator[Denoised, None, tuple[Tensor, list[dict[str, Any]]]]:
    """Make the new frames of a segment window by window: 1 C n h w in float32 on the CPU; and facts of each window."""
    plan, last = chain.layout.plan, chain.layout.frames_of(number)[-1]
    seed = plan.seed_of(number)
    opening = chain.opening(number)
    new, facts, tail = ([], [], chain.tail) if opening is None else ([opening], [{}], opening)
    model.prepare(plan.segments[number].prompt)
    for frames, count in itertools.islice(chain.layout.windows(number, overlap), len(new), None):
        # Frames after the segment are dropped. They read its prompt so that no later prompt influences it.
        read = [min(frame, last) for frame in frames]
        text = prompts.text(read) if count else prompts.free(plan.segments[number].prompt, len(frames))
        window = Window(frames, text, seed, attempt)
        known = tail[:, :, -count:].to(window.text.device) if count else None
        if plan.strategy == CONDITIONED:
            made, said = yield from conditioned.continue_frames(model, window, known)
        else:
            covariance = None
            if plan.strategy == CORRECTED and known is not None:
                covariance = yield from chain.covariance(
                    new[0] if new else None, partial(_make_free_clip, model, prompts)
                )
                model.prepare(plan.segments[number].prompt)
            made, said = yield from corrected.continue_frames(model, window, known, covariance, plan.strength)
        made = made[:, :, count:].float().cpu()
        new.append(made)
        facts.append(said)
        tail = made if tail is None else torch.cat([tail, made], dim=2)[:, :, -plan.overlap :]
    frames = len(chain.layout.frames_of(number))
    return torch.cat(new, dim=2)[:, :, :frames], facts


def _make_free_clip(model: Model, prompts: PromptTable) -> Generator[Denoised, None, Tensor]:
    """Make a clip of the first prompt from nothing, 1 C F h w."""
    plan = prompts.layout.plan
    model.prepare(plan.segments[0].prompt)
    window = Window(range(plan.window), prompts.free(plan.segments[0].prompt, plan.window), plan.seed_of(0))
    clip, _ = yield from corrected.continue_frames(model, window, None, None)
    return clip


def _denoise_together(
    model: Model, layout: Layout, done: Iterable[Tensor], state: Mapping[str, Tensor]
) -> Iterator[Event]:
    """Make all segments at once. Without a state the work begins anew, to the same bits."""
    plan = layout.plan
    prompts = PromptTable(layout, model.embed, model.sampling.guidance)

    def noise(frame: int) -> Tensor:
        own = plan.seed_of(layout.segment_at(frame))
        return codenoise.shared_noise(plan.seed, own, frame, plan.window, model.shape)

    frames = codenoise.round_up_to_halves(layout.frames, plan.window)

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
            step = front.advance()
            yield Step(BASE, front.done, front.windows, preview(step.clean, model.defaults.preview))
        latents = front.take(new).float().cpu()
        if number >= there:
            facts = {"frames": len(new), "seed": plan.seed_of(number)}
            yield SegmentDone(number, latents, facts, front.state())


class SegmentFrames:
    """The base frames of a plan of segments, see `base_frames.BaseFrames`."""

    def __init__(self, plan: SegmentPlan, start: Tensor | None) -> None:
        """plan: resolved. start: 1 C N h w, latents of frames to continue."""
        self._plan, self._start = plan, start
        self.layout = Layout(plan, 0 if start is None else start.shape[2])
        self.network = network_of(plan.strategy)
        opens = start is None and plan.strategy == CONDITIONED and plan.opening is not None
        self.opening_network = BASE if opens else None
        self.prompts = [segment.prompt for segment in plan.segments]

    def keys(self, stage_digest: str) -> list[str]:
        """Each key changes with every segment before it."""
        return segment_keys(self._plan, None if self._start is None else latents_hash(self._start), stage_digest)

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """The key of the frame's segment."""
        return keys[self.layout.segment_at(frame)]

    def total_steps(self, steps: int) -> int:
        """See `total_steps`."""
        return total_steps(self.layout, steps)

    def latents(self, store: PartStore, keys: Sequence[str]) -> Latents:
        """The segments after the frames to continue."""
        counts = [len(self.layout.frames_of(number)) for number in range(len(keys))]
        parts = [(count, partial(latents_at, store, key)) for count, key in zip(counts, keys, strict=True)]
        begun = [] if self._start is None else [(self._start.shape[2], lambda: self._start.float().cpu())]
        return Parts(begun + parts)

    def make(self, open_model: OpenModel, store: PartStore, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """Make the missing segments; stored ones after a gap stay."""
        there, state = _find_missing(store, keys, 0)
        if there == len(keys):
            return
        opening = None
        if there == 0 and self.opening_network is not None:  # before the other network is loaded
            with open_model(self.opening_network) as model:
                opening = yield from opening_clip(model, self._plan)
        with open_model(self.network) as model:
            while there < len(keys):
                made = yield from self._go_on(model, store, keys, there, state, opening)
                there, state = _find_missing(store, keys, made)

    def _go_on(
        self,
        model: Model,
        store: PartStore,
        keys: Sequence[str],
        there: int,
        state: Mapping[str, Tensor],
        opening: Tensor | None,
    ) -> Generator[Step | SegmentDone, None, int]:
        """Make segments from number `there` up to the next stored one; returns the last number."""
        done = (latents_at(store, key) for key in keys[:there])
        made = there
        for event in extend(model, self._plan, self._start, done, state, opening):
            if isinstance(event, SegmentDone):
                made = event.number
                store[keys[made]] = Part(BASE, made, event.latents, event.facts, event.state)
            yield event
            following = keys[made + 1 : made + 2]
            if isinstance(event, SegmentDone) and following and following[0] in store:
                break
        return made


def _find_missing(store: PartStore, keys: Sequence[str], begin: int) -> tuple[int, Mapping[str, Tensor]]:
    """The first missing segment from `begin` on, and the state of the segment before it."""
    state: Mapping[str, Tensor] = {}
    for number in range(begin, len(keys)):
        try:
            state = store[keys[number]].state
        except KeyError:
            return number, state
    return len(keys), state
