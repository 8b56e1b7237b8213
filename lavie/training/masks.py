"""Which frames of a clip are given and which are to be made, as the frame-conditioned network is told.

Nine channels, in SEINE's order: noisy latents (4), the mask (1), the latents of the given frames (4).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Shares of clips of which extension is given no frame (a video is begun by the base network), or both ends.
ALL_MADE, ENDS_GIVEN = 0.04, 0.1
GIVEN_FRAMES = {1: 1, 2: 1, 4: 6, 8: 2}  # how many first frames the other clips give, and how often: 4 is the default
GIVEN, BESIDE, NEXT = 0.25, 3.0, 2.0  # weights in the loss: of given frames, new ones beside them, those behind these


def frame_mask(kind: str, frames: int) -> Tensor:
    """F, 0 where a frame is given and 1 where it is to be made, by SEINE's names (arXiv 2310.20700, section 3.2).

    kind: `all` to be made; `first n` given; `onelast n` given at each end, of two clips to be joined.
    """
    mask = torch.ones(frames)
    place, _, count = kind.partition(" ")
    if place in ("first", "onelast"):
        mask[: int(count)] = 0
    if place == "onelast":
        mask[-int(count) :] = 0
    return mask


def draw_mask(frames: int, generator: torch.Generator) -> Tensor:
    """A mask (F) at random; at least half of the frames are to be made."""
    kind = float(torch.rand((), generator=generator))
    choices = [count for count, often in GIVEN_FRAMES.items() for _ in range(often) if 2 * count <= frames]
    count = choices[int(torch.randint(len(choices), (), generator=generator))]
    if kind < ALL_MADE:
        return frame_mask("all", frames)
    return frame_mask("onelast 1" if kind < ALL_MADE + ENDS_GIVEN and frames >= 4 else f"first {count}", frames)


def seam_weights(mask: Tensor) -> Tensor:
    """How much each frame counts in the loss, F with a mean of 1: new frames beside given ones make the seam."""
    given = mask == 0
    near = torch.full_like(mask, torch.inf)  # frames to the nearest given one
    if given.any():
        places = torch.arange(len(mask), device=mask.device)
        near = (places[:, None] - places[given]).abs().amin(1).to(mask)
    weights = torch.where(near == 1, BESIDE, torch.where(near == 2, NEXT, 1.0))
    weights = torch.where(given, GIVEN, weights)
    return weights / weights.mean()


def beside_noise(clean: Tensor, grey: Tensor, mask: Tensor) -> Tensor:
    """What extension is shown beside the noise: the mask, and the given frames' latents with `grey` in the others.

    clean: B C F h w. grey: C h w, the latents of a mid-grey picture. mask: B F. → B 1+C F h w.
    """
    made = mask.to(clean)[:, None, :, None, None]
    masked = clean * (1 - made) + grey.to(clean)[None, :, None] * made
    return torch.cat([made.expand(-1, -1, -1, *clean.shape[3:]), masked], dim=1)
