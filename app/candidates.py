"""A segment made with another seed: how it joins what is before it, and a picture of it. Imports torch late."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.media import write_animation

if typing.TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from extensions.long_video.film import Part
    from lavie.cascade import Cascade

_SIGNALS = ("d", "a", "m", "s")
_ROUGH = ("d", "a", "m")  # those whose ratio is 1 where nobody sees a join
_BEFORE = 10  # frames before the join: as many as the meters look at


def judged(
    cascade: Cascade,
    keys: Sequence[str],
    parts: Mapping[str, Part],
    start: Tensor | None,
    seed: int,
    fps: float,
    folder: Path,
) -> dict[str, typing.Any]:
    """What a person chooses by, as JSON values (`LongVideos.candidates`), with `roughness`, less is better.

    keys: of the segments; the last is the candidate. folder: where its picture goes. fps: of the base stage.
    """
    part = parts[keys[-1]]
    before = _before(keys[:-1], parts, start)
    frames = _decoded(cascade, part.latents, before)
    count = 0 if before is None else before.shape[2]
    seam = _seam(frames, count)
    name = f"candidate-{seed}.webp"
    write_animation(folder / name, frames[max(count - 2, 0) :], fps)
    rough = [max(seam[name], 1 / max(seam[name], 1e-6)) for name in _ROUGH if seam[name] is not None]
    motion = part.facts.get("motion")
    return {
        "seed": seed,
        "key": keys[-1],
        "seam": seam,
        "motion": motion,
        "preview": name,
        "roughness": max(rough, default=0.0),
    }


def _before(keys: Sequence[str], parts: Mapping[str, Part], start: Tensor | None) -> Tensor | None:
    """Latents of the frames right before a segment, at most `_BEFORE`; None where there are none."""
    import torch

    found, frames = [], 0
    for key in reversed(keys):
        if frames >= _BEFORE:
            break
        found.insert(0, parts[key].latents)
        frames += found[0].shape[2]
    if frames < _BEFORE and start is not None:
        found.insert(0, start)
    return torch.cat(found, dim=2)[:, :, -_BEFORE:] if found else None


def _decoded(cascade: Cascade, latents: Tensor, before: Tensor | None) -> list[np.ndarray]:
    """The frames uint8 H W 3 of both, in their order."""
    import torch

    from lavie import vae
    from lavie.bundle import VAE
    from lavie.latents import Whole

    both = latents if before is None else torch.cat([before, latents], dim=2)
    with torch.inference_mode():
        return list(vae.pictures(cascade.decode(VAE, Whole(both))))


def _seam(frames: Sequence[np.ndarray], join: int) -> dict[str, float | None]:
    """The ratios of the four signals where the segment begins; None of each where it continues nothing."""
    from extensions.long_video.meters import join_between

    found = join_between(frames[:join], frames[join:]) if join else None
    return {name: round(getattr(found, name).ratio, 3) if found else None for name in _SIGNALS}
