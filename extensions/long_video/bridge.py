"""New frames between two ends: a transition from one clip or picture to another (SEINE, arXiv 2310.20700, section 3.2).

The network sees one window: the last frames of what is before, the new ones, the first frames of what is behind. Both
ends are told it as `conditioned` or `corrected` tell a beginning; so neither join has a seam.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from extensions.long_video import conditioned, corrected
from extensions.long_video.covariance import temporal_covariance
from extensions.long_video.model import Model, Window
from extensions.long_video.plan import CONDITIONED, CORRECTED, REPAINT, Layout, Segment, SegmentPlan
from extensions.long_video.prompts import PromptTable
from extensions.long_video.reel import BRIDGE, BRIDGING, known_frames
from lavie.errors import RequestError
from lavie.events import BASE, Step
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
