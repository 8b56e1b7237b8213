"""`corrected`: the plain base network continues frames it was never trained to be given.

At each step the known frames are put back at the step's noise level (replacement: Song et al., arXiv 2011.13456,
section 5), which alone leaves a hard seam, since the network's guess for the new frames knows nothing of what the old
ones really are. The guess is therefore corrected by what the known frames prove wrong about it, carried over time by
the clip's own covariance: for Gaussian data exactly E[new | noisy, known], otherwise Tweedie moment projection (Boys et
al., arXiv 2310.06721) with a covariance over time in place of Jacobian products.

`repaint` is the fallback from the literature: no correction, each step taken several times (RePaint, Lugmayr et al.,
arXiv 2201.09865, algorithm 1, with jumps of one step).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from extensions.long_video.strategies.covariance import carry_over
from extensions.long_video.strategies.window_model import Model, Window, denoise_window
from lavie.noise import CONDITION, INITIAL, STEP
from lavie.sampling import Denoised, Predictor, implied_prediction, predicted_clean, training_alphas

STRONGEST = 3.0  # RMS of the known latents; a correction of more is none
REPAINT_PASSES = 4  # of every step; on 50 steps resampling each one beats RePaint's own jumps of ten of 250


@dataclass
class KnownFrames:
    """A predictor that knows what some frames are, around one that does not.

    known: 1 C o h w. places: which of the window's frames they are, ascending. noise: number of the call, from 0 →
    fresh noise like `known`. covariance: F F (see `covariance`), None for replacement alone. strength: 0 … 1 of the
    correction; less than 1 costs continuity, and helps where moving things leave ghosts.
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
        """B C F H W and a timestep → the prediction that leads the known frames to `known` and the others to fit."""
        alpha = training_alphas()[round(float(timestep))].item()
        noised = alpha**0.5 * self.known + (1 - alpha) ** 0.5 * self.noise(self._calls)
        self._calls += 1
        shown = put(sample, noised, self.places)
        clean = predicted_clean(shown, self.predict(shown, timestep), timestep, self.prediction_type)
        if self.covariance is not None:
            new = [place for place in range(sample.shape[2]) if place not in self.places]
            clean = put(clean, clean[:, :, new] + self._correction(clean, alpha), new)
        return implied_prediction(sample, put(clean, self.known, self.places), timestep, self.prediction_type)

    def _correction(self, guess: Tensor, alpha: float) -> Tensor:
        """What the known frames prove wrong about the guess, carried to the new ones: 1 C F−o h w."""
        carried = self.strength * carry_over(self.covariance, alpha, self.places).to(guess)
        correction = torch.einsum("uk,bckhw->bcuhw", carried, self.known - guess[:, :, self.places])
        # Of the known latents: in high noise the guess is next to nothing, and a limit by it would cost contrast.
        limit = STRONGEST * self.known.square().mean().sqrt()
        return correction.clamp(-limit, limit)


def continue_frames(
    model: Model, window: Window, known: Tensor | None, covariance: Tensor | None, strength: float = 1.0
) -> Generator[Denoised, None, tuple[Tensor, dict]]:
    """Make a window that begins with `known`, 1 C o h w, or with nothing. covariance: F F; None repaints.

    Returns:
        latents 1 C F h w, the first o of them `known` itself; and facts, plain values.
    """
    given = {} if known is None else dict(enumerate(known.unbind(2)))
    return (yield from fill_frames(model, window, given, covariance, strength)), {}


def fill_frames(
    model: Model, window: Window, given: Mapping[int, Tensor], covariance: Tensor | None, strength: float = 1.0
) -> Generator[Denoised, None, Tensor]:
    """Make a window around given frames, wherever they are. covariance: F F; None repaints.

    Args:
        given: place in the window → latents 1 C h w.

    Returns:
        latents 1 C F h w, those given themselves at their places.
    """
    predict = model.guided(window.text)
    done = None
    if not given:
        for done in denoise_window(model, window, predict):
            yield done
        return done.latents
    places = sorted(given)
    told = [window.frames[place] for place in places]
    known = torch.stack([given[place] for place in places], dim=2).to(window.text.device)

    def noise(call: int) -> Tensor:
        return window.noise(model.shape, CONDITION, call, frames=told)

    predict = KnownFrames(predict, known, places, noise, model.defaults.prediction_type, covariance, strength)
    steps = repainted(model, window, predict) if covariance is None else denoise_window(model, window, predict)
    for done in steps:
        yield done
    return put(done.latents, known, places)


def put(frames: Tensor, others: Tensor, places: list[int]) -> Tensor:
    """1 C F h w with the frames at `places` replaced by `others`, 1 C o h w."""
    frames = frames.clone()
    frames[:, :, places] = others
    return frames


def repainted(model: Model, window: Window, predict: Predictor) -> Iterator[Denoised]:
    """Ancestral steps (DDIM, η = 1), each but the last pass of a step noised back to where it began."""
    latents = window.noise(model.shape, INITIAL)
    scheduler = model.scheduler(latents.device)
    alphas = [*training_alphas()[scheduler.timesteps.cpu()].tolist(), scheduler.final_alpha_cumprod.item()]
    for index, timestep in enumerate(scheduler.timesteps):
        kept = alphas[index] / alphas[index + 1]  # of the variance, over one step
        for number in range(REPAINT_PASSES):
            if number:
                fresh = window.noise(model.shape, STEP, index, number, "back")
                latents = kept**0.5 * latents + (1 - kept) ** 0.5 * fresh
            sample, prediction = latents, predict(latents, timestep)
            drawn = window.noise(model.shape, STEP, index, number)
            latents = scheduler.step(prediction, timestep, sample, eta=1.0, variance_noise=drawn, return_dict=False)[0]
        yield Denoised(index, latents, predicted_clean(sample, prediction, timestep, model.defaults.prediction_type))
