"""`conditioned`: a network that was trained to be given frames continues them (SEINE, arXiv 2310.20700, section 3.2).

Its input has nine channels: the noisy latents, a mask (0 where a frame is given, 1 where it is to be made), and the
given frames' latents with those of a grey picture in place of the others. It makes all frames of the window, also the
given ones: these are thrown away, but what the network did to them tells what it did to the new ones.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

import torch
from torch import Tensor

from extensions.long_video.strategies.window_model import Model, Window, denoise_window
from lavie.sampling import Denoised

CARRY = 0.7  # share of an error at a frame that its neighbour has too
SANE_GAIN = 0.1  # a gain further than this from 1 is no colour bias but another picture


def continue_frames(
    model: Model, window: Window, known: Tensor | None
) -> Generator[Denoised, None, tuple[Tensor, dict]]:
    """Make a window that begins with `known`.

    Args:
        known: 1 C o h w, latents of the window's first frames; None where nothing is given.

    Returns:
        latents 1 C F h w, the first o of them `known` itself; and facts, plain values.
    """
    given = {} if known is None else dict(enumerate(known.unbind(2)))
    made = yield from fill_frames(model, window, given)
    return calibrated(made, given)


def fill_frames(model: Model, window: Window, given: Mapping[int, Tensor]) -> Generator[Denoised, None, Denoised]:
    """Make a window around given frames: the first ones, the first and the last (a transition), or none.

    Args:
        given: place in the window → latents 1 C h w.

    Returns:
        the last step's: latents 1 C F h w as the network made them, at the given places too.
    """
    beside = conditioning_channels(model, window, given)
    done = None
    for done in denoise_window(model, window, model.guided(window.text, concatenate=beside)):
        yield done
    return done


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


def calibrated(made: Denoised, given: Mapping[int, Tensor]) -> tuple[Tensor, dict]:
    """What `fill_frames` returned, the network's own errors taken out as far as the given frames, which are returned as
    they were, tell them; and facts."""
    if not given:
        return made.latents, {}
    places = sorted(given)
    known = torch.stack([given[place] for place in places], dim=2).to(made.latents)
    # The clean guess of the last step: what noise is left in the latents is akin to `known`, which began from the same.
    gain, offset = overlap_calibration(made.clean[:, :, places], known)
    latents, clean = (
        (frames - _per_channel(offset, frames)) / _per_channel(gain, frames) for frames in (made.latents, made.clean)
    )
    errors = dict(zip(places, (clean[:, :, places] - known).unbind(2), strict=True))
    for place in set(range(latents.shape[2])) - set(places):
        latents[:, :, place] -= _carried(errors, place)
    latents[:, :, places] = known
    step = colour_step(latents, len(places)) if places == list(range(len(places))) else [0.0] * latents.shape[1]
    latents[:, :, len(places) :] -= _per_channel(step, latents)
    return latents, {"gain": gain, "offset": offset, "step": step}


def colour_step(latents: Tensor, known: int) -> list[float]:
    """By how much the whole picture steps from the last known frame to the first new one, per channel: the median over
    the picture, less the same of the known frame before it. 0 where fewer than two are known, or none is new.

    latents: 1 C F h w, of which the first `known` frames are known. What moves covers less than half of a picture, so
    that the median is that of the rest, which goes on as it did.
    """
    if known < 2 or known == latents.shape[2]:
        return [0.0] * latents.shape[1]
    before, last, new = latents[0, :, known - 2 : known + 1].flatten(2).unbind(1)
    return ((new - last).median(1).values - (last - before).median(1).values).tolist()


def _carried(errors: Mapping[int, Tensor], place: int) -> Tensor | float:
    """What the network is likely to have got wrong at a new frame: as at the nearest given ones, less with each frame
    between. So the first new frame differs from the last known one as the network's two frames do."""
    near = [
        max((at for at in errors if at < place), default=None),
        min((at for at in errors if at > place), default=None),
    ]
    return sum(errors[at] * CARRY ** abs(place - at) for at in near if at is not None)


def overlap_calibration(made: Tensor, known: Tensor) -> tuple[list[float], list[float]]:
    """Gain g and offset b by which the network changed frames it was given: made ≈ g·known + b, per channel.

    made and known: 1 C o h w. 1 and 0 where the fit is not sane. A bias of 2 % left standing is 1.37-fold after 16
    segments; taken out of the new frames it cannot add up, and the join stays smooth since both its sides had it.
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
