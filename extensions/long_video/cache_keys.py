"""The keys under which the parts of a long video are stored. Needs no torch.

A key covers everything that a part depends on: equal keys stand for equal bits, whichever job made them.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import CODENOISE, SegmentPlan
from lavie.memory_mode import PLAIN, MemoryMode
from lavie.request import Request

if typing.TYPE_CHECKING:
    from torch import Tensor

    from lavie.manifest import StageDefaults

VERSION = 3  # add one when the code gives other bits for the same values
# Entries of `Cascade.provenance` that count. Offloading changes no bit and the number of threads only the last ones.
RUNS_ON = ("device", "dtype", "attention", "versions")


def segment_keys(plan: SegmentPlan, start_hash: str | None, stage_digest: str) -> list[str]:
    """The key of each segment's latents: a digest of the segment and of the key before it.

    A change of a segment changes its key and all later ones. With `codenoise` every key depends on the whole plan.

    start_hash: `latents_hash` of the frames that are continued, None if there are none.
    """
    wide = asdict(plan) | {"segments": None, "seed": None}
    segments = [[segment.prompt, plan.seed_of(number), segment.frames] for number, segment in enumerate(plan.segments)]
    together = [plan.seed, segments] if plan.strategy == CODENOISE else None
    key = _digest("plan", start_hash, stage_digest, wide, together)
    keys = []
    for number, decided in enumerate(segments):
        key = _digest("segment", key, number, decided)
        keys.append(key)
    return keys


def transition_key(plan: JoinPlan, number: int, ends: tuple[str, str], stage_digest: str) -> str:
    """The key of a transition's latents. It does not depend on the transition's place in the video.

    Exchanging a clip changes the keys of the transitions beside it, exchanging a transition only its own.

    ends: `latents_hash` of the known frames of the clips before and after it.
    """
    transition = plan.transitions[number]
    wide = [plan.strategy, plan.negative_prompt, plan.window, plan.strength]
    return _digest("bridge", stage_digest, wide, transition.prompt, transition.frames, plan.seed_of(number), list(ends))


def piece_key(key: str, begin: int, prompt: str) -> str:
    """The key of what a window sees of a clip or transition. A segment's own key covers place and prompt already."""
    return _digest("piece", key, begin, prompt)


def window_key(stage_digest: str, seed: int, number: int, last: int, seen: Iterable[str]) -> str:
    """The key of a window of interpolation or super-resolution.

    Args:
        last: last frame that it shows to the network; it changes when the video grows.
        seen: keys of the parts whose frames it shows, in order.
    """
    return _digest("window", stage_digest, seed, number, last, list(seen))


def stage_digest(
    stage: str,
    request: Request,
    defaults: StageDefaults,
    provenance: Mapping[str, Any],
    components: Collection[str],
    mode: MemoryMode = PLAIN,
) -> str:
    """A hash of what a stage's latents depend on beside the plan and the frames that it is shown.

    Args:
        request: resolved.
        provenance: of `Cascade.provenance`; under `adapters` the active adapters, if any.
        components: folders of the bundle whose weights the stage uses.
    """
    active = [provenance["adapters"]] if "adapters" in provenance else []
    return _digest(
        stage,
        asdict(getattr(request, stage)),
        [request.width, request.height],
        [defaults.prediction_type, defaults.prompt_suffix, defaults.negative_prompt, asdict(defaults.windows)],
        {file: found for file, found in provenance["weights"].items() if file.partition("/")[0] in components},
        {name: provenance[name] for name in RUNS_ON},
        *active,
        *([["rung", mode.tile, mode.split_guidance]] if mode.changes else []),
    )


def latents_hash(latents: Tensor) -> str:
    """sha256 of the shape and the float32 numbers of latents, as a hex string."""
    digest = hashlib.sha256(repr(tuple(latents.shape)).encode())
    digest.update(latents.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps([VERSION, *values], sort_keys=True).encode()).hexdigest()
