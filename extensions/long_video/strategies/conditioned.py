"""`conditioned`: a network trained on known frames continues them (SEINE, arXiv 2310.20700, section 3.2).

Its nine input channels are the noisy latents, a mask (0 for known frames, 1 for new ones) and the latents of the known
frames, with those of a grey picture in the other places. It makes all frames of the window. The known frames that it
makes are dropped, but their errors calibrate the new ones.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import torch
from torch import Tensor

from extensions.long_video.strategies.window_model import Model, Window, denoise_window, run_steps
from lavie.sampling import Denoised

CARRY = 0.7  # share of a frame's error that its neighbour has too
SANE_GAIN = 0.1  # a gain further than this from 1 comes from another picture


def fill_frames(
    model: Model, window: Window, given: Mapping[int, Tensor]
) -> Generator[Denoised, None, tuple[Tensor, dict[str, Any]]]:
    """Make a window around given frames: the first, the first and the last (a transition), or none.

    Args:
        given: place in the window → latents 1 C h w.

    Returns:
        latents 1 C F h w with the given frames at their places, see `calibrate`; and facts as plain values.
    """
    return calibrate((yield from denoise_around(model, window, given)), given)


def denoise_around(model: Model, window: Window, given: Mapping[int, Tensor]) -> Generator[Denoised, None, Denoised]:
    """Make a window around given frames; returns the last step, as the network made it at the given places too."""
    beside = conditioning_channels(model, window, given)
    return (yield from run_steps(denoise_window(model, window, model.guided(window.text, concatenate=beside))))


def conditioning_channels(model: Model, window: Window, given: Mapping[int, Tensor]) -> Tensor:
    """The mask and the masked latents, 1 1+C F h w (SEINE, section 3.2 and its published sampling script)."""
    channels, height, width = model.shape
    frames = len(window.frames)
    mask = torch.ones(1, 1, frames, height, width)
    grey = torch.zeros(1, channels, 1, height, width) if model.grey is None else model.grey.to(mask)
    masked = grey.repeat(1, 1, frames, 1, 1)
    for place, latents in given.items():
        mask[:, :, place] = 0
        masked[:, :, place] = latents
    return torch.cat([mask, masked], dim=1).to(window.text)


def calibrate(made: Denoised, given: Mapping[int, Tensor]) -> tuple[Tensor, dict[str, Any]]:
    """The result of `denoise_around` without the network's errors as measured at the given frames; and facts.

    The given frames themselves are returned unchanged.
    """
    if not given:
        return made.latents, {}
    places = sorted(given)
    known = torch.stack([given[place] for place in places], dim=2).to(made.latents)
    # The clean guess of the last step: the noise left in the latents correlates with `known`.
    gain, offset = overlap_calibration(made.clean[:, :, places], known)
    latents, clean = (
        (frames - _per_channel(offset, frames)) / _per_channel(gain, frames) for frames in (made.latents, made.clean)
    )
    errors = dict(zip(places, (clean[:, :, places] - known).unbind(2), strict=True))
    for place in set(range(latents.shape[2])) - set(places):
        latents[:, :, place] -= _carry_error(errors, place)
    latents[:, :, places] = known
    step = colour_step(latents, len(places)) if places == list(range(len(places))) else [0.0] * latents.shape[1]
    latents[:, :, len(places) :] -= _per_channel(step, latents)
    return latents, {"gain": gain, "offset": offset, "step": step}


def colour_step(latents: Tensor, known: int) -> list[float]:
    """By how much the whole picture steps from the last known frame to the first new one, per channel.

    This is the median over the picture, less the same median one frame earlier; 0 with fewer than two known frames or
    no new one. Moving things cover less than half of a picture, so the median is that of the background.

    latents: 1 C F h w, of which the first `known` frames are known.
    """
    if known < 2 or known == latents.shape[2]:
        return [0.0] * latents.shape[1]
    before, last, new = latents[0, :, known - 2 : known + 1].flatten(2).unbind(1)
    return ((new - last).median(1).values - (last - before).median(1).values).tolist()


def _carry_error(errors: Mapping[int, Tensor], place: int) -> Tensor | float:
    """The network's likely error at a new frame: that of the nearest given frames, decaying with the distance."""
    near = [
        max((at for at in errors if at < place), default=None),
        min((at for at in errors if at > place), default=None),
    ]
    return sum(errors[at] * CARRY ** abs(place - at) for at in near if at is not None)


def overlap_calibration(made: Tensor, known: Tensor) -> tuple[list[float], list[float]]:
    """Gain g and offset b by which the network changed known frames: made ≈ g·known + b, per channel.

    made and known: 1 C o h w. Returns 1 and 0 where the fit is not plausible. Uncorrected, a bias of 2 % would grow to
    1.37 over 16 segments.
    """
    made, known = (latents[0].flatten(1).double().cpu() for latents in (made, known))
    means = made.mean(1), known.mean(1)
    centred = known - means[1][:, None]
    gain = ((made - means[0][:, None]) * centred).sum(1) / centred.square().sum(1)
    sane = (gain - 1).abs() <= SANE_GAIN  # not so for a flat channel either, whose gain is 0 / 0
    gain = torch.where(sane, gain, 1.0)
    offset = torch.where(sane, means[0] - gain * means[1], 0.0)
    return gain.tolist(), offset.tolist()


def _per_channel(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
