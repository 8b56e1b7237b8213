"""Makes the latents of a plan's segments one after the other, from frames to begin with.

`extend` is a pure function of the plan, its seeds and the latents before: given the latents of finished segments it
continues after them to the same bits. `SegmentFrames` runs it with stored parts. Memory does not grow with the length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from extensions.long_video.base_frames import OpenModel, PartStore, SegmentDone, latents_at, network_of, read_part
from extensions.long_video.cache_keys import latents_hash, segment_keys
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, Layout, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.strategies import codenoise, conditioned, corrected
from extensions.long_video.strategies.chain import Chain
from extensions.long_video.strategies.window_model import Model, Window, report_steps
from lavie.errors import RequestError
from lavie.events import BASE, Step
from lavie.latents import Latents, Parts, preview
from lavie.sampling import Denoised
from lavie.values import require

Event = Step | SegmentDone


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
        opening: 1 C F h w, the first window if it exists already.

    Closing the generator cancels after at most one evaluation of the network.

    Raises RequestError for impossible requests before anything is computed.
    """
    _check(model, plan, start)
    layout = Layout(plan, 0 if start is None else start.shape[2])
    prompts = PromptTable(layout, model.embed, model.guidance, plan.negative_prompt)
    if plan.strategy == CODENOISE:
        yield from _denoise_together(model, layout, prompts, done, state or {})
    else:
        yield from _make_one_by_one(model, prompts, Chain(layout, start, opening), done)


def _check(model: Model, plan: SegmentPlan, start: Tensor | None) -> None:
    if plan.strategy is None:
        raise RequestError("the plan's strategy is None: decide on one, or have `resolving.resolve_plan` do it")
    open_seeds = [number for number in range(len(plan.segments)) if plan.seed_of(number) is None]
    if plan.seed is None and (open_seeds or plan.strategy == CODENOISE):
        raise RequestError("the plan's seed is None: draw one, so that the video can be made again")
    model.check_sampler(plan.strategy)
    if start is None:
        return
    if plan.strategy == CODENOISE:
        raise RequestError("the strategy 'codenoise' makes a whole video at once and continues none: choose another")
    model.check_frames("to continue", start)


def _make_one_by_one(model: Model, prompts: PromptTable, chain: Chain, done: Iterable[Tensor]) -> Iterator[Event]:
    """Make each segment from the last frames of the one before it."""
    layout = chain.layout
    count, made = len(layout.plan.segments), 0
    steps = [layout.windows_of(number) * model.steps for number in range(count)]
    for latents in itertools.islice(done, count):
        expected = (1, model.shape[0], len(layout.frames_of(made)), *model.shape[1:])
        if latents.shape != expected:
            found = tuple(latents.shape)
            raise RequestError(f"segment {made + 1} has latents of shape {found}, not {expected}: make it anew")
        chain.add(made, latents)
        made += 1
    for number in range(made, count):
        before, most = sum(steps[:number]), sum(steps[: number + 1])
        before += 0 if chain.opening(number) is None else model.steps
        making = _make_guarded(model, prompts, chain, number)
        latents, facts = yield from report_steps(model, making, before, most, sum(steps))  # attempts count once
        chain.add(number, latents)
        seed = layout.plan.seed_of(number)
        yield SegmentDone(BASE, number, latents, {"frames": len(latents[0, 0]), "seed": seed, **facts})


def _make_guarded(
    model: Model, prompts: PromptTable, chain: Chain, number: int
) -> Generator[Denoised, None, tuple[Tensor, dict[str, Any]]]:
    """Make a segment; of a guarded plan repeat it with other noise while its join is visible, and take the best
    attempt.

    If it stands still, the next attempt also has fewer known frames.
    """
    retries, overlap = chain.retries(), chain.layout.plan.overlap
    tried: list[tuple[tuple[bool, float], Tensor, dict[str, Any]]] = []
    for attempt, fewer in enumerate([*retries, overlap]):
        latents, windows = yield from _make_segment(model, prompts, chain, number, overlap, attempt)
        latents, anchoring = chain.anchor(number, latents)
        motion = chain.motion(latents)
        is_still = chain.stands_still(motion)
        seam = chain.seam(model.show, latents) if retries else 0.0
        facts = {"overlap": overlap, "motion": motion, "seam": seam, "windows": windows, **anchoring}
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
    plan, added = chain.layout.plan, chain.layout.frames_of(number)
    prompt, opening, tail = plan.segments[number].prompt, chain.opening(number), chain.tail
    new: list[Tensor] = []
    facts: list[dict[str, Any]] = []
    if opening is not None:
        new, facts, tail = [opening], [{}], opening
    model.prepare(prompt)
    for frames, count in itertools.islice(chain.layout.windows(number, overlap), len(new), None):
        # Frames after the segment are dropped. They read its prompt so that no later prompt influences it.
        read = [min(frame, added[-1]) for frame in frames]
        text = prompts.text(read) if count else prompts.free(prompt, len(frames))
        window = Window(frames, text, require(plan.seed_of(number)), attempt)
        given = {} if tail is None else dict(enumerate(tail[:, :, -count:].to(text.device).unbind(2)))
        said: dict[str, Any] = {}
        if plan.strategy == CONDITIONED:
            made, said = yield from conditioned.fill_frames(model, window, given)
        else:
            covariance = None
            if plan.strategy == CORRECTED and given:
                free_clip = partial(_make_free_clip, model, prompts, plan)
                covariance = yield from chain.covariance(new[0] if new else None, free_clip)
                model.prepare(prompt)
            made = yield from corrected.fill_frames(model, window, given, covariance, plan.strength)
        made = made[:, :, count:].float().cpu()
        new.append(made)
        facts.append(said)
        tail = made if tail is None else torch.cat([tail, made], dim=2)[:, :, -plan.overlap :]
    return torch.cat(new, dim=2)[:, :, : len(added)], facts


def _make_free_clip(model: Model, prompts: PromptTable, plan: SegmentPlan) -> Generator[Denoised, None, Tensor]:
    """Make a clip of the first prompt from nothing, 1 C F h w."""
    prompt = plan.segments[0].prompt
    model.prepare(prompt)
    window = Window(range(plan.window), prompts.free(prompt, plan.window), require(plan.seed_of(0)))
    return (yield from corrected.fill_frames(model, window, {}, None))


def _denoise_together(
    model: Model, layout: Layout, prompts: PromptTable, done: Iterable[Tensor], state: Mapping[str, Tensor]
) -> Iterator[Event]:
    """Make all segments at once. Without a state the work begins anew, to the same bits."""
    plan = layout.plan

    def noise(frame: int) -> Tensor:
        own = require(plan.seed_of(layout.segment_at(frame)))
        return codenoise.shared_noise(require(plan.seed), own, frame, plan.window, model.shape)

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
            yield SegmentDone(BASE, number, latents, facts, front.state())


class SegmentFrames:
    """The base frames of a plan of segments, which are its parts.

    Attributes:
        layout: where each frame comes from.
        network: the component of the bundle that makes the parts.
        opening: guidance of the base network, if that makes the first clip in place of `network`.
        prompts: of the parts.
    """

    def __init__(self, plan: SegmentPlan, start: Tensor | None) -> None:
        """plan: resolved. start: 1 C N h w, latents of frames to continue."""
        self._plan, self._start = plan, start
        self.layout = Layout(plan, 0 if start is None else start.shape[2])
        self.network = network_of(require(plan.strategy))
        self.opening = plan.opening if start is None and plan.strategy == CONDITIONED else None
        self.prompts = [segment.prompt for segment in plan.segments]

    def keys(self, stage_digest: str) -> list[str]:
        """The keys of the parts; each changes with every segment before it. stage_digest: of the base stage."""
        return segment_keys(self._plan, None if self._start is None else latents_hash(self._start), stage_digest)

    def key_at(self, keys: Sequence[str], frame: int) -> str:
        """The key that a later stage's window depends on for an absolute frame: that of its segment."""
        return keys[self.layout.segment_at(frame)]

    def total_steps(self, steps: int) -> int:
        """The number of `Step` events of all parts. steps: of the sampling."""
        plan, layout = self._plan, self.layout
        if plan.strategy == CODENOISE:
            frames = codenoise.round_up_to_halves(layout.frames, plan.window)
            return sum(len(codenoise.grid(step, frames, plan.window)) for step in range(steps))
        return steps * sum(layout.windows_of(number) for number in range(len(plan.segments)))

    def latents(self, store: PartStore, keys: Sequence[str]) -> Latents:
        """The latents of the whole video, read when needed: the frames to continue and the segments."""
        start, parts = self._start, list[tuple[int, Callable[[], Tensor]]]()
        if start is not None:
            parts.append((start.shape[2], lambda: start.float().cpu()))
        for number, key in enumerate(keys):
            parts.append((len(self.layout.frames_of(number)), partial(latents_at, store, key)))
        return Parts(parts)

    def make(self, open_model: OpenModel, store: PartStore, keys: Sequence[str]) -> Iterator[Step | SegmentDone]:
        """Make the missing segments and store each before its event; stored ones after a gap stay.

        open_model: called only if a part is missing.
        """
        there, state = _find_missing(store, keys, 0)
        if there == len(keys):
            return
        opening = None
        if there == 0 and self.opening is not None:  # before the other network is loaded
            with open_model(BASE) as model:
                opening = yield from self._make_opening(model)
        with open_model(self.network) as model:
            while there < len(keys):
                made = yield from self._go_on(model, store, keys, there, state, opening)
                there, state = _find_missing(store, keys, made)

    def _make_opening(self, model: Model) -> Generator[Step, None, Tensor]:
        """Make the first window from nothing, 1 C F h w. Its steps are the first of the plan's."""
        prompts = PromptTable(self.layout, model.embed, model.guidance, self._plan.negative_prompt)
        making = _make_free_clip(model, prompts, self._plan)
        return (yield from report_steps(model, making, 0, model.steps, self.total_steps(model.steps)))

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
                store[keys[made]] = event
            yield event
            following = keys[made + 1 : made + 2]
            if isinstance(event, SegmentDone) and following and following[0] in store:
                break
        return made


def _find_missing(store: PartStore, keys: Sequence[str], begin: int) -> tuple[int, Mapping[str, Tensor]]:
    """The first missing segment from `begin` on, and the state of the segment before it."""
    state: Mapping[str, Tensor] = {}
    for number in range(begin, len(keys)):
        part = read_part(store, keys[number])
        if part is None:
            return number, state
        state = part.state
    return len(keys), state
