"""`corrected`: the plain base network continues frames although it was not trained to.

Each step puts the known frames back at the step's noise level (replacement: Song et al., arXiv 2011.13456, section 5).
Alone this leaves a hard seam, because the guess for the new frames ignores the known ones. The error of the guess at
the known frames therefore corrects the new ones, carried over time by the clip's own covariance: for Gaussian data
exactly E[new | noisy, known], otherwise Tweedie moment projection (Boys et al., arXiv 2310.06721) with a covariance
over time in place of Jacobian products.

`repaint` takes each step several times instead of correcting (RePaint, Lugmayr et al., arXiv 2201.09865, algorithm 1,
with jumps of one step).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from extensions.long_video.strategies.window_model import Model, Window, denoise_window, run_steps
from lavie.noise import CONDITION, INITIAL, STEP
from lavie.sampling import Denoised, Predictor, implied_prediction, predicted_clean, training_alphas

STRONGEST = 3.0  # largest correction in RMS of the known latents
REPAINT_PASSES = 4  # of every step; on 50 steps resampling each one beats RePaint's own jumps of ten of 250


@dataclass
class KnownFrames:
    """A predictor that knows some frames, around one that does not.

    Args:
        known: 1 C o h w.
        places: of the known frames in the window, ascending.
        noise: number of the call, from 0 → fresh noise like `known`.
        covariance: F F (`chain.temporal_covariance`); None for replacement alone.
        strength: of the correction, 0 … 1; less costs continuity and helps where moving things leave ghosts.
    """

    predict: Predictor
    known: Tensor
    places: list[int]
    noise: Callable[[int], Tensor]
    prediction_type: str
    covariance: Tensor | None = None
    strength: float = 1.0
    _calls: int = field(default=0, init=False)

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """B C F H W and a timestep → a prediction that leads the known frames to `known` and the others to fit."""
        alpha = training_alphas()[round(float(timestep))].item()
        noised = alpha**0.5 * self.known + (1 - alpha) ** 0.5 * self.noise(self._calls)
        self._calls += 1
        shown = replace_frames(sample, noised, self.places)
        clean = predicted_clean(shown, self.predict(shown, timestep), timestep, self.prediction_type)
        if self.covariance is not None:
            new = [place for place in range(sample.shape[2]) if place not in self.places]
            clean = replace_frames(clean, clean[:, :, new] + self._correction(self.covariance, clean, alpha), new)
        return implied_prediction(
            sample, replace_frames(clean, self.known, self.places), timestep, self.prediction_type
        )

    def _correction(self, covariance: Tensor, guess: Tensor, alpha: float) -> Tensor:
        """The error of the guess at the known frames, carried to the new ones: 1 C F−o h w."""
        carried = self.strength * carry_over(covariance, alpha, self.places).to(guess)
        correction = torch.einsum("uk,bckhw->bcuhw", carried, self.known - guess[:, :, self.places])
        # The guess is small in high noise; a limit relative to it would cost contrast.
        limit = STRONGEST * self.known.square().mean().sqrt()
        return correction.clamp(-limit, limit)


def fill_frames(
    model: Model, window: Window, given: Mapping[int, Tensor], covariance: Tensor | None, strength: float = 1.0
) -> Generator[Denoised, None, Tensor]:
    """Make a window 1 C F h w around given frames at any places, which it keeps.

    given: place in the window → latents 1 C h w. covariance: F F; None repaints.
    """
    predict = model.guided(window.text)
    if not given:
        return (yield from run_steps(denoise_window(model, window, predict))).latents
    places = sorted(given)
    numbers = [window.frames[place] for place in places]
    known = torch.stack([given[place] for place in places], dim=2).to(window.text.device)

    def noise(call: int) -> Tensor:
        return window.noise(model.shape, CONDITION, call, frames=numbers)

    knowing = KnownFrames(predict, known, places, noise, model.defaults.prediction_type, covariance, strength)
    steps = repaint(model, window, knowing) if covariance is None else denoise_window(model, window, knowing)
    return replace_frames((yield from run_steps(steps)).latents, known, places)


def carry_over(covariance: Tensor, alpha: float, known: Sequence[int]) -> Tensor:
    """The weights that carry errors of known frames to unknown ones at noise level ᾱ: (F − o) o, both in order.

    known: o places of the F. Σ = (K⁻¹ + ᾱ/(1 − ᾱ)·1)⁻¹ is the covariance of a pixel's clean values given its noisy
    ones, Σ_uk Σ_kk⁻¹ the regression of the unknown on the known. For still content it is near 1 in high noise and near
    0 in low noise: the layout is inherited, the motion is the network's own.
    """
    known = list(known)
    unknown = [place for place in range(len(covariance)) if place not in known]
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance) + alpha / (1 - alpha) * identity)
    rows = posterior[known]
    return torch.linalg.solve(rows[:, known], rows[:, unknown]).T


def replace_frames(frames: Tensor, others: Tensor, places: list[int]) -> Tensor:
    """1 C F h w with the frames at `places` replaced by `others`, 1 C o h w."""
    frames = frames.clone()
    frames[:, :, places] = others
    return frames


def repaint(model: Model, window: Window, predict: Predictor) -> Iterator[Denoised]:
    """Ancestral steps (DDIM, η = 1); each pass of a step but the last is noised back to where it began."""
    latents = window.noise(model.shape, INITIAL)
    scheduler = model.scheduler(latents.device)
    alphas = [*training_alphas()[scheduler.timesteps.cpu()].tolist(), scheduler.final_alpha_cumprod.item()]
    for index, timestep in enumerate(scheduler.timesteps):
        left = alphas[index] / alphas[index + 1]  # of the variance, over one step
        for number in range(REPAINT_PASSES):
            if number:
                fresh = window.noise(model.shape, STEP, index, number, "back")
                latents = left**0.5 * latents + (1 - left) ** 0.5 * fresh
            sample, prediction = latents, predict(latents, timestep)
            drawn = window.noise(model.shape, STEP, index, number)
            latents = scheduler.step(prediction, timestep, sample, eta=1.0, variance_noise=drawn, return_dict=False)[0]
        yield Denoised(index, latents, predicted_clean(sample, prediction, timestep, model.defaults.prediction_type))
