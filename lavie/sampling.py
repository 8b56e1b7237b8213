"""The noise schedule, the samplers, classifier-free guidance and the denoising loop.

The schedule is LaVie's own, linear betas 1e-4 … 2e-2 over 1000 steps, not that of Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from lavie.layers import TextContext
from lavie.manifest import EPSILON, SAMPLE
from lavie.values import require

TRAIN_STEPS = 1000
BETAS = (1e-4, 2e-2)
SCHEDULE = {"num_train_timesteps": TRAIN_STEPS, "beta_start": BETAS[0], "beta_end": BETAS[1], "beta_schedule": "linear"}

# Noisy latents scaled for the network, and the timestep → the prediction.
Predictor = Callable[[Tensor, Tensor], Tensor]


class RespacedDDIM:
    """DDIM (Song et al., arXiv 2010.02502, eq. 12, η = 0) over an evenly rounded subset of the training steps.

    The published interpolation code spaces its timesteps like this: `round(linspace(0, 999, n))`. Each step leads to
    the next entry of the list, and the last one to no noise at all.
    """

    order, init_noise_sigma = 1, 1.0

    def __init__(self, prediction_type: str):
        self.alphas_cumprod = training_alphas()
        self.prediction_type = prediction_type

    def set_timesteps(self, steps: int, device: torch.device | str | None = None) -> None:
        kept = np.linspace(0, TRAIN_STEPS - 1, steps).round().astype(np.int64)[::-1].copy()
        self.timesteps = torch.from_numpy(kept).to(device)
        alphas = self.alphas_cumprod[torch.from_numpy(kept)]
        self._next_alpha = dict(zip(kept.tolist(), [*alphas[1:].tolist(), 1.0], strict=True))

    def scale_model_input(self, latents: Tensor, timestep: Tensor) -> Tensor:
        return latents

    def step(self, prediction: Tensor, timestep: Tensor, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        clean = predicted_clean(latents, prediction, timestep, self.prediction_type)
        alpha, next_alpha = self.alphas_cumprod[int(timestep)].item(), self._next_alpha[int(timestep)]
        noise = (latents - alpha**0.5 * clean) / (1 - alpha) ** 0.5
        return (next_alpha**0.5 * clean + (1 - next_alpha) ** 0.5 * noise,)


def make_scheduler(sampler: str, prediction_type: str = EPSILON, *, respaced: bool = False) -> Any:
    """A scheduler of diffusers on LaVie's noise schedule, or `RespacedDDIM`.

    Args:
        sampler: `ddpm`, `ddim` and `euler` step as in the published runs (diffusers 0.16: DDPM without a steps offset,
            DDIM with one, Euler over linspace); `dpm++` is DPM-Solver++ 2M, `unipc` UniPC of order 2.
        prediction_type: of the network, one of `PREDICTION_TYPES`.
        respaced: space DDIM's timesteps as the published interpolation code does.
    """
    if sampler == "ddim" and respaced:
        return RespacedDDIM(prediction_type)
    common = SCHEDULE | {"prediction_type": prediction_type}
    build = {
        "ddpm": lambda: DDPMScheduler(**common, clip_sample=False, steps_offset=0, timestep_spacing="leading"),
        "ddim": lambda: DDIMScheduler(
            **common, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        ),
        "euler": lambda: EulerDiscreteScheduler(**common, timestep_spacing="linspace"),
        "dpm++": lambda: DPMSolverMultistepScheduler(**common, timestep_spacing="linspace", final_sigmas_type="zero"),
        "unipc": lambda: UniPCMultistepScheduler(**common, timestep_spacing="linspace", final_sigmas_type="zero"),
    }
    return build[sampler]()


def set_steps(scheduler: Any, steps: int, device: torch.device | str | None = None) -> None:
    """Set the timesteps of a scheduler: `steps` of the 1000, in the spacing of its sampler.

    For all 1000 the spacing is `trailing`: the published offset of DDIM leads past the last step, and the fast samplers
    round two steps to the same one and divide by zero.
    """
    if steps == TRAIN_STEPS and not isinstance(scheduler, RespacedDDIM):
        scheduler.register_to_config(timestep_spacing="trailing")
    scheduler.set_timesteps(steps, device=device)


def training_alphas() -> Tensor:
    """ᾱ of the 1000 training steps, float32: the signal's share of the variance."""
    betas = torch.linspace(*BETAS, TRAIN_STEPS, dtype=torch.float32)
    return torch.cumprod(1 - betas, dim=0)


def add_noise(clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """clean and noise B …, timestep B → the noisy sample (Ho et al., arXiv 2006.11239, eq. 4)."""
    alpha = _alpha_like(clean, timestep)
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise


def training_target(clean: Tensor, noise: Tensor, timestep: Tensor, prediction_type: str) -> Tensor:
    """The noise, the clean sample, or the velocity between them (Salimans & Ho, arXiv 2202.00512, section 4)."""
    if prediction_type == EPSILON:
        return noise
    if prediction_type == SAMPLE:
        return clean
    alpha = _alpha_like(clean, timestep)
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean


def predicted_clean(sample: Tensor, prediction: Tensor, timestep: Tensor, prediction_type: str) -> Tensor:
    """The clean latents that a prediction implies. timestep: one for the whole batch."""
    if prediction_type == SAMPLE:
        return prediction
    alpha = training_alphas()[round(float(timestep))].item()
    if prediction_type == EPSILON:
        return (sample - (1 - alpha) ** 0.5 * prediction) / alpha**0.5
    return alpha**0.5 * sample - (1 - alpha) ** 0.5 * prediction


def implied_prediction(sample: Tensor, clean: Tensor, timestep: Tensor, prediction_type: str) -> Tensor:
    """The inverse of `predicted_clean`: the prediction that implies `clean` at `timestep`."""
    step = torch.tensor([round(float(timestep))], device=sample.device)
    alpha = _alpha_like(sample, step)
    noise = (sample - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    return training_target(clean, noise, step, prediction_type)


def _alpha_like(sample: Tensor, timestep: Tensor) -> Tensor:
    alpha = training_alphas().to(sample.device)[timestep]
    return alpha.view(-1, *[1] * (sample.ndim - 1))


@dataclass
class Guided:
    """Classifier-free guidance around a network (Ho & Salimans, arXiv 2207.12598, eq. 6).

    Args:
        network: called as (sample, timestep, text context, **conditions).
        text: 2B L C, the unconditional half first; B L C of the conditional half where `scale` is 1.
        scale: guidance scale, 1 is off.
        rescale: 0 … 1 (Lin et al., arXiv 2305.08891, section 3.4).
        conditions: further inputs of the network, tensors; repeated for both halves.
        concatenate: B c F H W, channels behind the noisy ones, the same at each step.
        residual_base: B C F H W, to which the prediction is added.
        split_guidance: call the network for one half after the other, with half of the memory.
    """

    network: Callable[..., Tensor]
    text: Tensor
    scale: float = 1.0
    rescale: float = 0.0
    conditions: dict[str, Tensor] | None = None
    concatenate: Tensor | None = None
    residual_base: Tensor | None = None
    split_guidance: bool = False

    def __post_init__(self) -> None:
        self._halves = 2 if self.scale != 1.0 else 1
        self._calls = self._halves if self.split_guidance else 1
        self._contexts = list(map(TextContext, self.text.chunk(self._calls)))
        together = self._halves // self._calls
        self._conditions = {name: torch.cat([value] * together) for name, value in (self.conditions or {}).items()}

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """B C F H W in float32 and a timestep → the guided prediction, of the same shape and type.

        Only the network computes in its own number type; the sums over the steps stay in float32.
        """
        sample = sample.to(self.text.dtype)
        if self.concatenate is not None:
            sample = torch.cat([sample, self.concatenate], dim=1)
        sample = torch.cat([sample] * (self._halves // self._calls))
        calls = (self.network(sample, timestep, context, **self._conditions) for context in self._contexts)
        predictions = [prediction.float() for prediction in calls]
        guided = predictions[0] if self._halves == 1 else self._guided(predictions)
        return guided if self.residual_base is None else self.residual_base + guided

    def _guided(self, predictions: list[Tensor]) -> Tensor:
        unconditional, conditional = predictions if self._calls == 2 else predictions[0].chunk(2)
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.rescale:
            over = tuple(range(1, guided.ndim))
            matched = guided * (conditional.std(over, keepdim=True) / guided.std(over, keepdim=True))
            guided = self.rescale * matched + (1 - self.rescale) * guided
        return guided


class Denoised(NamedTuple):
    """The state after a step: its number from 0, the latents, and the clean latents that the network predicts now."""

    number: int
    latents: Tensor
    clean: Tensor


def denoise(
    predict: Predictor,
    latents: Tensor,
    scheduler: Any,
    prediction_type: str = EPSILON,
    generator_at: Callable[[int], torch.Generator] | None = None,
) -> Iterator[Denoised]:
    """Denoise latents, one step of the scheduler at a time.

    Args:
        latents: standard normal noise B C F H W.
        scheduler: from `make_scheduler`, with timesteps from `set_steps`.
        generator_at: number of the step → the generator of its noise on the CPU, needed by `ddpm` alone.
    """
    latents = latents * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        sample = scheduler.scale_model_input(latents, timestep)
        prediction = predict(sample, timestep)
        draws = {"generator": require(generator_at)(index)} if isinstance(scheduler, DDPMScheduler) else {}
        latents = scheduler.step(prediction, timestep, latents, **draws, return_dict=False)[0]
        yield Denoised(index, latents, predicted_clean(sample, prediction, timestep, prediction_type))
