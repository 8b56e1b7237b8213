"""The losses of an adapter's training. All random numbers come from generators keyed by the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from extensions.lora.training.ordinary import Ordinary
from extensions.lora.training.settings import Preset
from lavie.manifest import EPSILON, SAMPLE
from lavie.noise import derive_seed
from lavie.sampling import training_alphas, training_target
from lavie.text import embeddings
from lavie.training.data.encoded import LATENTS, Encoded, StoredClips
from lavie.training.diffusion import PLACED_STILLS, add_random_noise, drop_captions, embed_at_times, step_generator

Gradients = tuple[Tensor | None, ...]


def sum_in_parallel(parts: Sequence[Callable[[], Tensor]], parameters: Sequence[Tensor]) -> Tensor:
    """The sum of losses, with its gradient for `parameters` alone computed at once.

    Each part runs with its gradient on one core in a thread of its own. Gradients are added in the order of the parts,
    so the bits do not depend on the number of cores.
    """
    device = next(iter(parameters)).device.type
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)  # threads start without it

    def compute(part: Callable[[], Tensor]) -> tuple[Tensor, Gradients]:
        torch.set_num_threads(1)
        with torch.autocast(device, autocast[1], enabled=autocast[0]):
            loss = part()
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    before = torch.get_num_threads()
    try:
        done = list(_threads(min(len(parts), before)).map(compute, parts))
    finally:
        torch.set_num_threads(before)
    return _Sum.apply(torch.stack([loss for loss, _ in done]).sum(), [gradients for _, gradients in done], *parameters)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """The same threads at each step, since each keeps what it prepared for its convolutions."""
    return ThreadPoolExecutor(count)


class _Sum(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Gradients], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        added = []
        for each in zip(*ctx.gradients, strict=True):
            there = [gradient for gradient in each if gradient is not None]
            added.append(scale * sum(there[1:], start=there[0]) if there else None)
        return None, None, *added


WEIGHT = "weight"  # of each latent pixel, stored beside the latents of pictures
DEBIAS = 1.0  # β of MotionDirector


class MaskedSet(StoredClips):
    """Pictures or clips with a weight for each latent pixel."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw with replacement: latents B C F h w, tokens B L, and weights B 1 F h w, 0 … 1."""
        drawn, tokens = self._draw_stored(count, generator)
        latents = torch.stack([stored[LATENTS].float() for stored in drawn])
        weights = [stored.get(WEIGHT, torch.ones_like(stored[LATENTS][:1])).float() for stored in drawn]
        return latents, tokens, torch.stack(weights)


class MovedSet(MaskedSet):
    """Clips of `MovedCut`; each caption has the direction of movement after the trigger."""

    def __init__(
        self,
        media: Sequence[Encoded],
        tokens: Callable[[list[str]], Tensor],
        frames: int,
        ways: Sequence[str],
        trigger: str,
    ) -> None:
        super().__init__(media, tokens, frames)
        self.captions = [text.replace(trigger, f"{trigger} {way}", 1) for text in self.captions for way in ways]
        self._clips = [(file, index, number * len(ways) + index % len(ways)) for file, index, number in self._clips]
        self._tokens = tokens(self.captions)


@dataclass(frozen=True)
class Lesson:
    """Everything that a loss depends on.

    Args:
        network: the base network with its factors attached.
        empty: L, the tokens of an empty prompt.
        ordinary: what must not change.
        moved: pictures in motion.
        parameters: computes the parts of a loss in parallel for these; empty for one after the other.
    """

    network: nn.Module
    text_model: Any
    media: MaskedSet
    empty: Tensor
    preset: Preset
    prediction_type: str
    seed: int
    ordinary: Ordinary | None = None
    moved: MaskedSet | None = None
    parameters: Sequence[Tensor] = ()

    def loss_at(self, step: int) -> Tensor:
        parts, moved, ordinary = [lambda: self.media_loss(step_generator(self.seed, step))], self.moved, self.ordinary
        if moved is not None:
            parts.append(lambda: self._set_loss(moved, self.preset.moved, self._generator("moved", step)))
        if ordinary is not None:
            parts.append(lambda: self.preset.prior * self._prior_loss(ordinary, self._generator("ordinary", step)))
        if self.parameters and len(parts) > 1:
            return sum_in_parallel(parts, self.parameters)
        return torch.stack([part() for part in parts]).sum()

    def _generator(self, part: str, step: int) -> torch.Generator:
        """A generator for each part, so that their order does not matter."""
        return step_generator(derive_seed(self.seed, part), step)

    def media_loss(self, generator: torch.Generator) -> Tensor:
        return self._set_loss(self.media, self.preset.batch, generator)

    def _set_loss(self, media: MaskedSet, count: int, generator: torch.Generator) -> Tensor:
        """The loss of a batch of a set. Stills skip the layers that mix time."""
        latents, tokens, weights = media.draw(count, generator)
        are_clips = latents.shape[2] > 1
        tokens = drop_captions(tokens, self.empty, generator, self.preset.caption_dropout).to(self.text_model.device)
        share = 1 if are_clips else PLACED_STILLS
        text = embed_at_times(self.text_model, tokens, latents.shape[2], share, generator)
        clean, weights = latents.to(text.device), weights.to(text.device)
        noisy, timestep, noise = add_random_noise(clean, generator, tilt=self.preset.tilt)
        said = self.network(noisy, timestep, text, image_frames=0 if are_clips else 1).float()
        target = training_target(clean, noise, timestep, self.prediction_type)
        error = weighted_error(said, target, weights)
        if self.preset.debiased:
            anchor = int(torch.randint(clean.shape[2], (), generator=generator))
            error = error + weighted_error(debias(said, anchor), debias(target, anchor), weights)
        if self.preset.snr is not None:
            error = error * min_snr(timestep, self.preset.snr, self.prediction_type)
        return error.mean()

    def _prior_loss(self, ordinary: Ordinary, generator: torch.Generator) -> Tensor:
        """The distance to the predictions of the network without the adapter, on ordinary captions."""
        noisy, timestep, tokens, said = (each.to(self.text_model.device) for each in ordinary.draw(generator))
        text = embeddings(self.text_model, tokens, noisy.shape[2])
        return (self.network(noisy, timestep, text).float() - said).square().mean()


def weighted_error(said: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of each item, B, over weighted pixels. said, target: B C F h w. weights: B 1 F h w."""
    squared = (said - target).square().mean(1, keepdim=True)
    over = (1, 2, 3, 4)
    return (squared * weights).sum(over) / weights.sum(over).clamp(min=1e-6)


def debias(frames: Tensor, anchor: int) -> Tensor:
    """B C F h w without the look of one frame: √(β² + 1) ε − β ε_anchor (MotionDirector, arXiv 2310.08465, eq. 6)."""
    return (DEBIAS**2 + 1) ** 0.5 * frames - DEBIAS * frames[:, :, anchor : anchor + 1]


def min_snr(timestep: Tensor, most: float, prediction_type: str) -> Tensor:
    """Weights B of losses at timesteps B, which count no error of the clean sample more than `most` times.

    Source: Hang et al., arXiv 2303.09556, section 3.4.
    """
    alpha = training_alphas().to(timestep.device)[timestep]
    ratio = alpha / (1 - alpha)
    clipped = ratio.clamp(max=most)
    if prediction_type == SAMPLE:
        return clipped
    return clipped / (ratio if prediction_type == EPSILON else ratio + 1)
