"""Fills in what a request and a plan leave open, from a bundle's networks and their defaults. Runs no network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from extensions.long_video.base_frames import network_of
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import CONDITIONED, OVERLAPS, Segment, SegmentPlan, default_strategy, resolve_flag
from lavie.bundle import Bundle
from lavie.cascade import Cascade
from lavie.errors import RequestError
from lavie.events import BASE
from lavie.manifest import EXTENSION
from lavie.request import Request
from lavie.values import require


def resolve(cascade: Cascade, request: Request, plan: SegmentPlan | JoinPlan) -> tuple[Request, SegmentPlan | JoinPlan]:
    """Both with every value decided. The sampling is that of the network that the plan's strategy uses.

    A `conditioned` video opens with a clip of the base network, with the requested guidance or that network's default.

    Raises as `Cascade.resolve` and `resolve_plan`.
    """
    asked, strategy = request.base.guidance, _strategy(cascade.bundle, plan.strategy)
    request = cascade.resolve(request, network=network_of(strategy))
    plan = resolve_plan(cascade, request, plan)
    if strategy == CONDITIONED and isinstance(plan, SegmentPlan) and plan.opening is None:
        own = cascade.bundle.defaults[BASE].sampling.guidance
        plan = replace(plan, opening=own if asked is None else asked)
    return request, plan


def resolve_plan(
    cascade: Cascade, request: Request, plan: SegmentPlan | JoinPlan | None = None
) -> SegmentPlan | JoinPlan:
    """The plan with every value decided. Resolving it again changes nothing.

    The strategy becomes `conditioned` if the bundle has such a network, else `corrected`; seed and negative prompt come
    from the request, the window is its number of frames, the overlap at most half of it. Without a plan there is one
    segment with the request's prompt.

    Args:
        request: resolved.

    Raises RequestError for a request of one frame and for a transition longer than the window allows, BundleError for a
    strategy whose network is missing.
    """
    window = require(request.frames)
    if window < 2:
        raise RequestError(f"frames is {window}: a long video is made from windows of at least 2, such as 16")
    plan = plan or SegmentPlan((Segment(request.prompt),))
    strategy = _strategy(cascade.bundle, plan.strategy)
    decided: dict[str, Any] = {
        "strategy": strategy,
        "seed": request.seed if plan.seed is None else plan.seed,
        "negative_prompt": request.negative_prompt,
        "window": window,
    }
    if isinstance(plan, JoinPlan):
        return replace(plan, **decided)
    return replace(
        plan,
        **decided,
        anchored=resolve_flag(strategy, plan.anchored),
        guarded=resolve_flag(strategy, plan.guarded),
        overlap=max(overlap for overlap in OVERLAPS if overlap <= min(plan.overlap, window // 2)),
    )


def _strategy(bundle: Bundle, asked: str | None) -> str:
    """The requested strategy, or the best that the bundle has a network for."""
    strategy = asked
    if strategy is None:
        network = BASE if bundle.missing(EXTENSION) else EXTENSION
        strategy = default_strategy(bundle.config(network)["in_channels"])
    if strategy == CONDITIONED:
        bundle.require(EXTENSION)
    return strategy
