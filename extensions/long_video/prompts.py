"""The prompt embeddings of each frame, blended where a prompt changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import Layout
from lavie.text import unconditional_first

CACHED_PROMPTS = 8  # embeddings at a time: a window sees two or three prompts, a plan has up to a thousand


class PromptTable:
    """The prompts of a plan as the network reads them.

    A new prompt fades in over the first `ramp` new frames of its segment. A ramp centred on the border would change the
    end of the segment before it, which may be stored or locked.
    """

    def __init__(
        self, layout: Layout | JoinPlan, embed: Callable[..., Tensor], guidance: float, negative: str, suffix: str = ""
    ) -> None:
        """embed: see `window_model.Model`. negative: not needed at guidance 1. suffix: appended to each prompt."""
        self.layout, self.guidance, self.negative, self.suffix = layout, guidance, negative, suffix
        self._embed = lru_cache(CACHED_PROMPTS)(embed)
        # The text of a window whose frames share a prompt.
        self.whole = lru_cache(CACHED_PROMPTS)(lambda prompt: self._with_negative(self._embed(prompt + suffix)))

    def text(self, frames: Sequence[int]) -> Tensor:
        """2 L C with the negative prompt first if all frames share a prompt, else 2 F L C. One half at guidance 1."""
        mixtures = [self.layout.mixture(frame) for frame in frames]
        prompts = {new for _, new, _ in mixtures}
        if len(prompts) == 1 and all(weight == 1 for *_, weight in mixtures):
            return self.whole(*prompts)
        end = self.suffix
        read = [blend(self._embed(old + end), self._embed(new + end), weight) for old, new, weight in mixtures]
        if all(torch.equal(one, read[0]) for one in read[1:]):  # the network reads both prompts alike
            return self.whole(mixtures[0][1])
        return self._with_negative(torch.stack(read, dim=1))

    def free(self, prompt: str, frames: int) -> Tensor:
        """The text of a clip that continues nothing: 2 L C or 2 F L C."""
        return self._with_negative(self._embed(prompt + self.suffix, frames), frames)

    def _with_negative(self, conditional: Tensor, frames: int | None = None) -> Tensor:
        if self.guidance == 1.0:
            return conditional
        negative = self._embed(self.negative, frames)
        if conditional.ndim > negative.ndim:
            negative = negative[:, None]
        return unconditional_first(negative.expand_as(conditional), conditional)


def blend(old: Tensor, new: Tensor, weight: float) -> Tensor:
    """Interpolate embeddings … L C and keep each token's length between those of its ends."""
    if weight == 1.0:
        return new
    straight = torch.lerp(old, new, weight)
    length = torch.lerp(old.norm(dim=-1, keepdim=True), new.norm(dim=-1, keepdim=True), weight)
    return straight * (length / straight.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(straight.dtype).tiny))
