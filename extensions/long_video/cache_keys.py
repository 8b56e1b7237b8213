"""Under which key each part of a long video is kept: a key says all that the part depends on, so that equal keys stand
for the same bits, whichever job made them. Needs no torch.
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
from lavie.plans import PLAIN, MemoryMode
from lavie.request import Request

if typing.TYPE_CHECKING:
    from torch import Tensor

    from lavie.bundle import StageDefaults

VERSION = 3  # one more whenever the code gives other bits for the same values
# Of what `Cascade.provenance` says; offloading moves weights and changes no bit, another number of threads only last
# ones: no reason to make a whole video anew.
RUNS_ON = ("device", "dtype", "attention", "versions")


def segment_keys(plan: SegmentPlan, start_hash: str | None, made_with: str) -> list[str]:
    """The key of each segment's latents: of the one before it, and of what decides the segment itself.

    So a change of a segment changes its key and all behind it. With `codenoise` every key stands on the whole plan.

    Args:
        plan: with seed and strategy decided (`resolving.resolve_plan`).
        start_hash: `latents_hash` of the frames that are continued, None for none.
        made_with: see there, for the base stage.
    """
    wide = asdict(plan) | {"segments": None, "seed": None}
    segments = [[segment.prompt, plan.seed_of(number), segment.frames] for number, segment in enumerate(plan.segments)]
    together = [plan.seed, segments] if plan.strategy == CODENOISE else None
    key = _digest("plan", start_hash, made_with, wide, together)
    keys = []
    for number, decided in enumerate(segments):
        key = _digest("segment", key, number, decided)
        keys.append(key)
    return keys


def bridge_key(reel: JoinPlan, number: int, ends: tuple[str, str], made_with: str) -> str:
    """The key of a bridge's latents: of what decides it, and of its two ends; where in the video it is does not.

    So an exchanged clip changes those of the two bridges beside it, and an exchanged transition its own.

    Args:
        reel: with seed and strategy decided.
        number: of the clip before it.
        ends: `latents_hash` of the frames that it is made from, of the clip before it and the one behind.
        made_with: see there, for the base stage.
    """
    transition = reel.transitions[number]
    wide = [reel.strategy, reel.negative_prompt, reel.window, reel.strength]
    return _digest("bridge", made_with, wide, transition.prompt, transition.frames, reel.seed_of(number), list(ends))


def piece_key(key: str, begin: int, prompt: str) -> str:
    """What a window sees of a clip or a bridge: which one it is (`key`), from which frame on, and its prompt.

    A segment's key says all of that itself.
    """
    return _digest("piece", key, begin, prompt)


def window_key(made_with: str, seed: int, number: int, last: int, seen: Iterable[str]) -> str:
    """The key of a window of interpolation or super-resolution.

    Args:
        made_with: see there, for the window's stage.
        seed: of its noise.
        number: of the window, from 0.
        last: the last frame that it shows the network; where the video goes on, it is another one.
        seen: keys of the parts whose frames it shows, in their order.
    """
    return _digest("window", made_with, seed, number, last, list(seen))


def made_with(
    stage: str,
    request: Request,
    defaults: StageDefaults,
    provenance: Mapping[str, Any],
    components: Collection[str],
    rung: MemoryMode = PLAIN,
) -> str:
    """What a stage's latents depend on beside the plan and the frames it is shown, as a hash.

    Args:
        stage: one of the request's.
        request: resolved.
        defaults: of the network.
        provenance: what `Cascade.provenance` says, and under `adapters` what the networks wear, if anything.
        components: folders of the bundle whose weights the stage uses.
        rung: that the stage runs on.
    """
    worn = [provenance["adapters"]] if "adapters" in provenance else []
    return _digest(
        stage,
        asdict(getattr(request, stage)),
        [request.width, request.height],
        [defaults.prediction_type, defaults.prompt_suffix, defaults.negative_prompt, asdict(defaults.windows)],
        {file: found for file, found in provenance["weights"].items() if file.partition("/")[0] in components},
        {name: provenance[name] for name in RUNS_ON},
        *worn,
        *([["rung", rung.tile, rung.halves]] if rung.changes else []),
    )


def latents_hash(latents: Tensor) -> str:
    """sha256 of latents as a hex string: of their shape and their numbers in float32."""
    digest = hashlib.sha256(repr(tuple(latents.shape)).encode())
    digest.update(latents.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps([VERSION, *values], sort_keys=True).encode()).hexdigest()
